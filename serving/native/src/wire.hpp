// What all connections of one server share: its methods, its bounds, and the events that Python has not yet taken.
#pragma once

#include "stream.hpp"

#include <deque>
#include <memory>
#include <unordered_map>

struct Session;

constexpr size_t INPUT_BYTES = 256 * 1024;

struct Bounds {
    uint32_t streams_max;
    uint32_t header_bytes_max;
    uint32_t window_bytes;             // of a stream
    uint32_t connection_window_bytes;  // of a connection
    uint32_t frame_bytes_max;
    size_t message_bytes_max;
    size_t queued_bytes_max;  // of one stream's answer before Python is told to wait
    int64_t linger_ns;        // how long what is sent beyond a complete HTTP answer is thrown away before it is stopped
};

// What Python is told, in the order of `serving.native.events`.
enum class EventKind : int { call, open, message, data, end, reset, room, refused, asking_call, dead };

struct Event {
    EventKind kind;
    Session *session;  // a strong reference
    int32_t stream;
    PyObject *method;  // borrowed from the table, or null
    PyObject *payload; // strong, or null
    int64_t deadline_ns;
    PyObject *encoding; // of a compressed message, strong, or null
    bool asks;          // of a call: it is told as an asking one
};

// Events that wait, by number: a stream remembers that of its own, to take it back.
struct EventQueue {
    std::deque<Event> events;
    uint64_t first = 1;  // the number of the one in front

    uint64_t add(const Event &event) {
        events.push_back(event);
        return first + events.size() - 1;
    }
    Event pop_oldest() {
        Event event = events.front();
        events.pop_front();
        first++;
        return event;
    }
    Event pop_newest() {
        Event event = events.back();
        events.pop_back();
        return event;
    }
};

struct Wire {
    PyObject_HEAD
    std::unordered_map<std::string, Method> *methods;
    EventQueue *calls;   // whole unary calls, each independent of all others
    EventQueue *others;  // the rest, whose order matters
    bool expired;        // some method has expired calls that have not been counted yet
    std::vector<Session *> *dirty;  // those that may have something to write; strong references
    std::vector<Stream *> *spare;   // streams to use again
    uint8_t *input;                 // where the transport puts what it reads: one connection at a time
    PyObject *wake;                 // called where events or output are there and were not before
    bool awake;
    int64_t taken_ns;  // when the last turn, all sockets having been read, began to serve what had come
    int64_t served_ns; // and when it had
    Bounds bounds;
};

extern PyTypeObject WireType;

void wire_wake(Wire *wire);
uint64_t wire_add(Wire *wire, Event event);
void wire_kill(Wire *wire, const Stream *stream);
void wire_dirty(Wire *wire, Session *session);
Stream *wire_stream(Wire *wire);
void wire_spare(Wire *wire, Stream *stream);
