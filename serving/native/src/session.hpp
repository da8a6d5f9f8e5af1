// One HTTP/2 connection of a server, without its socket: bytes in, events out; answers in, bytes out. gRPC's framing is
// done here, so that Python sees whole messages. RFC 9113, and "gRPC over HTTP2" of the gRPC documentation.
#pragma once

#include "wire.hpp"

#include "nghttp2/nghttp2.h"

#include <ctime>
#include <vector>

struct Session {
    PyObject_HEAD
    Wire *wire;
    nghttp2_session *http2;
    PyObject *output;             // bytes being filled, null between calls of `take_output`
    size_t output_size;
    Stream *open;         // the streams that are open now
    uint32_t streams;     // how many those are
    bool dirty;           // waits in wire->dirty
    bool failed;          // of no more use: write what is left and close
    int64_t received_ns;  // when bytes last arrived
    uint32_t idle_frames; // frames in a row that asked for nothing
    int64_t idle_since_ns;
    size_t held_field_bytes;  // headers of the open streams
    bool greeted;         // its SETTINGS have been written
};

extern PyTypeObject SessionType;

inline int64_t monotonic_ns() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

void session_link(Session *session, Stream *stream);
void session_unlink(Session *session, Stream *stream);
