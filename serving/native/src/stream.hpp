// One HTTP/2 stream of a server: what has been read of its request and what waits to be written of its answer.
#pragma once

#include "message.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

constexpr int64_t NEVER_NS = std::numeric_limits<int64_t>::max();

// A method of the table, as Python registered it. `unary`: called once, with its one message, when the request is whole.
struct Method {
    PyObject *object;
    bool unary;
    bool tensors;  // its message is a ModelInferRequest: align its first tensor
    uint64_t expired = 0;  // calls that waited past their deadline, since Python last asked
};

// A piece of an answer: bytes of its own, or a Python buffer that is only looked at.
struct Chunk {
    std::string bytes;
    Py_buffer view{};
    bool borrowed = false;

    const uint8_t *data() const {
        return borrowed ? static_cast<const uint8_t *>(view.buf) : reinterpret_cast<const uint8_t *>(bytes.data());
    }
    size_t size() const { return borrowed ? static_cast<size_t>(view.len) : bytes.size(); }
};

// Whether a header of this name says something that Vireo acts on: only of such calls Python looks at the headers, which takes
// longer than most of what it does for a small one.
inline bool asks_for_something(std::string_view name) {
    return name.substr(0, 6) == "vireo-" || name == "traceparent";
}

struct Stream {
    enum class Kind : uint8_t { http, unary, streaming, refused };

    Stream *before = nullptr, *after = nullptr;  // among the open ones of its session
    int32_t id = 0;
    Kind kind = Kind::http;
    Method *method = nullptr;

    // The request's head.
    std::string verb, path, scheme, authority, content_type, encoding;
    std::string fields;       // every header as two lengths (4 bytes each), name, value
    size_t field_bytes = 0;   // as RFC 9113 section 6.5.2 counts them
    size_t held_field_bytes = 0;  // of those that are kept
    int64_t timeout_ns = -1;  // from grpc-timeout; -1 for none
    int64_t deadline_ns = NEVER_NS;
    bool bad_timeout = false;
    bool asks = false;        // a header says something that Vireo acts on: see `asks_for_something`
    int64_t begun_ns = 0;     // when its first bytes had been read

    // Its body, as it arrives.
    uint8_t prefix[5];
    uint8_t prefix_filled = 0;
    bool compressed = false;
    Message *message = nullptr;
    uint64_t messages = 0;
    bool ended = false;    // by the client
    size_t untaken = 0;    // what was handed over and nobody has taken yet: bytes, and PIECE_BYTES for each piece
    std::string backlog;   // what came after too much of that, as it came; the client gets no credit for it
    size_t backlog_at = 0; // where it begins

    // What Python knows of it.
    bool announced = false;
    uint64_t event = 0;  // the number of its waiting call or open event, 0 for none

    // The answer.
    std::vector<Chunk> out;
    size_t out_first = 0, out_offset = 0, out_bytes = 0;
    std::vector<std::pair<std::string, std::string>> trailers;
    bool has_trailers = false;
    bool started = false;   // its head has been submitted
    bool finished = false;  // nothing more will be added
    bool full = false;      // Python waits for room
    int64_t unheard_ns = 0; // since when what comes is thrown away, the answer being complete; 0 for not yet

    void drop_message() {
        Py_CLEAR(message);
        prefix_filled = 0;
    }

    void trim_backlog() {
        if (backlog_at < backlog.size() / 2) return;
        message_budget.used -= backlog_at;
        backlog.erase(0, backlog_at);
        backlog_at = 0;
    }

    void drop_backlog() {
        message_budget.used -= backlog.size();
        std::string().swap(backlog);
        backlog_at = 0;
    }

    void count_out(size_t size) {
        out_bytes += size;
        answer_budget.used += size;
    }

    void drop_out() {
        for (size_t i = out_first; i < out.size(); i++)
            if (out[i].borrowed) PyBuffer_Release(&out[i].view);
        out.clear();
        answer_budget.used -= out_bytes;
        out_first = out_offset = out_bytes = 0;
    }

    // As new, but with the memory its strings and vectors have.
    void reset() {
        drop_message();
        drop_backlog();
        drop_out();
        id = 0, kind = Kind::http, method = nullptr;
        for (auto *text : {&verb, &path, &scheme, &authority, &content_type, &encoding, &fields}) text->clear();
        field_bytes = held_field_bytes = 0, timeout_ns = -1, deadline_ns = NEVER_NS, bad_timeout = asks = false;
        compressed = false, messages = 0, ended = false, untaken = 0;
        announced = false, event = 0;
        trailers.clear();
        has_trailers = started = finished = full = false;
        unheard_ns = 0;
    }

    ~Stream() {
        drop_message();
        drop_backlog();
        drop_out();
    }
};
