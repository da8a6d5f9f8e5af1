// The Python module `serving.native._wire`.
#include "infer.hpp"
#include "session.hpp"

namespace {

PyObject *set_message_bytes_max(PyObject *, PyObject *argument) {
    size_t limit = PyLong_AsSize_t(argument);
    if (PyErr_Occurred()) return nullptr;
    message_budget.limit = answer_budget.limit = limit;
    Py_RETURN_NONE;
}

PyObject *message_bytes(PyObject *, PyObject *) { return PyLong_FromSize_t(message_budget.used); }

PyObject *answer_bytes(PyObject *, PyObject *) { return PyLong_FromSize_t(answer_budget.used); }

PyObject *nghttp2(PyObject *, PyObject *) { return PyUnicode_FromString(nghttp2_version(0)->version_str); }

PyMethodDef functions[] = {
    {"split_infer", split_infer, METH_O,
     "split_infer(message) -> (head, id, ((offset, size), ...)), or None where protobuf's own reader is needed."},
    {"set_message_bytes_max", set_message_bytes_max, METH_O, "How many bytes all received messages together may hold, and as many all answers not yet written."},
    {"message_bytes", message_bytes, METH_NOARGS, "How many bytes all received messages hold now."},
    {"answer_bytes", answer_bytes, METH_NOARGS, "How many bytes of answers wait to be written now."},
    {"nghttp2_version", nghttp2, METH_NOARGS, "The version of the HTTP/2 library in use."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_wire", "HTTP/2 and gRPC framing on libnghttp2.", -1, functions,
                          nullptr,               nullptr, nullptr,                                      nullptr};

bool add_type(PyObject *module, const char *name, PyTypeObject *type) {
    if (PyType_Ready(type) < 0) return false;
    return PyModule_AddObjectRef(module, name, reinterpret_cast<PyObject *>(type)) == 0;
}

}  // namespace

PyMODINIT_FUNC PyInit__wire() {
    PyObject *module = PyModule_Create(&definition);
    if (module == nullptr) return nullptr;
    if (add_type(module, "Message", &MessageType) && add_type(module, "Wire", &WireType) && add_type(module, "Session", &SessionType))
        return module;
    Py_DECREF(module);
    return nullptr;
}
