"""Fraud inputs that take no minute to make: a linear model of the right form, and random requests."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.fraud_inputs import INPUT, MODEL, OUTPUT, FraudInputs
from benchmarks.load.frames import join_frames
from benchmarks.workloads.fraud.requests import infer_message

WIDTH, REQUESTS = 44, 64


def small_inputs(root: Path) -> FraudInputs:
    """The inputs under `root`."""
    inputs = FraudInputs(root / "models", root / "requests.frames")
    rng = np.random.default_rng(1)
    for version in (1, 2):
        file = inputs.model_file(version)
        file.parent.mkdir(parents=True)
        file.write_bytes(linear_model(rng.normal(size=(WIDTH, 1)).astype(np.float32)))
    rows = rng.normal(size=(REQUESTS, WIDTH)).astype(np.float32)
    inputs.frames.write_bytes(join_frames(infer_message(row) for row in rows))
    return inputs


def linear_model(weights: npt.NDArray[np.float32]) -> bytes:
    """The sigmoid of a weighted sum, as ONNX."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", [INPUT, "weights"], ["margin"]), helper.make_node("Sigmoid", ["margin"], [OUTPUT])],
        MODEL,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
