// What a client sends: nghttp2's callbacks, turned into events.
#include "input.hpp"

#include "answer.hpp"
#include "infer.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace {

// gRPC status codes that are decided here.
constexpr int INVALID_ARGUMENT = 3, DEADLINE_EXCEEDED = 4, RESOURCE_EXHAUSTED = 8, UNIMPLEMENTED = 12, INTERNAL = 13;
constexpr size_t FIELD_OVERHEAD = 32;               // RFC 9113 section 6.5.2
constexpr size_t HEADER_FOLDS_MAX = 16;             // so many times the allowed headers, and it is an attack
constexpr size_t HEADER_SHARES_MAX = 128;           // as much as so many requests may have, all of a connection may have
constexpr uint32_t IDLE_FRAMES_MAX = 10000;         // frames that ask for nothing, in a row and in IDLE_SPAN_NS
constexpr int64_t BUSY_GAP_NS = 2'000'000;         // what is read so soon after a turn may have come during it
constexpr int64_t IDLE_SPAN_NS = 10'000'000'000;
constexpr size_t PIECE_BYTES = 32 * 1024;           // what a piece that waits counts for besides its bytes: 64 may wait
constexpr size_t ALIGNMENT = 16;                    // what malloc gives and numpy asks for at most
constexpr const char *NO_MEMORY = "the server holds as many bytes of messages as it may";

Session *session_of(void *user) { return static_cast<Session *>(user); }

Stream *stream_of(nghttp2_session *http2, int32_t id) {
    return static_cast<Stream *>(nghttp2_session_get_stream_user_data(http2, id));
}

Event event_of(EventKind kind, Session *session, const Stream *stream, PyObject *payload) {
    PyObject *method = stream->method == nullptr ? nullptr : stream->method->object;
    return Event{kind, session, stream->id, method, payload, NEVER_NS, nullptr, false};
}

// Ends the request with a status, whatever else it brings. Python counts it and sends the answer.
void refuse(Session *session, Stream *stream, int code, const char *format, ...) {
    if (stream->kind == Stream::Kind::refused || stream->finished) return;
    stream->kind = Stream::Kind::refused;
    stream->drop_message();
    stream->drop_backlog();
    va_list values;
    va_start(values, format);
    PyObject *text = PyUnicode_FromFormatV(format, values);
    va_end(values);
    if (text == nullptr) {  // a path that is not UTF-8
        PyErr_Clear();
        text = PyUnicode_FromString("not a valid request");
    }
    stream->announced = true;
    wire_add(session->wire, event_of(EventKind::refused, session, stream, Py_BuildValue("(iN)", code, text)));
}

// Pings, settings and the like are answered patiently, unless they come by the thousands.
bool asked_too_often(Session *session) {
    if (session->received_ns - session->idle_since_ns > IDLE_SPAN_NS) {
        session->idle_since_ns = session->received_ns;
        session->idle_frames = 0;
    }
    return ++session->idle_frames > IDLE_FRAMES_MAX;
}

int calm_down(nghttp2_session *http2) {
    nghttp2_session_terminate_session(http2, NGHTTP2_ENHANCE_YOUR_CALM);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

int on_begin_headers(nghttp2_session *http2, const nghttp2_frame *frame, void *user) {
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    Session *session = session_of(user);
    if (session->streams >= session->wire->bounds.streams_max) {  // nghttp2 would end the connection
        nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
        return asked_too_often(session) ? calm_down(http2) : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    Stream *stream = wire_stream(session->wire);
    stream->id = frame->hd.stream_id;
    stream->begun_ns = session->received_ns;
    nghttp2_session_set_stream_user_data(http2, stream->id, stream);
    session_link(session, stream);
    return 0;
}

void put_size(std::string &out, size_t size) {
    uint32_t value = static_cast<uint32_t>(size);
    out.append(reinterpret_cast<const char *>(&value), sizeof value);
}

int64_t unit_ns(char unit) {
    switch (unit) {
        case 'H': return 3600'000'000'000;
        case 'M': return 60'000'000'000;
        case 'S': return 1'000'000'000;
        case 'm': return 1'000'000;
        case 'u': return 1'000;
        case 'n': return 1;
        default: return -1;
    }
}

// "TimeoutValue TimeoutUnit", at most 8 digits; -1 where it is not that, NEVER_NS where it is more than the clock has.
int64_t parse_timeout(std::string_view text) {
    if (text.size() < 2 || text.size() > 9) return -1;
    int64_t value = 0;
    for (char digit : text.substr(0, text.size() - 1)) {
        if (digit < '0' || digit > '9') return -1;
        value = value * 10 + (digit - '0');
    }
    int64_t unit = unit_ns(text.back());
    if (unit < 0) return -1;
    return value > NEVER_NS / unit ? NEVER_NS : value * unit;
}

// The member of `stream` that a header goes to, or null.
std::string *slot(Stream *stream, std::string_view name) {
    switch (name.size()) {
        case 5: return name == ":path" ? &stream->path : nullptr;
        case 7: return name == ":method" ? &stream->verb : name == ":scheme" ? &stream->scheme : nullptr;
        case 10: return name == ":authority" ? &stream->authority : nullptr;
        case 12: return name == "content-type" ? &stream->content_type : nullptr;
        case 13: return name == "grpc-encoding" ? &stream->encoding : nullptr;
        default: return nullptr;
    }
}

// Counts a header that is to be kept. Named in the table of headers, a few bytes are thousands, on every stream.
bool hold_field(Session *session, Stream *stream, size_t size) {
    if (session->held_field_bytes + size > session->wire->bounds.header_bytes_max * HEADER_SHARES_MAX) return false;
    session->held_field_bytes += size;
    stream->held_field_bytes += size;
    return true;
}

int on_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name, size_t name_size, const uint8_t *value,
              size_t value_size, uint8_t, void *user) {
    Stream *stream = stream_of(http2, frame->hd.stream_id);
    if (stream == nullptr) return 0;
    stream->field_bytes += name_size + value_size + FIELD_OVERHEAD;
    size_t bytes_max = session_of(user)->wire->bounds.header_bytes_max;
    if (stream->field_bytes > bytes_max * HEADER_FOLDS_MAX) return calm_down(http2);
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST || stream->field_bytes > bytes_max) return 0;
    if (!hold_field(session_of(user), stream, name_size + value_size)) {
        nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_REFUSED_STREAM);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    std::string_view key(reinterpret_cast<const char *>(name), name_size);
    std::string_view content(reinterpret_cast<const char *>(value), value_size);
    if (std::string *found = slot(stream, key)) found->assign(content);
    if (asks_for_something(key)) stream->asks = true;
    if (key == "grpc-timeout") {
        stream->timeout_ns = parse_timeout(content);
        stream->bad_timeout = stream->timeout_ns < 0;
    }
    if (name_size != 0 && name[0] != ':') {
        put_size(stream->fields, name_size);
        put_size(stream->fields, value_size);
        stream->fields.append(key).append(content);
    }
    return 0;
}

bool is_grpc(const std::string &content_type) {
    constexpr std::string_view GRPC = "application/grpc";
    if (content_type.compare(0, GRPC.size(), GRPC) != 0) return false;
    return content_type.size() == GRPC.size() || content_type[GRPC.size()] == '+' || content_type[GRPC.size()] == ';';
}

void open_call(Session *session, Stream *stream) {
    auto found = session->wire->methods->find(stream->path);
    if (found == session->wire->methods->end()) {
        refuse(session, stream, UNIMPLEMENTED, "unknown method '%.200s'", stream->path.c_str());
        return;
    }
    stream->method = &found->second;
    stream->kind = found->second.unary ? Stream::Kind::unary : Stream::Kind::streaming;
    if (stream->bad_timeout) refuse(session, stream, INVALID_ARGUMENT, "grpc-timeout is not at most 8 digits and a unit of HMSmun");
}

// A client's clock runs from when it sent, ours from when we read, and in between a request waits in the socket for as long as the
// turn before takes. That turn's whole length is assumed, else a busy server answers what is too late by as much; but never more
// than half of what the client gives, for it may have sent just now.
int64_t deadline_of(const Session *session, const Stream *stream) {
    if (stream->timeout_ns < 0 || stream->timeout_ns > NEVER_NS - session->received_ns) return NEVER_NS;
    const Wire *wire = session->wire;
    int64_t unread_ns = 0;
    if (session->received_ns - wire->served_ns < BUSY_GAP_NS)
        unread_ns = std::clamp<int64_t>(session->received_ns - wire->taken_ns, 0, stream->timeout_ns / 2);
    return session->received_ns + stream->timeout_ns - unread_ns;
}

// In the form of all errors of HTTP.
void refuse_head(Session *session, Stream *stream) {
    std::string bytes_max = std::to_string(session->wire->bounds.header_bytes_max);
    if (stream->verb != "HEAD")
        add_bytes(stream, R"({"error": "request head: more than )" + bytes_max + R"( bytes", "code": "RESOURCE_EXHAUSTED"})");
    stream->finished = true;
    PyObject *headers = Py_BuildValue("[(yy)]", "content-type", "application/json");
    if (headers == nullptr || !answer_http(session, stream, 431, headers)) PyErr_Clear();
    Py_XDECREF(headers);
}

void head_complete(Session *session, Stream *stream) {
    const Bounds &bounds = session->wire->bounds;
    bool grpc = stream->verb == "POST" && is_grpc(stream->content_type);
    if (stream->field_bytes > bounds.header_bytes_max && !grpc) {
        refuse_head(session, stream);
        return;
    }
    stream->deadline_ns = deadline_of(session, stream);
    if (stream->field_bytes > bounds.header_bytes_max) {
        refuse(session, stream, RESOURCE_EXHAUSTED, "request headers: %zu bytes, at most %u are allowed", stream->field_bytes,
               bounds.header_bytes_max);
    } else if (grpc) {
        open_call(session, stream);
    }
    if (stream->kind == Stream::Kind::streaming || stream->kind == Stream::Kind::http) {
        Event event = event_of(EventKind::open, session, stream, nullptr);
        event.deadline_ns = stream->deadline_ns;
        stream->event = wire_add(session->wire, event);
    }
}

// The encoding of a compressed message, as an event carries it; null with the request refused where there is none.
PyObject *encoding_of(Session *session, Stream *stream) {
    if (stream->encoding.empty() || stream->encoding == "identity") {
        refuse(session, stream, INTERNAL, "a message is marked as compressed, but grpc-encoding names no compression");
        return nullptr;
    }
    return PyUnicode_DecodeLatin1(stream->encoding.data(), static_cast<Py_ssize_t>(stream->encoding.size()), nullptr);
}

void announce_message(Session *session, Stream *stream, EventKind kind) {
    Event event = event_of(kind, session, stream, nullptr);
    if (stream->compressed && (event.encoding = encoding_of(session, stream)) == nullptr) return;
    event.payload = reinterpret_cast<PyObject *>(stream->message);
    event.deadline_ns = stream->deadline_ns;
    stream->message = nullptr;
    stream->prefix_filled = 0;
    event.asks = stream->asks;
    uint64_t number = wire_add(session->wire, event);
    if (kind == EventKind::call) stream->event = number;
}

// All of the request has been looked at.
void input_complete(Session *session, Stream *stream) {
    bool cut = stream->prefix_filled != 0 && (stream->message == nullptr || stream->message->filled < stream->message->size);
    if (stream->kind == Stream::Kind::refused) return;
    if (cut) {
        refuse(session, stream, INVALID_ARGUMENT, "the request ends in the middle of a message");
    } else if (stream->kind == Stream::Kind::unary) {
        if (stream->message == nullptr) refuse(session, stream, UNIMPLEMENTED, "a unary method takes one message, got none");
        else announce_message(session, stream, EventKind::call);
    } else {
        wire_add(session->wire, event_of(EventKind::end, session, stream, nullptr));
    }
}

void input_ended(Session *session, Stream *stream) {
    stream->ended = true;
    if (stream->backlog.empty()) input_complete(session, stream);
}

bool begin_message(Session *session, Stream *stream, const uint8_t *following, size_t length) {
    const uint8_t *prefix = stream->prefix;
    size_t size = static_cast<size_t>(prefix[1]) << 24 | prefix[2] << 16 | prefix[3] << 8 | prefix[4];
    size_t size_max = session->wire->bounds.message_bytes_max;
    if (prefix[0] > 1) {
        refuse(session, stream, INTERNAL, "a message begins with the flag %d, which means nothing", prefix[0]);
        return false;
    }
    if (size > size_max) {
        refuse(session, stream, RESOURCE_EXHAUSTED, "message larger than max (%zu vs. %zu bytes; server.message_bytes_max)", size, size_max);
        return false;
    }
    size_t raw = stream->method->tensors ? first_raw_offset(following, std::min(length, size)) : 0;
    stream->compressed = prefix[0] == 1;
    stream->message = message_new(size, (ALIGNMENT - raw % ALIGNMENT) % ALIGNMENT, length);
    if (stream->message == nullptr) refuse(session, stream, RESOURCE_EXHAUSTED, NO_MEMORY);
    return stream->message != nullptr;
}

void message_complete(Session *session, Stream *stream) {
    stream->messages++;
    if (stream->kind != Stream::Kind::streaming) return;  // a unary call begins when its request has ended
    stream->untaken += stream->message->size + PIECE_BYTES;
    announce_message(session, stream, EventKind::message);
}

// Takes the prefix of a message, or some of its content, off what is at `data`.
void deframe_next(Session *session, Stream *stream, const uint8_t *&data, const uint8_t *end) {
    if (stream->prefix_filled < sizeof stream->prefix) {
        stream->prefix[stream->prefix_filled++] = *data++;
        if (stream->prefix_filled < sizeof stream->prefix) return;
        if (!begin_message(session, stream, data, static_cast<size_t>(end - data))) return;
    } else if (stream->message->filled == stream->message->size) {
        refuse(session, stream, UNIMPLEMENTED, "a unary method takes one message, got more");
        return;
    }
    size_t taken = std::min(static_cast<size_t>(end - data), stream->message->size - stream->message->filled);
    if (!message_append(stream->message, data, taken)) {
        refuse(session, stream, RESOURCE_EXHAUSTED, NO_MEMORY);
        return;
    }
    data += taken;
    if (stream->message->filled == stream->message->size) message_complete(session, stream);
}

// Whether as much waits for Python as may.
bool is_behind(const Session *session, const Stream *stream) {
    return stream->untaken > session->wire->bounds.window_bytes / 2;
}

// Takes gRPC's length-prefixed messages apart, up to where more would wait for Python than may; how far that is.
size_t deframe(Session *session, Stream *stream, const uint8_t *data, size_t length) {
    const uint8_t *end = data + length;
    while (data != end && stream->kind != Stream::Kind::refused && !is_behind(session, stream)) deframe_next(session, stream, data, end);
    return stream->kind == Stream::Kind::refused ? length : length - static_cast<size_t>(end - data);
}

// Passes `length` bytes of a request on; how many of them, where more would wait for Python than may.
size_t pass_on(Session *session, Stream *stream, const uint8_t *data, size_t length) {
    if (stream->kind != Stream::Kind::http) return deframe(session, stream, data, length);
    if (is_behind(session, stream)) return 0;
    PyObject *bytes = PyBytes_FromStringAndSize(reinterpret_cast<const char *>(data), static_cast<Py_ssize_t>(length));
    if (bytes == nullptr) return 0;
    stream->untaken += length + PIECE_BYTES;
    wire_add(session->wire, event_of(EventKind::data, session, stream, bytes));
    return length;
}

// Keeps what could not be passed on.
void keep(Session *session, Stream *stream, const uint8_t *data, size_t length) {
    if (!message_budget.take(length)) {
        refuse(session, stream, RESOURCE_EXHAUSTED, NO_MEMORY);
        return;
    }
    stream->backlog.append(reinterpret_cast<const char *>(data), length);
}

// Takes what still comes when an HTTP answer is complete, until patience ends.
void throw_away(Session *session, Stream *stream) {
    if (stream->unheard_ns == 0) stream->unheard_ns = session->received_ns;
    bool sent = nghttp2_session_get_stream_local_close(session->http2, stream->id) == 1;
    if (sent && session->received_ns - stream->unheard_ns > session->wire->bounds.linger_ns)
        nghttp2_submit_rst_stream(session->http2, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
}

// The credit of the connection is given back at once, lest one slow reader stop all its streams; that of a stream when
// its bytes have been passed on.
int on_data(nghttp2_session *http2, uint8_t, int32_t id, const uint8_t *data, size_t length, void *user) {
    Session *session = session_of(user);
    Stream *stream = stream_of(http2, id);
    session->idle_frames = 0;
    nghttp2_session_consume_connection(http2, length);
    size_t passed = length;
    if (stream != nullptr && stream->kind != Stream::Kind::refused && !stream->finished) {
        passed = stream->backlog.empty() ? pass_on(session, stream, data, length) : 0;
        if (PyErr_Occurred()) return NGHTTP2_ERR_CALLBACK_FAILURE;
        if (passed < length) keep(session, stream, data + passed, length - passed);
    } else if (stream != nullptr && stream->kind == Stream::Kind::http) {
        throw_away(session, stream);
    }
    nghttp2_session_consume_stream(http2, id, passed);
    return 0;
}

// Passes on what was kept.
void catch_up(Session *session, Stream *stream) {
    size_t left = stream->backlog.size() - stream->backlog_at;
    size_t passed = pass_on(session, stream, reinterpret_cast<const uint8_t *>(stream->backlog.data()) + stream->backlog_at, left);
    nghttp2_session_consume_stream(session->http2, stream->id, passed);
    wire_dirty(session->wire, session);
    stream->backlog_at += passed;
    if (passed < left) {
        stream->trim_backlog();
        return;
    }
    stream->drop_backlog();
    if (stream->ended) input_complete(session, stream);
}

bool asks_for_nothing(const nghttp2_frame *frame) {
    if (frame->hd.type == NGHTTP2_DATA) return frame->hd.length == 0 && !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    return frame->hd.type != NGHTTP2_HEADERS;
}

int on_frame(nghttp2_session *http2, const nghttp2_frame *frame, void *user) {
    Session *session = session_of(user);
    if (asks_for_nothing(frame) && asked_too_often(session)) return nghttp2_session_terminate_session(http2, NGHTTP2_ENHANCE_YOUR_CALM);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    Stream *stream = stream_of(http2, frame->hd.stream_id);
    if (stream == nullptr) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        session->idle_frames = 0;
        head_complete(session, stream);
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) input_ended(session, stream);
    return 0;
}

int on_stream_close(nghttp2_session *http2, int32_t id, uint32_t error, void *user) {
    Session *session = session_of(user);
    Stream *stream = stream_of(http2, id);
    if (stream == nullptr) return 0;
    nghttp2_session_set_stream_user_data(http2, id, nullptr);
    stream_gone(session, stream, error);
    return 0;
}

}  // namespace

void set_input_callbacks(nghttp2_session_callbacks *callbacks) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}

void stream_gone(Session *session, Stream *stream, uint32_t error) {
    session_unlink(session, stream);
    session->held_field_bytes -= stream->held_field_bytes;
    if (stream->event != 0) wire_kill(session->wire, stream);
    else if (stream->announced && !stream->finished)
        wire_add(session->wire, event_of(EventKind::reset, session, stream, PyLong_FromUnsignedLong(error)));
    wire_spare(session->wire, stream);
}

void take_credit(Session *session, Stream *stream, size_t size) {
    stream->untaken -= std::min(size + PIECE_BYTES, stream->untaken);
    if (!stream->backlog.empty() && stream->untaken <= session->wire->bounds.window_bytes / 4) catch_up(session, stream);
}

void forget_input(Session *session, Stream *stream) {
    nghttp2_session_consume_stream(session->http2, stream->id, stream->backlog.size() - stream->backlog_at);
    stream->drop_backlog();
}

void expire(Session *session, int64_t now_ns) {
    for (Stream *stream = session->open; stream != nullptr; stream = stream->after)
        if (stream->kind == Stream::Kind::unary && stream->event == 0 && !stream->announced && stream->deadline_ns <= now_ns)
            refuse(session, stream, DEADLINE_EXCEEDED, "deadline passed before the request was complete");
}
