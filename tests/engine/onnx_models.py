"""Tiny ONNX files, each with one property worth a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, save
from onnx.external_data_helper import set_external_data

Dim = int | str | None
FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
OPSET = 17


def graph(
    nodes: Sequence[NodeProto],
    inputs: dict[str, tuple[int, Sequence[Dim]]],
    outputs: dict[str, tuple[int, Sequence[Dim]]],
    initializers: Sequence[TensorProto] = (),
) -> ModelProto:
    """A model of one graph."""

    def infos(tensors: dict[str, tuple[int, Sequence[Dim]]]) -> list[object]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]

    made = helper.make_graph(list(nodes), "g", infos(inputs), infos(outputs), list(initializers))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def write(folder: Path, model: ModelProto) -> Path:
    """`model` as a file in `folder`, made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    save(model, str(path))
    return path


def number(name: str, value: float) -> TensorProto:
    """A float constant."""
    return numpy_helper.from_array(np.array(value, np.float32), name)


def affine(factor: float = 2.0, width: int = 2, first: Dim = "batch", last: Dim = "batch") -> ModelProto:
    """Y = factor * x: rows are independent."""
    return graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        {"x": (FLOAT, [first, width])},
        {"y": (FLOAT, [last, width])},
        [number("factor", factor)],
    )


def total() -> ModelProto:
    """total = the sum of each row of x [batch, 2]: one number a row."""
    summed = helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0)
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    return graph([summed], {"x": (FLOAT, ["batch", 2])}, {"total": (FLOAT, ["batch"])}, [axes])


def flip() -> ModelProto:
    """flipped = -score, one number a row."""
    negated = helper.make_node("Neg", ["score"], ["flipped"])
    return graph([negated], {"score": (FLOAT, ["batch"])}, {"flipped": (FLOAT, ["batch"])})


def sum_and_difference() -> ModelProto:
    """s = a + b, d = a - b, over [batch, 3]."""
    shape: list[Dim] = ["batch", 3]
    return graph(
        [helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("Sub", ["a", "b"], ["d"])],
        {"a": (FLOAT, shape), "b": (FLOAT, shape)},
        {"s": (FLOAT, shape), "d": (FLOAT, shape)},
    )


def identity(kind: int, shape: Sequence[Dim] = ("batch", 2)) -> ModelProto:
    """Y = x of any datatype."""
    return graph([helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, shape)}, {"y": (kind, shape)})


def over_rows(operator: str, kind: int = FLOAT) -> ModelProto:
    """Models with a free dimension 0 whose rows are nevertheless not independent."""
    shape: list[Dim] = ["batch", 1]
    zero = numpy_helper.from_array(np.array(0, np.int64), "zero")
    nodes = {
        "softmax": [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
        "mean": [helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=1)],
        "centred": [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
        "below max": [
            helper.make_node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
        "cumulative": [helper.make_node("CumSum", ["x", "zero"], ["y"])],
        "first row": [
            helper.make_node("Gather", ["x", "zero"], ["f"], axis=0),
            helper.make_node("Unsqueeze", ["f", "axes"], ["u"]),
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Expand", ["u", "s"], ["y"]),
        ],
    }[operator]
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    return graph(nodes, {"x": (kind, shape)}, {"y": (kind, shape)}, [zero, axes])


def lookup(size: int) -> ModelProto:
    """Y = table[x]: values outside the table are the caller's fault."""
    table = numpy_helper.from_array(np.arange(size, dtype=np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    return graph(nodes, {"x": (INT64, ["batch", 1])}, {"y": (FLOAT, ["batch", 1])}, [table])


def bfloat16_identity() -> ModelProto:
    """Identity over bfloat16."""
    return identity(TensorProto.BFLOAT16, ("batch", 2))


def outside_data(location: str, size: int = 8) -> ModelProto:
    """Y = x + w, with w in the file `location` beside the model."""
    weights = numpy_helper.from_array(np.arange(size // 4, dtype=np.float32), "w")
    _put_outside(weights, location, size)
    shape: list[Dim] = ["batch", size // 4]
    return graph([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)}, [weights])


def outside_data_in_branch(location: str) -> ModelProto:
    """The same, hidden in a constant of a branch of an If."""
    weights = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    _put_outside(weights, location, 8)
    out = helper.make_tensor_value_info("z", FLOAT, [2])
    branch = helper.make_graph([helper.make_node("Constant", [], ["z"], value=weights)], "b", [], [out])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    return graph(nodes, {"c": (BOOL, [])}, {"y": (FLOAT, [2])})


def _put_outside(tensor: TensorProto, location: str, size: int) -> None:
    set_external_data(tensor, location, 0, size)
    tensor.ClearField("raw_data")


def loop(kind: int = FLOAT) -> ModelProto:
    """y = x + 1 + 1 ..., n times, and z = v of any `kind`, untouched: takes as long as it is told to."""
    body = helper.make_graph(
        [helper.make_node("Add", ["before", "one"], ["after"]), helper.make_node("Identity", ["on"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("on", BOOL, []),
            helper.make_tensor_value_info("before", FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("still", BOOL, []), helper.make_tensor_value_info("after", FLOAT, [1])],
    )
    return graph(
        [
            helper.make_node("Loop", ["n", "start", "x"], ["y"], body=body),
            helper.make_node("Identity", ["v"], ["z"]),
        ],
        {"n": (INT64, []), "x": (FLOAT, [1]), "v": (kind, [1])},
        {"y": (FLOAT, [1]), "z": (kind, [1])},
        [number("one", 1.0), numpy_helper.from_array(np.array(True), "start")],
    )
