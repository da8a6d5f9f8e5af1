#include "infer.hpp"

#include <vector>

namespace {

constexpr uint64_t ID = 3, RAW_CONTENTS = 7;
constexpr size_t HEAD_BYTES_MAX = 4096;
constexpr size_t RAWS_MAX = 64;

struct Reader {
    const uint8_t *at;
    const uint8_t *end;

    bool varint(uint64_t &value) {
        value = 0;
        for (int shift = 0; shift < 64 && at < end; shift += 7) {
            uint8_t byte = *at++;
            value |= static_cast<uint64_t>(byte & 0x7F) << shift;
            if (!(byte & 0x80)) return true;
        }
        return false;
    }
};

struct Field {
    uint64_t number;
    const uint8_t *whole;  // from its tag on
    const uint8_t *content;
    size_t size;
};

// Every field of the two messages is length-delimited; anything else is left to protobuf's own reader.
bool next_field(Reader &reader, Field &field) {
    uint64_t tag, size;
    field.whole = reader.at;
    if (!reader.varint(tag) || (tag & 7) != 2 || !reader.varint(size)) return false;
    field.number = tag >> 3;
    field.content = reader.at;
    field.size = size;
    return true;
}

struct Span {
    size_t offset, size;
};

PyObject *span_tuple(const std::vector<Span> &spans) {
    PyObject *all = PyTuple_New(static_cast<Py_ssize_t>(spans.size()));
    if (all == nullptr) return nullptr;
    for (size_t i = 0; i < spans.size(); i++) {
        PyObject *pair = PyTuple_New(2);
        PyObject *offset = PyLong_FromSize_t(spans[i].offset), *size = PyLong_FromSize_t(spans[i].size);
        if (pair == nullptr || offset == nullptr || size == nullptr) {
            Py_XDECREF(pair), Py_XDECREF(offset), Py_XDECREF(size), Py_DECREF(all);
            return nullptr;
        }
        PyTuple_SET_ITEM(pair, 0, offset);
        PyTuple_SET_ITEM(pair, 1, size);
        PyTuple_SET_ITEM(all, static_cast<Py_ssize_t>(i), pair);
    }
    return all;
}

struct Split {
    std::string head;
    const char *id = "";
    size_t id_size = 0;
    std::vector<Span> raws;
};

bool split(const uint8_t *data, size_t length, Split &parts) {
    Reader reader = {data, data + length};
    Field field;
    while (reader.at < reader.end) {
        if (!next_field(reader, field) || field.size > static_cast<size_t>(reader.end - reader.at)) return false;
        reader.at += field.size;
        if (field.number == RAW_CONTENTS) {
            if (parts.raws.size() == RAWS_MAX) return false;
            parts.raws.push_back({static_cast<size_t>(field.content - data), field.size});
        } else if (field.number == ID) {
            parts.id = reinterpret_cast<const char *>(field.content);
            parts.id_size = field.size;
        } else {
            if (parts.head.size() + (reader.at - field.whole) > HEAD_BYTES_MAX) return false;
            parts.head.append(reinterpret_cast<const char *>(field.whole), reader.at - field.whole);
        }
    }
    return true;
}

}  // namespace

void put_varint(std::string &out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
}

size_t first_raw_offset(const uint8_t *data, size_t length) {
    Reader reader = {data, data + length};
    Field field;
    while (reader.at < reader.end && next_field(reader, field)) {
        if (field.number == RAW_CONTENTS) return static_cast<size_t>(field.content - data);
        if (field.size > static_cast<size_t>(reader.end - reader.at)) return 0;
        reader.at += field.size;
    }
    return 0;
}

PyObject *split_infer(PyObject *, PyObject *message) {
    Py_buffer view;
    if (PyObject_GetBuffer(message, &view, PyBUF_SIMPLE) < 0) return nullptr;
    static thread_local Split parts;  // keeps its memory from call to call
    parts.head.clear();
    parts.raws.clear();
    parts.id = "";
    parts.id_size = 0;
    PyObject *result = nullptr, *raws = nullptr, *id = nullptr;
    if (!split(static_cast<const uint8_t *>(view.buf), static_cast<size_t>(view.len), parts)) {
        PyBuffer_Release(&view);
        Py_RETURN_NONE;
    }
    id = PyUnicode_DecodeUTF8(parts.id, static_cast<Py_ssize_t>(parts.id_size), "strict");
    if (id == nullptr && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {  // protobuf's reader says what is wrong
        PyErr_Clear();
        PyBuffer_Release(&view);
        Py_RETURN_NONE;
    }
    PyBuffer_Release(&view);
    if (id != nullptr && (raws = span_tuple(parts.raws)) != nullptr)
        result = Py_BuildValue("(y#NN)", parts.head.data(), static_cast<Py_ssize_t>(parts.head.size()), id, raws);
    if (result == nullptr && raws == nullptr) Py_XDECREF(id);
    return result;
}
