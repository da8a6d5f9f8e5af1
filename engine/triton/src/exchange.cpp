#include "exchange.hpp"

#include <structmember.h>

#include <algorithm>
#include <cstring>

namespace {

Exchange *exchange_of(PyObject *self) { return reinterpret_cast<Exchange *>(self); }

size_t length_told(const Exchange *exchange) {
    size_t length = 0;
    for (size_t i = 1; i < PREFIX_BYTES; i++) length = length << 8 | exchange->prefix[i];
    return length;
}

bool is_whole(const Exchange *exchange) {
    return exchange->prefix_size == PREFIX_BYTES && exchange->prefix[0] == 0 && exchange->content_size == length_told(exchange);
}

// Makes room for `more`, not for what the server says will come: that may never.
bool reserve(Exchange *exchange, size_t more) {
    size_t wanted = exchange->message_size + more;
    if (exchange->message == nullptr) {
        exchange->message = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(wanted));
        return exchange->message != nullptr;
    }
    size_t room = static_cast<size_t>(PyBytes_GET_SIZE(exchange->message));
    if (wanted <= room) return true;
    size_t grown = std::max(wanted, std::min(room * 2, length_told(exchange)));
    return _PyBytes_Resize(&exchange->message, static_cast<Py_ssize_t>(grown)) == 0;
}

bool add_part(Exchange *exchange, const uint8_t *data, size_t size) {
    if (exchange->parts == nullptr && (exchange->parts = PyList_New(0)) == nullptr) return false;
    PyObject *part = PyBytes_FromStringAndSize(reinterpret_cast<const char *>(data), static_cast<Py_ssize_t>(size));
    if (part == nullptr) return false;
    int failed = PyList_Append(exchange->parts, part);
    Py_DECREF(part);
    return failed == 0;
}

PyObject *message(PyObject *self, PyObject *) {
    Exchange *exchange = exchange_of(self);
    if (!is_whole(exchange))
        return PyErr_Format(PyExc_ValueError, "%zu bytes that are not one message, uncompressed",
                            exchange->prefix_size + exchange->content_size);
    if (exchange->message == nullptr) return PyBytes_FromStringAndSize(nullptr, 0);
    return Py_NewRef(exchange->message);
}

PyObject *get_headers(PyObject *self, void *) {
    Exchange *exchange = exchange_of(self);
    return exchange->headers == nullptr ? PyDict_New() : Py_NewRef(exchange->headers);
}

PyObject *get_reset(PyObject *self, void *) {
    Exchange *exchange = exchange_of(self);
    if (!exchange->is_reset) Py_RETURN_NONE;
    return PyLong_FromLong(exchange->reset);
}

PyObject *get_waits(PyObject *self, void *) {
    Exchange *exchange = exchange_of(self);
    return PyBool_FromLong(exchange->parts != nullptr && PyList_GET_SIZE(exchange->parts) != 0);
}

int traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(exchange_of(self)->owner);
    Py_VISIT(exchange_of(self)->headers);
    return 0;
}

int clear(PyObject *self) {
    Py_CLEAR(exchange_of(self)->owner);
    Py_CLEAR(exchange_of(self)->headers);
    return 0;
}

void dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    Exchange *exchange = exchange_of(self);
    Py_XDECREF(exchange->owner);
    Py_XDECREF(exchange->headers);
    Py_XDECREF(exchange->body);
    Py_XDECREF(exchange->parts);
    Py_XDECREF(exchange->message);
    Py_TYPE(self)->tp_free(self);
}

PyMethodDef methods[] = {
    {"message", message, METH_NOARGS, "message() -> the one message that answers. Raises ValueError where that is not what came."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"id", T_UINT, offsetof(Exchange, id), READONLY, "Of its stream."},
    {"owner", T_OBJECT, offsetof(Exchange, owner), READONLY, "What it was sent for."},
    {"ended", T_BOOL, offsetof(Exchange, ended), READONLY, "Nothing more comes."},
    {"unprocessed", T_BOOL, offsetof(Exchange, unprocessed), READONLY, "The server said that it did nothing for it."},
    {"ok", T_BOOL, offsetof(Exchange, ok), READONLY, "It has ended, and the server said that all went well."},
    {nullptr, 0, 0, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"headers", get_headers, nullptr, "Those that came last, of an end those of the beginning as well where that was not well.", nullptr},
    {"reset", get_reset, nullptr, "The code of a reset, or None.", nullptr},
    {"waits", get_waits, nullptr, "Whether something of a live call came and was not taken.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyTypeObject make_type() {
    PyTypeObject type = {PyVarObject_HEAD_INIT(nullptr, 0)};
    type.tp_name = "engine.triton._http2.Exchange";
    type.tp_basicsize = sizeof(Exchange);
    type.tp_dealloc = dealloc;
    type.tp_traverse = traverse;
    type.tp_clear = clear;
    type.tp_methods = methods;
    type.tp_members = members;
    type.tp_getset = properties;
    type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION;
    type.tp_doc = "One call on a connection.";
    return type;
}

}  // namespace

PyTypeObject ExchangeType = make_type();

Exchange *new_exchange(uint32_t id, PyObject *owner, int64_t window, bool live) {
    auto *made = reinterpret_cast<Exchange *>(ExchangeType.tp_alloc(&ExchangeType, 0));
    if (made == nullptr) return nullptr;
    made->id = id;
    made->owner = Py_NewRef(owner);
    made->window = window;
    made->live = live;
    return made;
}

// Takes in content. False with an exception set.
bool exchange_takes(Exchange *exchange, const uint8_t *data, size_t size) {
    if (exchange->live) return add_part(exchange, data, size);
    size_t of_prefix = std::min(PREFIX_BYTES - exchange->prefix_size, size);
    std::memcpy(exchange->prefix + exchange->prefix_size, data, of_prefix);
    exchange->prefix_size += of_prefix;
    data += of_prefix, size -= of_prefix;
    exchange->content_size += size;
    if (size == 0 || exchange->prefix[0] != 0 || exchange->content_size > length_told(exchange)) return true;  // `message` tells
    if (!reserve(exchange, size)) return false;
    std::memcpy(PyBytes_AS_STRING(exchange->message) + exchange->message_size, data, size);
    exchange->message_size += size;
    return true;
}

// What came of a live call; nothing of it is left.
PyObject *exchange_taken(Exchange *exchange) {
    if (exchange->parts == nullptr) return PyBytes_FromStringAndSize(nullptr, 0);
    PyObject *nothing = PyBytes_FromStringAndSize(nullptr, 0);
    if (nothing == nullptr) return nullptr;
    PyObject *all = _PyBytes_Join(nothing, exchange->parts);
    Py_DECREF(nothing);
    if (all != nullptr && PyList_SetSlice(exchange->parts, 0, PyList_GET_SIZE(exchange->parts), nullptr) < 0) Py_CLEAR(all);
    return all;
}
