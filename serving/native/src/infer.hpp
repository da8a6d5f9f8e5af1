// ModelInferRequest and ModelInferResponse on the wire, without building protobuf messages of them.
//
// All fields but `id` (3) and `raw_input_contents` (7) say what is asked and how it is laid out: the "head". It is the
// same bytes from one request of a kind to the next, so that whoever has read it once looks it up from then on.
// See grpc_predict_v2.proto of the Open Inference Protocol and "Encoding" of the Protocol Buffers documentation.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <string>

// Where the content of the first raw tensor begins within a message of which `length` bytes are there; 0 where these do
// not tell.
size_t first_raw_offset(const uint8_t *data, size_t length);

// split_infer(message) -> (head, id, ((offset, size), ...)) or None where it is not a plain ModelInferRequest.
PyObject *split_infer(PyObject *module, PyObject *message);

// Appends a varint.
void put_varint(std::string &out, uint64_t value);
