#include "message.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t FIRST_BYTES_MAX = 1 << 20;

bool reserve(Message *message, size_t wanted) {
    size_t whole = message->shift + message->size;
    size_t capacity = std::min(whole, std::max(wanted, message->capacity * 2));
    size_t added = capacity - message->capacity;
    if (message_budget.used + added > message_budget.limit) return false;
    void *block = std::realloc(message->block, std::max<size_t>(capacity, 1));
    if (block == nullptr) return false;
    message_budget.used += added;
    message->block = static_cast<uint8_t *>(block);
    message->capacity = capacity;
    return true;
}

void dealloc(PyObject *self) {
    auto *message = reinterpret_cast<Message *>(self);
    message_budget.used -= message->capacity;
    std::free(message->block);
    PyObject_Free(self);
}

int get_buffer(PyObject *self, Py_buffer *view, int flags) {
    auto *message = reinterpret_cast<Message *>(self);
    return PyBuffer_FillInfo(view, self, message->block + message->shift, static_cast<Py_ssize_t>(message->size), 1, flags);
}

Py_ssize_t length(PyObject *self) { return static_cast<Py_ssize_t>(reinterpret_cast<Message *>(self)->size); }

PyBufferProcs buffer_procs = {get_buffer, nullptr};
PySequenceMethods sequence_methods = {length};

PyTypeObject make_type() {
    PyTypeObject type = {PyVarObject_HEAD_INIT(nullptr, 0)};
    type.tp_name = "serving.native._wire.Message";
    type.tp_basicsize = sizeof(Message);
    type.tp_dealloc = dealloc;
    type.tp_as_buffer = &buffer_procs;
    type.tp_as_sequence = &sequence_methods;
    type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
    type.tp_doc = "The bytes of one received message, as a read-only buffer.";
    return type;
}

}  // namespace

PyTypeObject MessageType = make_type();
Budget message_budget = {0, SIZE_MAX};

Message *message_new(size_t size, size_t shift) {
    auto *message = PyObject_New(Message, &MessageType);
    if (message == nullptr) {
        PyErr_Clear();
        return nullptr;
    }
    message->block = nullptr;
    message->shift = shift;
    message->size = size;
    message->filled = 0;
    message->capacity = 0;
    if (!reserve(message, std::min(shift + size, FIRST_BYTES_MAX))) {
        Py_DECREF(message);
        return nullptr;
    }
    return message;
}

bool message_append(Message *message, const uint8_t *data, size_t length) {
    size_t wanted = message->shift + message->filled + length;
    if (wanted > message->capacity && !reserve(message, wanted)) return false;
    std::memcpy(message->block + message->shift + message->filled, data, length);
    message->filled += length;
    return true;
}
