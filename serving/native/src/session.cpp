#include "session.hpp"

#include "answer.hpp"
#include "infer.hpp"
#include "input.hpp"

#include <cstring>

namespace {

constexpr int PREFIX_BYTES = 5;
constexpr size_t OUTPUT_FRAMES_PER_STREAM = 8;
constexpr uint64_t RESETS_MAX = 10000, RESETS_PER_S = 1000;  // that a client may send: each costs little

Session *session_of(PyObject *self) { return reinterpret_cast<Session *>(self); }

Stream *find(Session *session, int32_t id) {
    if (session->http2 == nullptr) return nullptr;
    auto *stream = static_cast<Stream *>(nghttp2_session_get_stream_user_data(session->http2, id));
    return stream == nullptr || stream->finished ? nullptr : stream;
}

// Reading.

PyObject *get_buffer(PyObject *self, PyObject *) {
    auto *session = session_of(self);
    return PyMemoryView_FromMemory(reinterpret_cast<char *>(session->wire->input), INPUT_BYTES, PyBUF_WRITE);
}

bool feed(Session *session, const uint8_t *data, size_t length) {
    if (session->http2 == nullptr || session->failed) return true;
    session->received_ns = monotonic_ns();
    ssize_t taken = nghttp2_session_mem_recv(session->http2, data, length);
    if (taken < 0) {
        session->failed = true;
        if (taken == NGHTTP2_ERR_NOMEM) return PyErr_NoMemory() != nullptr;
        uint32_t code = taken == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR;
        nghttp2_session_terminate_session(session->http2, code);
    }
    if (nghttp2_session_get_outbound_queue_size(session->http2) > session->wire->bounds.streams_max * OUTPUT_FRAMES_PER_STREAM) {
        session->failed = true;  // it asks and does not read
        nghttp2_session_terminate_session(session->http2, NGHTTP2_ENHANCE_YOUR_CALM);
    }
    if (session->failed || nghttp2_session_want_write(session->http2) || !nghttp2_session_want_read(session->http2))
        wire_dirty(session->wire, session);
    return !PyErr_Occurred();
}

PyObject *buffer_updated(PyObject *self, PyObject *argument) {
    auto *session = session_of(self);
    Py_ssize_t length = PyLong_AsSsize_t(argument);
    if (length < 0 || static_cast<size_t>(length) > INPUT_BYTES) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "more bytes than the buffer has");
        return nullptr;
    }
    if (!feed(session, session->wire->input, static_cast<size_t>(length))) return nullptr;
    Py_RETURN_NONE;
}

PyObject *receive(PyObject *self, PyObject *argument) {
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE) < 0) return nullptr;
    bool fed = feed(session_of(self), static_cast<const uint8_t *>(view.buf), static_cast<size_t>(view.len));
    PyBuffer_Release(&view);
    if (!fed) return nullptr;
    Py_RETURN_NONE;
}

// Calls `take` with name and value of each header that is kept, until it says false; whether it never did.
template <typename Take>
bool each_header(const Stream *stream, Take take) {
    const char *at = stream->fields.data(), *end = at + stream->fields.size();
    while (at < end) {
        uint32_t name_size, value_size;
        std::memcpy(&name_size, at, 4);
        std::memcpy(&value_size, at + 4, 4);
        at += 8;
        if (!take(std::string_view(at, name_size), std::string_view(at + name_size, value_size))) return false;
        at += name_size + value_size;
    }
    return true;
}

Py_ssize_t size_of(std::string_view text) { return static_cast<Py_ssize_t>(text.size()); }

PyObject *headers(PyObject *self, PyObject *argument) {
    long id = PyLong_AsLong(argument);
    if (id == -1 && PyErr_Occurred()) return nullptr;
    PyObject *list = PyList_New(0);
    Stream *stream = find(session_of(self), static_cast<int32_t>(id));
    if (list == nullptr || stream == nullptr) return list;
    bool complete = each_header(stream, [list](std::string_view name, std::string_view value) {
        PyObject *pair = Py_BuildValue("(y#y#)", name.data(), size_of(name), value.data(), size_of(value));
        bool appended = pair != nullptr && PyList_Append(list, pair) == 0;
        Py_XDECREF(pair);
        return appended;
    });
    if (!complete) Py_CLEAR(list);
    return list;
}

PyObject *asked(PyObject *self, PyObject *argument) {
    long id = PyLong_AsLong(argument);
    if (id == -1 && PyErr_Occurred()) return nullptr;
    PyObject *found = PyDict_New();
    Stream *stream = find(session_of(self), static_cast<int32_t>(id));
    if (found == nullptr || stream == nullptr) return found;
    bool complete = each_header(stream, [found](std::string_view name, std::string_view value) {
        if (!asks_for_something(name) && name != "tracestate") return true;
        PyObject *key = PyUnicode_DecodeLatin1(name.data(), size_of(name), nullptr);
        PyObject *text = PyUnicode_DecodeLatin1(value.data(), size_of(value), nullptr);
        bool added = key != nullptr && text != nullptr && PyDict_SetItem(found, key, text) == 0;
        Py_XDECREF(key);
        Py_XDECREF(text);
        return added;
    });
    if (!complete) Py_CLEAR(found);
    return found;
}

PyObject *target(PyObject *self, PyObject *argument) {
    long id = PyLong_AsLong(argument);
    if (id == -1 && PyErr_Occurred()) return nullptr;
    Stream *stream = find(session_of(self), static_cast<int32_t>(id));
    if (stream == nullptr) Py_RETURN_NONE;
    auto bytes = [](const std::string &text) { return PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())); };
    return Py_BuildValue("(NNNN)", bytes(stream->verb), bytes(stream->scheme), bytes(stream->authority), bytes(stream->path));
}

PyObject *taken(PyObject *self, PyObject *arguments) {
    int id;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "in", &id, &size)) return nullptr;
    auto *session = session_of(self);
    Stream *stream = find(session, id);
    if (stream != nullptr) take_credit(session, stream, static_cast<size_t>(size));
    Py_RETURN_NONE;
}

// Answering gRPC.

std::string message_prefix(size_t size) {
    std::string out(PREFIX_BYTES, '\0');
    for (int i = 0; i < 4; i++) out[1 + i] = static_cast<char>(size >> (24 - 8 * i));
    return out;
}

bool add_message(Stream *stream, PyObject *buffer) {
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0) return false;
    size_t size = static_cast<size_t>(view.len);
    PyBuffer_Release(&view);
    if (!has_room(size)) return false;
    add_bytes(stream, message_prefix(size));
    return add_buffer(stream, buffer);
}

PyObject *respond(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    if (count != 2) return PyErr_Format(PyExc_TypeError, "respond takes 2 arguments, got %zd", count);
    auto *session = session_of(self);
    Stream *stream = find(session, static_cast<int32_t>(PyLong_AsLong(arguments[0])));
    if (stream == nullptr) Py_RETURN_FALSE;
    if (!add_message(stream, arguments[1])) return nullptr;
    finish_grpc(session, stream, 0, "");
    Py_RETURN_TRUE;
}

void put_field(std::string &out, char tag, const char *data, size_t size) {
    out.push_back(tag);
    put_varint(out, size);
    out.append(data, size);
}

// The parts of a ModelInferResponse before its first raw content: head, and the id where there is one.
bool response_head(std::string &out, PyObject *head, PyObject *id) {
    constexpr char id_tag = 3 << 3 | 2;
    Py_ssize_t id_size;
    const char *text = PyUnicode_AsUTF8AndSize(id, &id_size);
    if (text == nullptr || !PyBytes_Check(head)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "the head of a response is bytes");
        return false;
    }
    out.append(PyBytes_AS_STRING(head), static_cast<size_t>(PyBytes_GET_SIZE(head)));
    if (id_size != 0) put_field(out, id_tag, text, static_cast<size_t>(id_size));
    return true;
}

PyObject *respond_infer(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    constexpr char raw_tag = 6 << 3 | 2;
    if (count < 3) return PyErr_Format(PyExc_TypeError, "respond_infer takes at least 3 arguments, got %zd", count);
    auto *session = session_of(self);
    Stream *stream = find(session, static_cast<int32_t>(PyLong_AsLong(arguments[0])));
    if (stream == nullptr) return PyLong_FromLong(0);
    std::string head;
    if (!response_head(head, arguments[1], arguments[2])) return nullptr;
    std::vector<std::string> tags;
    size_t size = head.size();
    for (Py_ssize_t i = 3; i < count; i++) {
        Py_buffer view;
        if (PyObject_GetBuffer(arguments[i], &view, PyBUF_SIMPLE) < 0) return nullptr;
        std::string tag(1, raw_tag);
        put_varint(tag, static_cast<uint64_t>(view.len));
        size += tag.size() + static_cast<size_t>(view.len);
        PyBuffer_Release(&view);
        tags.push_back(std::move(tag));
    }
    if (size > session->wire->bounds.message_bytes_max) return PyLong_FromSize_t(size);
    if (!has_room(size)) return nullptr;
    add_bytes(stream, message_prefix(size));
    add_bytes(stream, head);
    for (Py_ssize_t i = 3; i < count; i++) {
        add_bytes(stream, tags[i - 3]);
        if (!add_buffer(stream, arguments[i])) return nullptr;
    }
    finish_grpc(session, stream, 0, "");
    return PyLong_FromSize_t(size);
}

PyObject *send(PyObject *self, PyObject *arguments) {
    int id;
    PyObject *buffer;
    if (!PyArg_ParseTuple(arguments, "iO", &id, &buffer)) return nullptr;
    auto *session = session_of(self);
    Stream *stream = find(session, id);
    if (stream == nullptr) Py_RETURN_TRUE;  // nobody listens: there is always room
    if (!add_message(stream, buffer)) return nullptr;
    push_grpc(session, stream);
    stream->full = stream->out_bytes > session->wire->bounds.queued_bytes_max;
    return PyBool_FromLong(!stream->full);
}

bool add_trailers(Stream *stream, PyObject *pairs) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pairs); i++) {
        const char *name, *value;
        Py_ssize_t name_size, value_size;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(pairs, i), "y#y#", &name, &name_size, &value, &value_size)) return false;
        stream->trailers.emplace_back(std::string(name, static_cast<size_t>(name_size)), std::string(value, static_cast<size_t>(value_size)));
    }
    return true;
}

PyObject *trail(PyObject *self, PyObject *arguments) {
    int id;
    PyObject *trailers;
    if (!PyArg_ParseTuple(arguments, "iO!", &id, &PyList_Type, &trailers)) return nullptr;
    Stream *stream = find(session_of(self), id);
    if (stream == nullptr || stream->has_trailers) Py_RETURN_FALSE;
    if (!add_trailers(stream, trailers)) return nullptr;
    Py_RETURN_TRUE;
}

PyObject *begun_ns(PyObject *self, PyObject *argument) {
    long id = PyLong_AsLong(argument);
    if (id == -1 && PyErr_Occurred()) return nullptr;
    Stream *stream = find(session_of(self), static_cast<int32_t>(id));
    return PyLong_FromLongLong(stream == nullptr ? 0 : stream->begun_ns);
}

PyObject *finish(PyObject *self, PyObject *arguments) {
    int id, code;
    const char *message;
    Py_ssize_t message_size;
    PyObject *trailers;
    if (!PyArg_ParseTuple(arguments, "iis#O!", &id, &code, &message, &message_size, &PyList_Type, &trailers)) return nullptr;
    auto *session = session_of(self);
    Stream *stream = find(session, id);
    if (stream == nullptr) Py_RETURN_FALSE;
    if (!add_trailers(stream, trailers)) return nullptr;
    finish_grpc(session, stream, code, std::string(message, static_cast<size_t>(message_size)));
    Py_RETURN_TRUE;
}

// Answering plain HTTP.

PyObject *http_head(PyObject *self, PyObject *arguments) {
    int id, status;
    PyObject *headers;
    if (!PyArg_ParseTuple(arguments, "iiO!", &id, &status, &PyList_Type, &headers)) return nullptr;
    auto *session = session_of(self);
    Stream *stream = find(session, id);
    if (stream != nullptr && !stream->started && !answer_http(session, stream, status, headers)) return nullptr;
    Py_RETURN_NONE;
}

PyObject *http_body(PyObject *self, PyObject *arguments) {
    int id, more;
    PyObject *buffer;
    if (!PyArg_ParseTuple(arguments, "iOp", &id, &buffer, &more)) return nullptr;
    auto *session = session_of(self);
    Stream *stream = find(session, id);
    if (stream == nullptr) Py_RETURN_TRUE;
    Py_ssize_t size = PyObject_Length(buffer);
    if (size < 0 || !has_room(static_cast<size_t>(size)) || !add_buffer(stream, buffer)) return nullptr;
    stream->finished = !more;
    if (!more) forget_input(session, stream);
    push_grpc(session, stream);
    stream->full = more && stream->out_bytes > session->wire->bounds.queued_bytes_max;
    return PyBool_FromLong(!stream->full);
}

PyObject *reset(PyObject *self, PyObject *arguments) {
    int id;
    unsigned int code;
    if (!PyArg_ParseTuple(arguments, "iI", &id, &code)) return nullptr;
    auto *session = session_of(self);
    Stream *stream = find(session, id);
    if (stream != nullptr) {
        stream->finished = true;
        nghttp2_submit_rst_stream(session->http2, NGHTTP2_FLAG_NONE, id, code);
        wire_dirty(session->wire, session);
    }
    Py_RETURN_NONE;
}

// The connection.

PyObject *output(PyObject *self, PyObject *) {
    auto *session = session_of(self);
    if (session->http2 == nullptr) Py_RETURN_NONE;
    return take_output(session);
}

PyObject *ping(PyObject *self, PyObject *) {
    auto *session = session_of(self);
    if (session->http2 != nullptr) {
        nghttp2_submit_ping(session->http2, NGHTTP2_FLAG_NONE, nullptr);
        wire_dirty(session->wire, session);
    }
    Py_RETURN_NONE;
}

// First the client is only told that the end is near; what it sent before it knew is still served.
PyObject *announce_end(PyObject *self, PyObject *) {
    auto *session = session_of(self);
    if (session->http2 != nullptr) {
        nghttp2_submit_shutdown_notice(session->http2);
        wire_dirty(session->wire, session);
    }
    Py_RETURN_NONE;
}

PyObject *end(PyObject *self, PyObject *) {
    auto *session = session_of(self);
    if (session->http2 != nullptr) {
        int32_t last = nghttp2_session_get_last_proc_stream_id(session->http2);
        nghttp2_submit_goaway(session->http2, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0);
        wire_dirty(session->wire, session);
    }
    Py_RETURN_NONE;
}

PyObject *expire_calls(PyObject *self, PyObject *argument) {
    int64_t now = PyLong_AsLongLong(argument);
    if (PyErr_Occurred()) return nullptr;
    expire(session_of(self), now);
    Py_RETURN_NONE;
}

PyObject *lost(PyObject *self, PyObject *) {
    auto *session = session_of(self);
    while (session->open != nullptr) stream_gone(session, session->open, NGHTTP2_CANCEL);
    if (session->http2 != nullptr) nghttp2_session_del(session->http2);
    session->http2 = nullptr;
    Py_RETURN_NONE;
}

PyObject *get_streams(PyObject *self, void *) { return PyLong_FromUnsignedLong(session_of(self)->streams); }

PyObject *get_over(PyObject *self, void *) {
    auto *session = session_of(self);
    if (session->http2 == nullptr || session->failed) Py_RETURN_TRUE;
    return PyBool_FromLong(!nghttp2_session_want_read(session->http2) && !nghttp2_session_want_write(session->http2));
}

PyObject *get_received_ns(PyObject *self, void *) { return PyLong_FromLongLong(session_of(self)->received_ns); }

PyObject *get_queued(PyObject *self, void *) {
    size_t bytes = 0;
    for (Stream *stream = session_of(self)->open; stream != nullptr; stream = stream->after) bytes += stream->out_bytes;
    return PyLong_FromSize_t(bytes);
}

// Its life.

nghttp2_session_callbacks *callbacks() {
    static nghttp2_session_callbacks *made = nullptr;
    if (made == nullptr) {
        nghttp2_session_callbacks_new(&made);
        set_input_callbacks(made);
        set_answer_callbacks(made);
    }
    return made;
}

bool open_http2(Session *session) {
    nghttp2_option *option;
    if (nghttp2_option_new(&option) != 0) return false;
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_stream_reset_rate_limit(option, RESETS_MAX, RESETS_PER_S);
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(option, 1);  // as grpc's own server
    int error = nghttp2_session_server_new2(&session->http2, callbacks(), session, option);
    nghttp2_option_del(option);
    if (error != 0) return false;
    const Bounds &bounds = session->wire->bounds;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, UINT32_MAX},  // first, see put_streams_max
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, bounds.window_bytes},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, bounds.frame_bytes_max},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, bounds.header_bytes_max},
    };
    nghttp2_submit_settings(session->http2, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof *settings);
    nghttp2_session_set_local_window_size(session->http2, NGHTTP2_FLAG_NONE, 0, static_cast<int32_t>(bounds.connection_window_bytes));
    return true;
}

PyObject *make(PyTypeObject *type, PyObject *arguments, PyObject *) {
    PyObject *wire = PyTuple_GET_SIZE(arguments) > 0 ? PyTuple_GET_ITEM(arguments, 0) : Py_None;
    if (!PyObject_TypeCheck(wire, &WireType)) return PyErr_Format(PyExc_TypeError, "Session takes a Wire first");
    auto *session = reinterpret_cast<Session *>(type->tp_alloc(type, 0));
    if (session == nullptr) return nullptr;
    Py_INCREF(wire);
    session->wire = reinterpret_cast<Wire *>(wire);
    if (!open_http2(session)) {
        Py_DECREF(session);
        return PyErr_NoMemory();
    }
    return reinterpret_cast<PyObject *>(session);
}

void dealloc(PyObject *self) {
    auto *session = session_of(self);
    while (session->open != nullptr) {  // too late to tell anybody
        Stream *stream = session->open;
        session_unlink(session, stream);
        delete stream;
    }
    if (session->http2 != nullptr) nghttp2_session_del(session->http2);
    Py_XDECREF(session->output);
    Py_XDECREF(session->wire);
    Py_TYPE(self)->tp_free(self);
}

PyMethodDef methods[] = {
    {"get_buffer", reinterpret_cast<PyCFunction>(get_buffer), METH_O, "See asyncio.BufferedProtocol."},
    {"buffer_updated", buffer_updated, METH_O, "See asyncio.BufferedProtocol."},
    {"receive", receive, METH_O, "receive(data) takes in what the client sent."},
    {"headers", headers, METH_O, "headers(stream) -> list of (name, value) in bytes, without pseudo-headers."},
    {"asked", asked, METH_O, "asked(stream) -> dict of the headers that Vireo acts on: those that begin with vireo-, and traces."},
    {"target", target, METH_O, "target(stream) -> (method, scheme, authority, path) in bytes; None where it is gone."},
    {"taken", taken, METH_VARARGS, "taken(stream, size): so many bytes of its events have been used up."},
    {"respond", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(respond)), METH_FASTCALL,
     "respond(stream, message) -> whether anybody was there. The whole answer of a unary call."},
    {"respond_infer", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(respond_infer)), METH_FASTCALL,
     "respond_infer(stream, head, id, *raws) -> bytes of the ModelInferResponse of these parts; where these are more than\n"
     "a message may have, nothing is sent. 0 where nobody is there."},
    {"send", send, METH_VARARGS, "send(stream, message) -> whether there is room for more; if not, a `room` event says when."},
    {"trail", trail, METH_VARARGS,
     "trail(stream, trailers) -> whether anybody was there. Metadata that will follow the answer, whichever that is."},
    {"begun_ns", begun_ns, METH_O, "begun_ns(stream) -> when its first bytes had been read, on the monotonic clock; 0 where it is gone."},
    {"finish", finish, METH_VARARGS, "finish(stream, code, text, trailers) -> whether anybody was there."},
    {"http_head", http_head, METH_VARARGS, "http_head(stream, status, headers)"},
    {"http_body", http_body, METH_VARARGS, "http_body(stream, data, more) -> as `send`."},
    {"reset", reset, METH_VARARGS, "reset(stream, error code)"},
    {"output", output, METH_NOARGS, "output() -> bytes to write now, or None."},
    {"ping", ping, METH_NOARGS, "ping() asks for a sign of life."},
    {"announce_end", announce_end, METH_NOARGS, "announce_end() asks the client to send no more requests."},
    {"end", end, METH_NOARGS, "end() refuses requests from now on."},
    {"expire", expire_calls, METH_O, "expire(now_ns) ends the calls whose deadline passed before their request was complete."},
    {"lost", lost, METH_NOARGS, "lost(): the connection is gone; open streams end with `reset` events."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"streams", get_streams, nullptr, "How many streams are open.", nullptr},
    {"over", get_over, nullptr, "Whether nothing more will come of this connection.", nullptr},
    {"received_ns", get_received_ns, nullptr, "When bytes last arrived, on the monotonic clock; 0 before the first.", nullptr},
    {"queued", get_queued, nullptr, "Bytes of answers that wait to be written.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyTypeObject make_type() {
    PyTypeObject type = {PyVarObject_HEAD_INIT(nullptr, 0)};
    type.tp_name = "serving.native._wire.Session";
    type.tp_basicsize = sizeof(Session);
    type.tp_new = make;
    type.tp_dealloc = dealloc;
    type.tp_methods = methods;
    type.tp_getset = properties;
    type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE;
    type.tp_doc = "One HTTP/2 connection of a server, without its socket. Not thread-safe.";
    return type;
}

}  // namespace

PyTypeObject SessionType = make_type();

void session_link(Session *session, Stream *stream) {
    stream->before = nullptr;
    stream->after = session->open;
    if (session->open != nullptr) session->open->before = stream;
    session->open = stream;
    session->streams++;
}

void session_unlink(Session *session, Stream *stream) {
    (stream->before == nullptr ? session->open : stream->before->after) = stream->after;
    if (stream->after != nullptr) stream->after->before = stream->before;
    session->streams--;
}
