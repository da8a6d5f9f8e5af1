#include "session.hpp"

#include <structmember.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>

namespace {

constexpr char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr size_t READ_BYTES_FIRST = 16 * 1024;
constexpr size_t ALONE_BYTES_MIN = 64 * 1024;  // a read that may be so long lets others have the interpreter
constexpr uint32_t STREAM_ID_LAST = 1u << 30;

Session *session_of(PyObject *self) { return reinterpret_cast<Session *>(self); }

void put_big_endian(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++) to[i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

void greet(State &state) {
    const std::pair<uint16_t, uint32_t> told[] = {
        {HEADER_TABLE_SIZE, 0},
        {ENABLE_PUSH, 0},
        {INITIAL_WINDOW, static_cast<uint32_t>(state.bounds.stream_window_bytes)},
        {FRAME_SIZE, state.bounds.frame_bytes_max},
    };
    state.out.put(PREFACE, sizeof PREFACE - 1);
    state.out.put_frame(SETTINGS, 0, 0, 6 * (sizeof told / sizeof *told));
    for (const auto &each : told) {
        uint8_t entry[6] = {static_cast<uint8_t>(each.first >> 8), static_cast<uint8_t>(each.first)};
        put_big_endian(entry + 2, each.second);
        state.out.put(entry, sizeof entry);
    }
    put_number(state.out, WINDOW_UPDATE, 0, static_cast<uint32_t>(state.bounds.connection_window_bytes));
}

bool send_out(Session *session) {
    if (session->socket < 0 || session->state->out.empty()) return true;
    bool wants_write = !session->state->out.send(session->socket), newly = wants_write && !session->wants_write;
    session->wants_write = wants_write;
    if (!newly) return true;
    PyObject *done = PyObject_CallNoArgs(session->blocked);
    Py_XDECREF(done);
    return done != nullptr;
}

// Calls.

PyObject *begin(Session *session, PyObject *block, PyObject *body, PyObject *owner, bool live) {
    State &state = *session->state;
    Exchange *exchange = new_exchange(state.next_id, owner, state.stream_window, live);
    if (exchange == nullptr) return nullptr;
    if (state.next_id >= STREAM_ID_LAST) state.closing = true;
    state.next_id += 2;
    state.under_way.push_back(reinterpret_cast<Exchange *>(Py_NewRef(reinterpret_cast<PyObject *>(exchange))));
    size_t of_block = static_cast<size_t>(PyBytes_GET_SIZE(block)), length = static_cast<size_t>(PyBytes_GET_SIZE(body));
    state.out.put_frame(HEADERS, END_HEADERS, exchange->id, of_block);
    state.out.put(PyBytes_AS_STRING(block), of_block);
    auto needed = static_cast<int64_t>(length);
    if (needed <= state.window && needed <= exchange->window && length <= state.frame_bytes) {
        state.window -= needed;
        exchange->window -= needed;
        state.out.put_frame(DATA, END_STREAM, exchange->id, length);
        state.out.put(body, 0, length);
    } else {
        exchange->body = Py_NewRef(body);
        state.blocked.push_back(reinterpret_cast<Exchange *>(Py_NewRef(reinterpret_cast<PyObject *>(exchange))));
        pump(state);
    }
    return reinterpret_cast<PyObject *>(exchange);
}

PyObject *send_call(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
    Session *session = session_of(self);
    bool live = false;
    if (names != nullptr && PyTuple_GET_SIZE(names) == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "live") == 0)
        live = PyObject_IsTrue(arguments[count]) == 1;
    else if (names != nullptr && PyTuple_GET_SIZE(names) != 0)
        return PyErr_Format(PyExc_TypeError, "send knows one name only: live");
    if (count != 3 || !PyBytes_Check(arguments[0]) || !PyBytes_Check(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "send takes a block of headers and a body, both bytes, and an owner");
    State &state = *session->state;
    if (state.closing || state.under_way.size() >= state.streams_max) {
        PyErr_SetString(session->unavailable, "the connection to the server takes no call now");
        return nullptr;
    }
    return begin(session, arguments[0], arguments[1], arguments[2], live);
}

PyObject *flush(PyObject *self, PyObject *) {
    if (!send_out(session_of(self))) return nullptr;
    Py_RETURN_NONE;
}

Exchange *exchange_given(PyObject *given) {
    if (Py_IS_TYPE(given, &ExchangeType)) return reinterpret_cast<Exchange *>(given);
    PyErr_SetString(PyExc_TypeError, "that is no exchange of a compiled session");
    return nullptr;
}

PyObject *reset(PyObject *self, PyObject *given) {
    Session *session = session_of(self);
    Exchange *exchange = exchange_given(given);
    if (exchange == nullptr) return nullptr;
    Exchange *taken = find(*session->state, exchange->id) == exchange ? take_out(*session->state, exchange->id) : nullptr;
    if (taken != nullptr) {
        taken->ended = true;
        put_number(session->state->out, RST_STREAM, taken->id, CANCEL);
        Py_DECREF(taken);
    }
    return flush(self, nullptr);
}

PyObject *take(PyObject *self, PyObject *given) {
    Session *session = session_of(self);
    Exchange *exchange = exchange_given(given);
    PyObject *taken = exchange == nullptr ? nullptr : exchange_taken(exchange);
    if (taken == nullptr) return nullptr;
    auto size = static_cast<uint32_t>(PyBytes_GET_SIZE(taken));
    if (size != 0 && find(*session->state, exchange->id) == exchange) put_number(session->state->out, WINDOW_UPDATE, exchange->id, size);
    if (!send_out(session)) Py_CLEAR(taken);
    return taken;
}

// What comes.

// Room behind what is there; bytes that were read are moved to the front first.
void make_room(State &state, size_t room) {
    if (state.in_at != 0) {
        std::memmove(state.in.data(), state.in.data() + state.in_at, state.in_end - state.in_at);
        state.in_end -= state.in_at;
        state.in_at = 0;
    }
    if (state.in.size() - state.in_end < room) state.in.resize(state.in_end + room);
}

PyObject *heard_of(Session *session) {
    PyObject *heard = PyList_New(0);
    if (heard == nullptr) return nullptr;
    if (!parse(session, heard) || !send_out(session)) Py_CLEAR(heard);
    return heard;
}

PyObject *read(PyObject *self, PyObject *) {
    Session *session = session_of(self);
    State &state = *session->state;
    if (session->socket < 0) Py_RETURN_NONE;
    bool much = state.in.size() > READ_BYTES_FIRST || state.in_end != 0;
    make_room(state, much ? state.bounds.read_bytes : READ_BYTES_FIRST);
    size_t room = state.in.size() - state.in_end;
    ssize_t got;
    int error;
    if (room > ALONE_BYTES_MIN) {
        Py_BEGIN_ALLOW_THREADS;
        got = recv(session->socket, state.in.data() + state.in_end, room, MSG_DONTWAIT);
        error = errno;
        Py_END_ALLOW_THREADS;
    } else {
        got = recv(session->socket, state.in.data() + state.in_end, room, MSG_DONTWAIT);
        error = errno;
    }
    if (got == 0) Py_RETURN_NONE;
    if (got < 0 && (error == EAGAIN || error == EWOULDBLOCK || error == EINTR)) return PyList_New(0);
    if (got < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    state.in_end += static_cast<size_t>(got);
    PyObject *heard = heard_of(session);
    if (static_cast<size_t>(got) < READ_BYTES_FIRST && state.in_end == 0 && much) std::vector<uint8_t>(READ_BYTES_FIRST).swap(state.in);
    return heard;
}

PyObject *receive(PyObject *self, PyObject *data) {
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &bytes, &size) < 0) return nullptr;
    State &state = *session_of(self)->state;
    make_room(state, static_cast<size_t>(size));
    std::memcpy(state.in.data() + state.in_end, bytes, static_cast<size_t>(size));
    state.in_end += static_cast<size_t>(size);
    return heard_of(session_of(self));
}

PyObject *output(PyObject *self, PyObject *) { return session_of(self)->state->out.take(); }

PyObject *end(PyObject *self, PyObject *) {
    Session *session = session_of(self);
    State &state = *session->state;
    session->socket = -1;
    state.closing = true;
    PyObject *left = PyList_New(0);
    for (size_t i = 0; left != nullptr && i < state.under_way.size(); i++)
        if (PyList_Append(left, reinterpret_cast<PyObject *>(state.under_way[i])) < 0) Py_CLEAR(left);
    return left;
}

PyObject *get_open(PyObject *self, void *) { return PyLong_FromSize_t(session_of(self)->state->under_way.size()); }

PyObject *get_closing(PyObject *self, void *) { return PyBool_FromLong(session_of(self)->state->closing); }

PyObject *get_has_room(PyObject *self, void *) {
    const State &state = *session_of(self)->state;
    return PyBool_FromLong(!state.closing && state.under_way.size() < state.streams_max);
}

// Its life.

int init(PyObject *self, PyObject *arguments, PyObject *named) {
    static const char *names[] = {"socket", "reader", "blocked", "unavailable", "frame_bytes_max", "streams_max", "read_bytes",
                                  "stream_window_bytes", "connection_window_bytes", "message_bytes_max", nullptr};
    Session *session = session_of(self);
    PyObject *reader, *blocked, *unavailable;
    int socket;
    Bounds bounds;
    unsigned long long message_bytes_max;
    long long stream_window_bytes, connection_window_bytes;
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "iOOO$IIILLK", const_cast<char **>(names), &socket, &reader, &blocked, &unavailable,
                                     &bounds.frame_bytes_max, &bounds.streams_max, &bounds.read_bytes, &stream_window_bytes,
                                     &connection_window_bytes, &message_bytes_max))
        return -1;
    bounds.stream_window_bytes = stream_window_bytes;
    bounds.connection_window_bytes = connection_window_bytes;
    bounds.message_bytes_max = message_bytes_max;
    session->socket = socket;
    Py_XSETREF(session->reader, Py_NewRef(reader));
    Py_XSETREF(session->blocked, Py_NewRef(blocked));
    Py_XSETREF(session->unavailable, Py_NewRef(unavailable));
    session->state->bounds = bounds;
    session->state->streams_max = bounds.streams_max;
    greet(*session->state);
    return 0;
}

PyObject *make(PyTypeObject *type, PyObject *, PyObject *) {
    auto *session = reinterpret_cast<Session *>(type->tp_alloc(type, 0));
    if (session == nullptr) return nullptr;
    session->state = new State;
    session->socket = -1;
    return reinterpret_cast<PyObject *>(session);
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    Session *session = session_of(self);
    Py_VISIT(session->reader);
    Py_VISIT(session->blocked);
    Py_VISIT(session->unavailable);
    if (session->state == nullptr) return 0;
    for (Exchange *each : session->state->under_way) Py_VISIT(reinterpret_cast<PyObject *>(each));
    for (Exchange *each : session->state->blocked) Py_VISIT(reinterpret_cast<PyObject *>(each));
    return 0;
}

void drop(std::vector<Exchange *> &from) {
    std::vector<Exchange *> dropped;
    dropped.swap(from);
    for (Exchange *each : dropped) Py_DECREF(each);
}

int clear(PyObject *self) {
    Session *session = session_of(self);
    Py_CLEAR(session->reader);
    Py_CLEAR(session->blocked);
    Py_CLEAR(session->unavailable);
    drop(session->state->under_way);
    drop(session->state->blocked);
    return 0;
}

void dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    clear(self);
    Session *session = session_of(self);
    for (auto &each : session->state->known) Py_DECREF(each.fields);
    delete session->state;
    Py_TYPE(self)->tp_free(self);
}

PyMethodDef methods[] = {
    {"send", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(send_call)), METH_FASTCALL | METH_KEYWORDS,
     "send(block, body, owner, live=False) -> the exchange, which goes out with the next `flush`. Raises `unavailable`."},
    {"flush", flush, METH_NOARGS, "flush() sends what can be sent now. What is wrong with the socket is found by who reads it."},
    {"read", read, METH_NOARGS,
     "read() -> the exchanges that something came for, or None where the connection has ended. Raises OSError, ValueError: it is broken."},
    {"receive", receive, METH_O, "receive(data) -> as `read`, of bytes that came otherwise."},
    {"output", output, METH_NOARGS, "output() -> what waits to be sent, which it does no more."},
    {"reset", reset, METH_O, "reset(exchange) tells the server that nobody waits for it any more."},
    {"take", take, METH_O, "take(exchange) -> what came of a live call and was not taken; lets as much come again."},
    {"end", end, METH_NOARGS, "end() -> the exchanges that are left without an answer. It uses its socket no more."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"wants_write", T_BOOL, offsetof(Session, wants_write), READONLY, "It has more to send than its socket took."},
    {nullptr, 0, 0, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"open", get_open, nullptr, "Calls on the way.", nullptr},
    {"closing", get_closing, nullptr, "It takes no new calls.", nullptr},
    {"has_room", get_has_room, nullptr, "Whether one more call may be sent.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyTypeObject make_type() {
    PyTypeObject type = {PyVarObject_HEAD_INIT(nullptr, 0)};
    type.tp_name = "engine.triton._http2.Session";
    type.tp_basicsize = sizeof(Session);
    type.tp_new = make;
    type.tp_init = init;
    type.tp_dealloc = dealloc;
    type.tp_traverse = traverse;
    type.tp_clear = clear;
    type.tp_methods = methods;
    type.tp_members = members;
    type.tp_getset = properties;
    type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC;
    type.tp_doc = "The client's side of one HTTP/2 connection that carries gRPC calls. The interpreter's lock is all that guards it.";
    return type;
}

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_http2", "The client's side of HTTP/2 for gRPC.", -1, nullptr,
                          nullptr,               nullptr,  nullptr,                                  nullptr};

bool add_type(PyObject *module, const char *name, PyTypeObject *type) {
    return PyType_Ready(type) == 0 && PyModule_AddObjectRef(module, name, reinterpret_cast<PyObject *>(type)) == 0;
}

}  // namespace

PyTypeObject SessionType = make_type();

void put_number(Output &out, uint8_t kind, uint32_t stream, uint32_t number) {
    uint8_t payload[4];
    put_big_endian(payload, number);
    out.put_frame(kind, 0, stream, sizeof payload);
    out.put(payload, sizeof payload);
}

namespace {

std::vector<Exchange *>::iterator place_of(State &state, uint32_t id) {
    auto &all = state.under_way;
    auto found = std::lower_bound(all.begin(), all.end(), id, [](const Exchange *each, uint32_t wanted) { return each->id < wanted; });
    return found != all.end() && (*found)->id == id ? found : all.end();
}

}  // namespace

Exchange *find(State &state, uint32_t id) {
    auto found = place_of(state, id);
    return found == state.under_way.end() ? nullptr : *found;
}

Exchange *take_out(State &state, uint32_t id) {
    auto found = place_of(state, id);
    if (found == state.under_way.end()) return nullptr;
    Exchange *taken = *found;
    state.under_way.erase(found);
    return taken;
}

// Sends of what is held back as much as may go now.
void pump(State &state) {
    std::vector<Exchange *> waiting;
    waiting.swap(state.blocked);
    for (Exchange *each : waiting) {
        size_t length = each->body == nullptr ? 0 : static_cast<size_t>(PyBytes_GET_SIZE(each->body));
        while (!each->ended && each->body_at < length) {
            int64_t size = std::min({state.window, each->window, static_cast<int64_t>(state.frame_bytes), static_cast<int64_t>(length - each->body_at)});
            if (size <= 0) break;
            state.window -= size;
            each->window -= size;
            bool last = each->body_at + static_cast<size_t>(size) == length;
            state.out.put_frame(DATA, last ? END_STREAM : 0, each->id, static_cast<size_t>(size));
            state.out.put(each->body, each->body_at, static_cast<size_t>(size));
            each->body_at += static_cast<size_t>(size);
        }
        if (!each->ended && each->body_at < length) {
            state.blocked.push_back(each);
        } else {
            Py_CLEAR(each->body);
            Py_DECREF(each);
        }
    }
}

PyMODINIT_FUNC PyInit__http2() {
    PyObject *module = PyModule_Create(&definition);
    if (module == nullptr) return nullptr;
    if (add_type(module, "Exchange", &ExchangeType) && add_type(module, "Session", &SessionType)) return module;
    Py_DECREF(module);
    return nullptr;
}
