// A request message: the one copy of a request's bytes, made as they come off the socket, then only looked at.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstddef>
#include <cstdint>

// How many bytes something may hold in all, over all connections. Guarded by the GIL, as everything here.
struct Budget {
    size_t used;
    size_t limit;

    bool take(size_t size) {
        if (size > limit - used || used > limit) return false;
        used += size;
        return true;
    }
};

// All living messages; each counts itself in and out.
extern Budget message_budget;

// How many bytes of answers wait to be written; likewise.
extern Budget answer_budget;

// Python sees a read-only buffer of `size` bytes. `block` is aligned as malloc aligns (16 bytes); the content starts
// `shift` bytes into it, chosen so that the first tensor in it is aligned too and needs no second copy.
struct Message {
    PyObject_HEAD
    uint8_t *block;
    size_t shift;
    size_t size;      // announced
    size_t filled;    // arrived
    size_t capacity;  // of `block`
};

extern PyTypeObject MessageType;

// A message of `size` bytes, none of which is in it yet; `at_hand` are about to be. Null where the budget or memory is
// exhausted (no Python error set).
Message *message_new(size_t size, size_t shift, size_t at_hand);

// Takes in what has arrived; memory grows with it, so that a client cannot claim what it never sends. False where the
// budget or memory is exhausted.
bool message_append(Message *message, const uint8_t *data, size_t length);

inline const uint8_t *message_data(const Message *message) { return message->block + message->shift; }
