#include "message.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t LEAST_BYTES = 4096;
constexpr size_t SMALL_BYTES = 1 << 20;  // from here on memory grows by being remapped, not copied

// Some memory ahead of what arrives, so that it seldom moves; in proportion, so that a mere claim costs nothing.
size_t capacity_for(size_t wanted, size_t whole) {
    size_t ahead = wanted < SMALL_BYTES ? wanted * 4 : wanted * 2;
    return std::min(whole, std::max(LEAST_BYTES, ahead));
}

bool reserve(Message *message, size_t wanted) {
    size_t capacity = capacity_for(wanted, message->shift + message->size);
    size_t added = capacity - message->capacity;
    if (!message_budget.take(added)) return false;
    void *block = std::realloc(message->block, std::max<size_t>(capacity, 1));
    if (block == nullptr) {
        message_budget.used -= added;
        return false;
    }
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
Budget answer_budget = {0, SIZE_MAX};

Message *message_new(size_t size, size_t shift, size_t at_hand) {
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
    if (!reserve(message, shift + std::min(size, at_hand))) {
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
