// What the server sends.
#include "session.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace {

constexpr size_t HEAD_BYTES = 9;
constexpr size_t KNOWN_MAX = 8;

struct Frame {
    uint8_t kind, flags;
    uint32_t stream;
    const uint8_t *payload;
    size_t size, whole;  // `whole`: with its padding
};

uint32_t number_at(const uint8_t *data) {
    return static_cast<uint32_t>(data[0]) << 24 | static_cast<uint32_t>(data[1]) << 16 | static_cast<uint32_t>(data[2]) << 8 | data[3];
}

bool wrong_size(const Frame &frame) {
    PyErr_Format(PyExc_ValueError, "a frame of kind %d has %zu bytes, which it cannot have", frame.kind, frame.size);
    return false;
}

bool hear(PyObject *heard, Exchange *exchange) { return PyList_Append(heard, reinterpret_cast<PyObject *>(exchange)) == 0; }

// Ends a call of which nothing more comes; takes over the reference.
bool finish(State &state, Exchange *exchange, PyObject *heard) {
    exchange->ended = true;
    if (exchange->body != nullptr) {  // answered before it was asked in full: the rest is not wanted
        Py_CLEAR(exchange->body);
        put_number(state.out, RST_STREAM, exchange->id, CANCEL);
    }
    bool fine = hear(heard, exchange);
    Py_DECREF(exchange);
    return fine;
}

// Lets more of a large answer come, up to the bound. False where it is over.
bool let_come(State &state, Exchange *exchange, bool last) {
    size_t half = static_cast<size_t>(state.bounds.stream_window_bytes / 2);
    if (exchange->size > state.bounds.message_bytes_max) return false;
    if (exchange->size - exchange->credited >= half && !last) {
        put_number(state.out, WINDOW_UPDATE, exchange->id, static_cast<uint32_t>(exchange->size - exchange->credited));
        exchange->credited = exchange->size;
    }
    return true;
}

bool too_large(State &state, Exchange *exchange, PyObject *heard) {
    Exchange *taken = take_out(state, exchange->id);
    put_number(state.out, RST_STREAM, exchange->id, CANCEL);
    taken->ended = taken->is_reset = true;
    taken->reset = TOO_LARGE;
    Py_CLEAR(taken->message);
    bool fine = hear(heard, taken);
    Py_DECREF(taken);
    return fine;
}

bool on_data(State &state, const Frame &frame, PyObject *heard) {
    state.unread += static_cast<int64_t>(frame.whole);
    if (state.unread >= state.bounds.connection_window_bytes / 2) {
        put_number(state.out, WINDOW_UPDATE, 0, static_cast<uint32_t>(state.unread));
        state.unread = 0;
    }
    Exchange *exchange = find(state, frame.stream);
    if (exchange == nullptr) return true;  // reset by us
    bool last = frame.flags & END_STREAM;
    exchange->size += frame.whole;
    if (!exchange_takes(exchange, frame.payload, frame.size)) return false;
    if (exchange->live) {
        if (!hear(heard, exchange)) return false;
    } else if (exchange->size >= static_cast<size_t>(state.bounds.stream_window_bytes / 2) && !let_come(state, exchange, last)) {
        return too_large(state, exchange, heard);
    }
    return !last || finish(state, take_out(state, frame.stream), heard);
}

bool is_text(PyObject *fields, const char *name, const char *value) {
    PyObject *found = PyDict_GetItemString(fields, name);
    return found != nullptr && PyUnicode_Check(found) && PyUnicode_CompareWithASCIIString(found, value) == 0;
}

// The fields of a block, borrowed; null with an exception set. The reader may run anything, other calls of this session too.
const KnownHeaders *fields_of(Session *session, const uint8_t *block, size_t size) {
    State &state = *session->state;
    for (const auto &each : state.known)
        if (each.block.size() == size && std::memcmp(each.block.data(), block, size) == 0) return &each;
    PyObject *key = PyBytes_FromStringAndSize(reinterpret_cast<const char *>(block), static_cast<Py_ssize_t>(size));
    PyObject *fields = key == nullptr ? nullptr : PyObject_GetItem(session->reader, key);
    if (fields == nullptr || !PyDict_Check(fields)) {
        if (fields != nullptr) PyErr_SetString(PyExc_TypeError, "the reader of headers gives no dict");
        Py_XDECREF(key), Py_XDECREF(fields);
        return nullptr;
    }
    if (state.known.size() >= KNOWN_MAX) {
        Py_DECREF(state.known.front().fields);
        state.known.erase(state.known.begin());
    }
    state.known.push_back({std::string(PyBytes_AS_STRING(key), size), fields, is_text(fields, ":status", "200"),
                           is_text(fields, "grpc-status", "0")});
    Py_DECREF(key);
    return &state.known.back();
}

bool on_block(Session *session, uint32_t stream, const uint8_t *block, size_t size, bool last, PyObject *heard) {
    const KnownHeaders *found = fields_of(session, block, size);
    if (found == nullptr) return false;
    State &state = *session->state;
    Exchange *exchange = find(state, stream);
    if (exchange == nullptr) return true;
    if (!last) {
        exchange->began_well = found->status_200;
        Py_XSETREF(exchange->headers, Py_NewRef(found->fields));
        return true;
    }
    exchange->ok = found->grpc_ok;
    PyObject *fields = nullptr;
    if (exchange->began_well || exchange->headers == nullptr) {
        fields = Py_NewRef(found->fields);
    } else if ((fields = PyDict_Copy(exchange->headers)) == nullptr || PyDict_Update(fields, found->fields) < 0) {
        Py_XDECREF(fields);
        return false;
    }
    Py_XSETREF(exchange->headers, fields);
    return finish(state, take_out(state, stream), heard);
}

bool on_headers(Session *session, const Frame &frame, PyObject *heard) {
    State &state = *session->state;
    if (frame.flags & END_HEADERS) return on_block(session, frame.stream, frame.payload, frame.size, frame.flags & END_STREAM, heard);
    state.block_open = true;  // what is left of the block comes in frames of its own
    state.block_stream = frame.stream;
    state.block_last = frame.flags & END_STREAM;
    state.block.assign(reinterpret_cast<const char *>(frame.payload), frame.size);
    return true;
}

bool on_continuation(Session *session, const Frame &frame, PyObject *heard) {
    State &state = *session->state;
    if (!state.block_open) return true;
    if (state.block.size() + frame.size > state.bounds.frame_bytes_max) {
        PyErr_SetString(PyExc_ValueError, "a header block without end");
        return false;
    }
    state.block.append(reinterpret_cast<const char *>(frame.payload), frame.size);
    if (!(frame.flags & END_HEADERS)) return true;
    state.block_open = false;
    std::string block = std::move(state.block);
    return on_block(session, state.block_stream, reinterpret_cast<const uint8_t *>(block.data()), block.size(), state.block_last, heard);
}

bool on_settings(State &state, const Frame &frame) {
    if (frame.flags & ACK) return true;
    if (frame.size % 6 != 0) return wrong_size(frame);
    for (size_t at = 0; at < frame.size; at += 6) {
        uint32_t key = static_cast<uint32_t>(frame.payload[at]) << 8 | frame.payload[at + 1], value = number_at(frame.payload + at + 2);
        if (key == INITIAL_WINDOW) {
            for (Exchange *each : state.under_way) each->window += static_cast<int64_t>(value) - state.stream_window;
            state.stream_window = value;
        } else if (key == FRAME_SIZE) {
            state.frame_bytes = std::min<size_t>(value, state.bounds.frame_bytes_max);
        } else if (key == CONCURRENT_MAX) {
            state.streams_max = std::min<size_t>(value, state.bounds.streams_max);
        }
    }
    state.out.put_frame(SETTINGS, ACK, 0, 0);
    pump(state);
    return true;
}

bool on_window(State &state, const Frame &frame) {
    if (frame.size != 4) return wrong_size(frame);
    int64_t more = number_at(frame.payload) & 0x7FFFFFFF;
    if (frame.stream == 0) {
        state.window += more;
    } else if (Exchange *exchange = find(state, frame.stream)) {
        exchange->window += more;
    }
    if (!state.blocked.empty()) pump(state);
    return true;
}

bool on_reset(State &state, const Frame &frame, PyObject *heard) {
    if (frame.size != 4) return wrong_size(frame);
    Exchange *exchange = take_out(state, frame.stream);
    if (exchange == nullptr) return true;
    exchange->ended = exchange->is_reset = true;
    exchange->reset = static_cast<long>(number_at(frame.payload));
    exchange->unprocessed = exchange->reset == REFUSED;
    bool fine = hear(heard, exchange);
    Py_DECREF(exchange);
    return fine;
}

bool on_goaway(State &state, const Frame &frame, PyObject *heard) {
    if (frame.size < 4) return wrong_size(frame);
    state.closing = true;
    uint32_t last = number_at(frame.payload) & 0x7FFFFFFF;
    std::vector<Exchange *> back;
    while (!state.under_way.empty() && state.under_way.back()->id > last) {
        back.push_back(state.under_way.back());
        state.under_way.pop_back();
    }
    bool fine = true;
    for (auto each = back.rbegin(); each != back.rend(); ++each) {
        (*each)->ended = (*each)->unprocessed = true;
        fine = fine && hear(heard, *each);
        Py_DECREF(*each);
    }
    return fine;
}

bool unpad(Frame &frame) {
    size_t start = 0, stop = frame.size;
    if (frame.flags & PADDED) {
        size_t padding = frame.size == 0 ? 0 : frame.payload[0];
        start = 1;
        stop = padding > stop ? 0 : stop - padding;
    }
    if (frame.kind == HEADERS && frame.flags & PRIORITY) start += 5;
    if (start > stop) {
        PyErr_SetString(PyExc_ValueError, "a frame has more padding than content");
        return false;
    }
    frame.payload += start;
    frame.size = stop - start;
    return true;
}

bool on_frame(Session *session, Frame &frame, PyObject *heard) {
    State &state = *session->state;
    if (frame.kind <= HEADERS && frame.flags & (PADDED | PRIORITY) && !unpad(frame)) return false;
    switch (frame.kind) {
        case DATA: return on_data(state, frame, heard);
        case HEADERS: return on_headers(session, frame, heard);
        case CONTINUATION: return on_continuation(session, frame, heard);
        case RST_STREAM: return on_reset(state, frame, heard);
        case SETTINGS: return on_settings(state, frame);
        case GOAWAY: return on_goaway(state, frame, heard);
        case WINDOW_UPDATE: return on_window(state, frame);
        case PING:
            if (!(frame.flags & ACK)) {
                state.out.put_frame(PING, ACK, 0, frame.size);
                state.out.put(frame.payload, frame.size);
            }
            return true;
        default: return true;
    }
}

}  // namespace

bool parse(Session *session, PyObject *heard) {
    State &state = *session->state;
    while (state.in_end - state.in_at >= HEAD_BYTES) {
        const uint8_t *head = state.in.data() + state.in_at;
        size_t size = static_cast<size_t>(head[0]) << 16 | static_cast<size_t>(head[1]) << 8 | head[2];
        if (size > state.bounds.frame_bytes_max) {
            PyErr_Format(PyExc_ValueError, "a frame of %zu bytes, at most %u were allowed", size, state.bounds.frame_bytes_max);
            return false;
        }
        if (state.in_end - state.in_at < HEAD_BYTES + size) break;
        Frame frame = {head[3], head[4], number_at(head + 5), head + HEAD_BYTES, size, size};
        state.in_at += HEAD_BYTES + size;
        if (!on_frame(session, frame, heard)) return false;
    }
    if (state.in_at == state.in_end) state.in_at = state.in_end = 0;
    return true;
}
