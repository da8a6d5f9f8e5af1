#include "answer.hpp"
#include "session.hpp"

#include <utility>

namespace {

constexpr int DEADLINE_EXCEEDED = 4;
constexpr size_t SPARE_MAX = 64;  // so many are seldom open at once; what stayed of more would lie about the heap for good
constexpr size_t FIELD_BYTES_KEPT_MAX = 4096;

void release(Event &event) {
    Py_CLEAR(event.session);
    Py_CLEAR(event.payload);
    Py_CLEAR(event.encoding);
}

PyObject *or_none(PyObject *object) { return object == nullptr ? Py_None : object; }

// Hands an event to Python: its references move into the tuple.
PyObject *event_tuple(Event &event) {
    EventKind kind = event.kind == EventKind::call && event.asks ? EventKind::asking_call : event.kind;
    PyObject *tuple = Py_BuildValue("(iOiOOLO)", static_cast<int>(kind), event.session, event.stream, or_none(event.method),
                                    or_none(event.payload), static_cast<long long>(event.deadline_ns), or_none(event.encoding));
    release(event);
    return tuple;
}

Stream *mark_taken(const Event &event) {
    bool begins = event.kind == EventKind::call || event.kind == EventKind::open;
    if (!begins || event.session->http2 == nullptr) return nullptr;
    auto *stream = static_cast<Stream *>(nghttp2_session_get_stream_user_data(event.session->http2, event.stream));
    if (stream != nullptr) stream->event = 0, stream->announced = true;
    return stream;
}

bool append(PyObject *list, Event &event) {
    PyObject *tuple = event_tuple(event);
    bool appended = tuple != nullptr && PyList_Append(list, tuple) == 0;
    Py_XDECREF(tuple);
    return appended;
}

// Answers a call that nobody waits for any more, at a tenth of what it would cost to hand it to Python.
void expire_call(Wire *wire, Event &event, Stream *stream) {
    if (stream != nullptr) {
        stream->method->expired++;
        wire->expired = true;
        finish_grpc(event.session, stream, DEADLINE_EXCEEDED, "deadline passed while the call waited to be served");
    }
    release(event);
}

// Moves at most `count` calls into `list`. Where more wait than that, and have deadlines, the newest go first: under overload
// the oldest would all be answered just too late, and nobody served (adaptive LIFO; Maurer, "Fail at Scale", 2015).
bool take_calls(Wire *wire, PyObject *list, size_t count) {
    EventQueue &calls = *wire->calls;
    int64_t now = monotonic_ns();
    bool overloaded = calls.events.size() > count && calls.events.back().deadline_ns != NEVER_NS;
    while (count != 0 && !calls.events.empty()) {
        bool stale = calls.events.front().kind == EventKind::dead || calls.events.front().deadline_ns <= now;
        Event event = overloaded && !stale ? calls.pop_newest() : calls.pop_oldest();
        if (event.kind == EventKind::dead) continue;
        Stream *stream = mark_taken(event);
        if (event.deadline_ns <= now) {
            expire_call(wire, event, stream);
            continue;
        }
        if (!append(list, event)) return false;
        count--;
    }
    return true;
}

// take(count) -> list of at most `count` calls, and before them as many other events.
PyObject *take(PyObject *self, PyObject *argument) {
    auto *wire = reinterpret_cast<Wire *>(self);
    Py_ssize_t count = PyLong_AsSsize_t(argument);
    if (count == -1 && PyErr_Occurred()) return nullptr;
    wire->taken_ns = monotonic_ns();
    PyObject *taken = PyList_New(0);
    while (taken != nullptr && !wire->others->events.empty() && PyList_GET_SIZE(taken) < count) {
        Event event = wire->others->pop_oldest();
        if (event.kind == EventKind::dead) continue;
        mark_taken(event);
        if (!append(taken, event)) Py_CLEAR(taken);
    }
    if (taken != nullptr && !take_calls(wire, taken, static_cast<size_t>(count))) Py_CLEAR(taken);
    return taken;
}

// take_expired() -> list of (the method's object, count of calls that waited past their deadline since last asked).
PyObject *take_expired(PyObject *self, PyObject *) {
    auto *wire = reinterpret_cast<Wire *>(self);
    PyObject *counts = PyList_New(0);
    if (!wire->expired || counts == nullptr) return counts;
    wire->expired = false;
    for (auto &named : *wire->methods) {
        uint64_t count = std::exchange(named.second.expired, 0);
        if (count == 0) continue;
        PyObject *pair = Py_BuildValue("(OK)", named.second.object, static_cast<unsigned long long>(count));
        bool appended = pair != nullptr && PyList_Append(counts, pair) == 0;
        Py_XDECREF(pair);
        if (!appended) {
            Py_DECREF(counts);
            return nullptr;
        }
    }
    return counts;
}

// dirty() -> list of the sessions that may have output, each once. Ends a turn: what comes from now on wakes again.
PyObject *dirty(PyObject *self, PyObject *) {
    auto *wire = reinterpret_cast<Wire *>(self);
    PyObject *sessions = PyList_New(static_cast<Py_ssize_t>(wire->dirty->size()));
    if (sessions == nullptr) return nullptr;
    wire->served_ns = monotonic_ns();
    Py_ssize_t i = 0;
    for (Session *session : *wire->dirty) {
        session->dirty = false;
        PyList_SET_ITEM(sessions, i++, reinterpret_cast<PyObject *>(session));
    }
    wire->dirty->clear();
    wire->awake = false;
    if (!wire->calls->events.empty() || !wire->others->events.empty()) wire_wake(wire);
    return sessions;
}

PyObject *close(PyObject *self, PyObject *) {
    auto *wire = reinterpret_cast<Wire *>(self);
    Py_CLEAR(wire->wake);
    for (EventQueue *queue : {wire->calls, wire->others}) {
        for (Event &event : queue->events) release(event);
        queue->first += queue->events.size();
        queue->events.clear();
    }
    auto sessions = std::exchange(*wire->dirty, {});
    for (Session *session : sessions) {
        session->dirty = false;
        Py_DECREF(session);
    }
    Py_RETURN_NONE;
}

bool add_method(Wire *wire, PyObject *path, PyObject *entry) {
    PyObject *object;
    int unary, tensors;
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(path, &size);
    if (text == nullptr || !PyArg_ParseTuple(entry, "Opp", &object, &unary, &tensors)) return false;
    Py_INCREF(object);
    (*wire->methods)[std::string(text, static_cast<size_t>(size))] = Method{object, unary != 0, tensors != 0};
    return true;
}

int init(PyObject *self, PyObject *arguments, PyObject *keywords) {
    auto *wire = reinterpret_cast<Wire *>(self);
    static const char *names[] = {"methods",      "wake",
                                  "streams_max",  "header_bytes_max",
                                  "window_bytes", "connection_window_bytes",
                                  "frame_bytes_max", "message_bytes_max",
                                  "queued_bytes_max", "linger_ns", nullptr};
    PyObject *methods, *wake, *path, *entry;
    Bounds &bounds = wire->bounds;
    Py_ssize_t message_bytes_max, queued_bytes_max, position = 0;
    long long linger_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!O$IIIIInnL", const_cast<char **>(names), &PyDict_Type, &methods,
                                     &wake, &bounds.streams_max, &bounds.header_bytes_max, &bounds.window_bytes,
                                     &bounds.connection_window_bytes, &bounds.frame_bytes_max, &message_bytes_max,
                                     &queued_bytes_max, &linger_ns))
        return -1;
    bounds.message_bytes_max = static_cast<size_t>(message_bytes_max);
    bounds.queued_bytes_max = static_cast<size_t>(queued_bytes_max);
    bounds.linger_ns = linger_ns;
    while (PyDict_Next(methods, &position, &path, &entry))
        if (!add_method(wire, path, entry)) return -1;
    Py_INCREF(wake);
    Py_XSETREF(wire->wake, wake);
    return 0;
}

PyObject *make(PyTypeObject *type, PyObject *, PyObject *) {
    auto *wire = reinterpret_cast<Wire *>(type->tp_alloc(type, 0));
    if (wire == nullptr) return nullptr;
    wire->methods = new std::unordered_map<std::string, Method>();
    wire->calls = new EventQueue();
    wire->others = new EventQueue();
    wire->dirty = new std::vector<Session *>();
    wire->spare = new std::vector<Stream *>();
    wire->input = new uint8_t[INPUT_BYTES];
    return reinterpret_cast<PyObject *>(wire);
}

void dealloc(PyObject *self) {
    auto *wire = reinterpret_cast<Wire *>(self);
    Py_XDECREF(close(self, nullptr));
    for (auto &named : *wire->methods) Py_DECREF(named.second.object);
    for (Stream *stream : *wire->spare) delete stream;
    delete wire->methods;
    delete wire->calls;
    delete wire->others;
    delete wire->dirty;
    delete wire->spare;
    delete[] wire->input;
    Py_TYPE(self)->tp_free(self);
}

PyMethodDef methods[] = {
    {"take", take, METH_O, "take(count) -> list of at most `count` calls, and before them as many other events."},
    {"take_expired", take_expired, METH_NOARGS,
     "take_expired() -> list of (method's object, calls that waited past their deadline since last asked)."},
    {"dirty", dirty, METH_NOARGS, "dirty() -> list of the sessions that may have output, each once."},
    {"close", close, METH_NOARGS, "close() drops what has not been taken; `wake` is not called any more."},
    {nullptr, nullptr, 0, nullptr},
};

PyTypeObject make_type() {
    PyTypeObject type = {PyVarObject_HEAD_INIT(nullptr, 0)};
    type.tp_name = "serving.native._wire.Wire";
    type.tp_basicsize = sizeof(Wire);
    type.tp_new = make;
    type.tp_init = init;
    type.tp_dealloc = dealloc;
    type.tp_methods = methods;
    type.tp_flags = Py_TPFLAGS_DEFAULT;
    type.tp_doc = "What all connections of one server share: its methods, its bounds, and the events not yet taken.";
    return type;
}

}  // namespace

PyTypeObject WireType = make_type();

void wire_wake(Wire *wire) {
    if (wire->awake || wire->wake == nullptr) return;
    wire->awake = true;
    PyObject *result = PyObject_CallNoArgs(wire->wake);
    if (result == nullptr) PyErr_WriteUnraisable(wire->wake);
    Py_XDECREF(result);
}

uint64_t wire_add(Wire *wire, Event event) {
    if (wire->wake == nullptr) {  // closed: nobody takes it
        Py_XDECREF(event.payload);
        Py_XDECREF(event.encoding);
        return 0;
    }
    Py_INCREF(event.session);
    uint64_t number = (event.kind == EventKind::call ? wire->calls : wire->others)->add(event);
    wire_wake(wire);
    return number;
}

void wire_kill(Wire *wire, const Stream *stream) {
    EventQueue &queue = stream->kind == Stream::Kind::unary ? *wire->calls : *wire->others;
    if (stream->event < queue.first) return;  // dropped when the wire was closed
    Event &event = queue.events[stream->event - queue.first];
    event.kind = EventKind::dead;
    release(event);
}

void wire_dirty(Wire *wire, Session *session) {
    if (session->dirty || wire->wake == nullptr) return;
    session->dirty = true;
    Py_INCREF(session);
    wire->dirty->push_back(session);
    wire_wake(wire);
}

Stream *wire_stream(Wire *wire) {
    if (wire->spare->empty()) return new Stream();
    Stream *stream = wire->spare->back();
    wire->spare->pop_back();
    return stream;
}

void wire_spare(Wire *wire, Stream *stream) {
    if (wire->spare->size() >= SPARE_MAX || stream->field_bytes > FIELD_BYTES_KEPT_MAX) {
        delete stream;
        return;
    }
    stream->reset();
    wire->spare->push_back(stream);
}
