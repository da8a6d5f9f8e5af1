// What a client sends: nghttp2's callbacks, turned into events.
#pragma once

#include "session.hpp"

void set_input_callbacks(nghttp2_session_callbacks *callbacks);

// `stream` is closed, by whomever: whoever works on it is told, and it is freed.
void stream_gone(Session *session, Stream *stream, uint32_t error);

// The answer of `stream` is complete: nobody wants what it has brought, but it may bring more.
void forget_input(Session *session, Stream *stream);

// Calls whose deadline passed before their request was complete end.
void expire(Session *session, int64_t now_ns);

// Python has taken a piece of `size` bytes of what `stream` brought: the client may send more.
void take_credit(Session *session, Stream *stream, size_t size);
