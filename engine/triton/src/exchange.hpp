// One call on a connection of a client.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstddef>
#include <cstdint>

constexpr size_t PREFIX_BYTES = 5;  // of a gRPC message: whether it is compressed, and its length

struct Exchange {
    PyObject_HEAD
    uint32_t id;
    int64_t window;    // bytes that may be sent before the server lets more
    PyObject *owner;
    PyObject *headers; // a dict: of the answer's beginning, then of its end; null before
    bool live;         // each message is wanted as it comes
    bool ended;
    bool unprocessed;  // the server said that it did nothing for it
    bool began_well;   // HTTP's status says so
    bool ok;           // it has ended, and well
    bool is_reset;
    long reset;
    PyObject *body;    // of the request, where flow control holds some of it back
    size_t body_at;
    size_t size;       // bytes of content that came, padding included
    size_t credited;
    PyObject *parts;   // a list: what came of a live call and was not taken; null before the first
    // Of any other call the one message, put together as it comes.
    uint8_t prefix[PREFIX_BYTES];
    size_t prefix_size;
    PyObject *message;
    size_t message_size;
    size_t content_size;
};

extern PyTypeObject ExchangeType;

Exchange *new_exchange(uint32_t id, PyObject *owner, int64_t window, bool live);
bool exchange_takes(Exchange *exchange, const uint8_t *data, size_t size);
PyObject *exchange_taken(Exchange *exchange);
