// What a connection has still to send.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

class Output {
  public:
    ~Output() { clear(); }

    void put(const void *data, size_t size);              // copied
    void put(PyObject *bytes, size_t at, size_t size);    // held, unless it is small
    void put_frame(uint8_t kind, uint8_t flags, uint32_t stream, size_t size);  // the head of one
    bool empty() const { return pieces.empty(); }
    // What the socket takes now; false where that is not all. A broken one takes all. `socket` is -1 once it is closed, which may
    // happen while the interpreter is let go of: its number may be another's then.
    bool send(const int &socket);
    PyObject *take();       // all of it, as bytes
    void clear();

  private:
    struct Piece {
        std::string own;
        PyObject *held = nullptr;
        const char *data = nullptr;  // of `held`
        size_t size = 0;
        bool sealed = false;  // it is being sent

        const char *begin() const { return held == nullptr ? own.data() : data; }
        size_t length() const { return held == nullptr ? own.size() : size; }
    };

    std::string &tail();
    void sent(size_t size);
    void drop_first();
    std::deque<Piece> pieces;
    size_t begun = 0;      // bytes of the first piece that were sent
    bool sending = false;  // by a thread that let go of the interpreter
    std::string spare;     // keeps its memory from one call to the next
};
