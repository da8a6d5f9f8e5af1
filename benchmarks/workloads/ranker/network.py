"""The ranker: a dense network over user and item features, as ONNX and as its numpy twin; and the same, wider.

Three hidden layers (256, 128, 64; ReLU) over 128 features, one score a candidate: the size of a ranking network that
scores some hundred candidates in under 100 microseconds on one core. The wide one (512, 512, 64) takes some four times
as long. Their weights are drawn, not trained: a dense network costs the same whatever its weights are.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MODEL, WIDE = "ranker", "wide_ranker"
INPUT, OUTPUT = "features", "score"
SIZES = (128, 256, 128, 64, 1)
WIDE_SIZES = (128, 512, 512, 64, 1)
NETWORKS = {MODEL: SIZES, WIDE: WIDE_SIZES}
OPSET, IR_VERSION = 17, 8

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """`rows @ weights + bias`."""

    weights: Matrix
    bias: Matrix


def make_network(*, sizes: tuple[int, ...] = SIZES, seed: int) -> list[Layer]:
    """Layers between `sizes`, drawn so that signals neither grow nor fade from layer to layer (He et al., 2015)."""
    rng = np.random.default_rng(seed)
    return [
        Layer(
            rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs)).astype(np.float32),
            rng.normal(0, 0.1, outputs).astype(np.float32),
        )
        for inputs, outputs in pairwise(sizes)
    ]


def scores(layers: list[Layer], rows: Matrix) -> Matrix:
    """What the network says of `rows`: a column of probabilities. The readable twin of the exported model."""
    for layer in layers[:-1]:
        rows = np.maximum(rows @ layer.weights + layer.bias, 0)
    margin = rows @ layers[-1].weights + layers[-1].bias
    probability: Matrix = 1 / (1 + np.exp(-margin))
    return probability


def to_onnx(layers: list[Layer]) -> onnx.ModelProto:
    """INPUT FP32 [rows, features] to OUTPUT FP32 [rows, 1]."""
    nodes, held, value = [], [], INPUT
    for number, layer in enumerate(layers):
        names = [f"weights_{number}", f"bias_{number}"]
        held += [
            numpy_helper.from_array(each, name) for each, name in zip((layer.weights, layer.bias), names, strict=True)
        ]
        last = number == len(layers) - 1
        after = OUTPUT if last else f"hidden_{number}"
        nodes.append(helper.make_node("Gemm", [value, *names], [f"sum_{number}"]))
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"sum_{number}"], [after]))
        value = after
    features, outputs = layers[0].weights.shape[0], layers[-1].weights.shape[1]
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", outputs])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model
