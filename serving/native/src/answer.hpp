// What a client is sent: heads, bodies and trailers into nghttp2, frames out of it.
#pragma once

#include "session.hpp"

void set_answer_callbacks(nghttp2_session_callbacks *callbacks);

// Whether answers may hold `size` more bytes; if not, with a Python error set.
bool has_room(size_t size);

// Adds a piece to the body; a Python buffer is looked at until it has been written, or copied where it is small. False
// with a Python error set.
void add_bytes(Stream *stream, const char *data, size_t size);
inline void add_bytes(Stream *stream, const std::string &bytes) { add_bytes(stream, bytes.data(), bytes.size()); }
bool add_buffer(Stream *stream, PyObject *buffer);

// Lets nghttp2 know that the body has grown, or sends the head of a gRPC answer where it was not sent yet.
void push_grpc(Session *session, Stream *stream);

// Ends a gRPC answer with a status; trailers-only where nothing was sent yet. `message` is percent-encoded here.
void finish_grpc(Session *session, Stream *stream, int code, const std::string &message);

// The head of a plain HTTP answer; `headers` is a list of (name, value) in bytes. False with a Python error set.
bool answer_http(Session *session, Stream *stream, int status, PyObject *headers);

// Everything that may be written now, as bytes; None where that is nothing. At most some 256 KiB at once.
PyObject *take_output(Session *session);
