"""The model repository that the serving tests speak to, and the spec over it.

Triton's own example models under their own names, one identity model for every datatype of the Open Inference Protocol,
models whose files or values are wrong, and Python functions. Some have a `config.pbtxt`, some do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper

from engine import BF16, BYTES, DATATYPES, Array
from tests.engine import onnx_models
from tests.engine.onnx_models import graph, write

INT32, STRING = TensorProto.INT32, TensorProto.STRING
ONNX_KINDS = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16, "BYTES": TensorProto.STRING,
}  # fmt: skip

CONFIG = """
name: "%s"
platform: "onnxruntime_onnx"
max_batch_size: 8
%s
"""
TENSOR = '%s [ { name: "%s" data_type: %s dims: [ %d ] } ]'

FUNCTIONS = """
functions:
  double:
    call: tests.serving.functions:double
    batchable: true
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    outputs: {y: {datatype: FP32, shape: [-1, 2]}}
  gated:
    call: tests.serving.functions:gated
    batchable: true
    inline_us_max: 0
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1]}}
  countdown:
    call: tests.serving.functions:countdown
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [1]}}
  gated_stream:
    call: tests.serving.functions:gated_stream
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [1]}}
  endless:
    call: tests.serving.functions:endless
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [-1]}}
  shout:
    call: tests.serving.functions:shout
    batchable: true
    inputs: {text: {datatype: BYTES, shape: [-1, 1]}}
    outputs: {loud: {datatype: BYTES, shape: [-1, 1]}}
  faulty:
    call: tests.serving.functions:faulty
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [1]}}
"""

SERVER = "server: {name: vireo-under-test, grpc_port: 0, http_port: null, drain_s: 5}\n"
SPEC = f"""
{SERVER}
repository: {{path: models, control: explicit}}
models: {{versions: {{versions: {{latest: 2}}}}}}
{FUNCTIONS}
"""
MEETING = """
functions:
  meeting:
    call: tests.serving.functions:meeting
    batchable: true
    inline_us_max: 0
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1]}}
"""


def write_repository(root: Path) -> Path:
    """Every model the spec above serves, in `root`."""
    for name, model, kind, size in (
        ("simple", simple(), "TYPE_INT32", 16),
        ("simple_string", simple_string(), "TYPE_STRING", 16),
    ):
        tensors = [TENSOR % ("input", f"INPUT{index}", kind, size) for index in range(2)]
        tensors += [TENSOR % ("output", f"OUTPUT{index}", kind, size) for index in range(2)]
        write_model(root, name, model, CONFIG % (name, "\n".join(tensors)))
    tensors = [TENSOR % ("input", "INPUT0", "TYPE_STRING", -1), TENSOR % ("output", "OUTPUT0", "TYPE_STRING", -1)]
    write_model(root, "simple_identity", simple_identity(), CONFIG % ("simple_identity", "\n".join(tensors)))
    for datatype, number in ONNX_KINDS.items():
        write_model(root, identity_of(datatype), onnx_models.identity(number))
    write_model(root, "lookup", onnx_models.lookup(8))
    write_versions(root, "versions", 1, 2, 3)
    return root


def write_model(root: Path, name: str, model: ModelProto, config: str | None = None, version: int = 1) -> None:
    """One version of a model, with its configuration where there is one."""
    write(root / name / str(version), model)
    if config is not None:
        (root / name / "config.pbtxt").write_text(config)


def write_versions(root: Path, name: str, *versions: int) -> None:
    """A model whose every version multiplies by its own number."""
    for version in versions:
        write_model(root, name, onnx_models.affine(float(version)), version=version)


def identity_of(datatype: str) -> str:
    """The name of the identity model of a datatype."""
    return f"identity_{datatype.lower()}"


def simple() -> ModelProto:
    """Triton's `simple`: OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1."""
    shape: Sequence[onnx_models.Dim] = ["batch", 16]
    nodes = [helper.make_node(*each) for each in _sum_and_difference("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1")]
    names = ("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1")
    inputs, outputs = (dict.fromkeys(side, (INT32, shape)) for side in names)
    return graph(nodes, inputs, outputs)


def simple_string() -> ModelProto:
    """Triton's `simple_string`: the same over integers written out as strings."""
    shape: Sequence[onnx_models.Dim] = ["batch", 16]
    nodes = [helper.make_node("Cast", [f"INPUT{index}"], [f"i{index}"], to=INT32) for index in range(2)]
    nodes += [helper.make_node(*each) for each in _sum_and_difference("i0", "i1", "o0", "o1")]
    nodes += [helper.make_node("Cast", [f"o{index}"], [f"OUTPUT{index}"], to=STRING) for index in range(2)]
    names = ("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1")
    inputs, outputs = (dict.fromkeys(side, (STRING, shape)) for side in names)
    return graph(nodes, inputs, outputs)


def _sum_and_difference(a: str, b: str, total: str, difference: str) -> list[tuple[str, list[str], list[str]]]:
    return [("Add", [a, b], [total]), ("Sub", [a, b], [difference])]


def simple_identity() -> ModelProto:
    """Triton's `simple_identity`: strings in, the same out."""
    shape: Sequence[onnx_models.Dim] = ["batch", "length"]
    nodes = [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])]
    return graph(nodes, {"INPUT0": (STRING, shape)}, {"OUTPUT0": (STRING, shape)})


def edge_values(datatype: str) -> Array:
    """Two rows of two values at the edges of a datatype; the bits of BF16 as uint16."""
    found = DATATYPES[datatype]
    if found is BYTES:
        return np.array([[b"", "grün ☃".encode()], [b"x" * 5000, b"0"]], object)
    if found is BF16:
        return np.array([[0x0000, 0x3F80], [0xFF80, 0x7F7F]], np.uint16)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    limits = np.finfo(found.dtype) if datatype.startswith("FP") else np.iinfo(found.dtype)
    return np.array([[limits.min, limits.max], [0, 1]], found.dtype)
