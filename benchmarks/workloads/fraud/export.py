"""A LightGBM binary classifier as ONNX that takes the same path through every tree. The one file that knows onnxmltools.

LightGBM compares a feature with a float64 threshold: `x <= t`. ONNX trees over float32 hold t as float32, and the
converter rounds it to the nearest one. Where that one is above t, a row with just that value turns left instead of
right; as t lies between two training values, which may be neighbours in float32, such rows exist. For a float32 x,
`x <= t` is the same as `x <= f` with f the largest float32 not above t: so thresholds are rounded down before the
conversion, every path stays, and only the float32 sum over the leaves differs, by some 1e-7.
"""

import os
import re
from collections.abc import Mapping

import lightgbm
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from benchmarks.fraud_inputs import INPUT, MODEL, OUTPUT

PARITY_BOUND = 1e-5
OPSET, ML_OPSET, IR_VERSION = 17, 3, 8

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]


class ParityError(Exception):
    """The exported model does not say what LightGBM says."""


def float32_floor(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest float32 that is not above each value, as float64."""
    with np.errstate(over="ignore"):  # LightGBM writes an unbounded threshold as 1e300
        nearest = values.astype(np.float32)
        down = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest > values, down, nearest).astype(np.float64)


def to_onnx(
    booster: lightgbm.Booster, *, rounded: bool = True, notes: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """INPUT FP32 [batch, features] to OUTPUT FP32 [batch, 1], the probability of class 1.

    Missing values (NaN) go where LightGBM sends them. `rounded=False` leaves thresholds to the converter, to show what
    that costs. `notes` become the file's metadata.
    """
    features = booster.num_feature()
    margin = helper.make_node(
        "TreeEnsembleRegressor", [INPUT], ["margin"], domain="ai.onnx.ml", **trees(booster, rounded)
    )
    # The regressor's own LOGISTIC is not applied by ONNX Runtime where there is one target; the operator is.
    link = helper.make_node("Sigmoid", ["margin"], [OUTPUT])
    graph = helper.make_graph(
        [margin, link],
        MODEL,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="lightgbm")
    helper.set_model_props(model, dict(notes or {}))
    onnx.checker.check_model(model)
    return model


def trees(booster: lightgbm.Booster, rounded: bool) -> dict[str, object]:
    """The attributes of the ONNX node that sums the booster's leaves."""
    summing = lightgbm.Booster(model_str=summing_text(booster.model_to_string(), rounded))
    converted = convert_lightgbm(summing, initial_types=[(INPUT, FloatTensorType([None, booster.num_feature()]))])
    (node,) = [node for node in converted.graph.node if node.op_type == "TreeEnsembleRegressor"]
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def summing_text(text: str, rounded: bool) -> str:
    """LightGBM's text form of the same trees without link function, thresholds rounded down to float32 if asked.

    Raises ValueError for categorical splits, whose thresholds are no numbers.
    """
    if re.search(r"^num_cat=[^0]", text, re.MULTILINE):
        raise ValueError("categorical splits cannot be exported")
    if rounded:
        text = re.sub(r"^threshold=(.*)$", _rounded, text, flags=re.MULTILINE)
    text = re.sub(r"^objective=.*$", "objective=regression", text, flags=re.MULTILINE)
    return re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE)  # byte counts, optional, no longer true


def _rounded(line: re.Match[str]) -> str:
    thresholds = float32_floor(np.array(line[1].split(), np.float64))
    return "threshold=" + " ".join(map(repr, thresholds.tolist()))


def onnx_scores(model: onnx.ModelProto, matrix: Matrix, *, output: str = OUTPUT) -> NDArray[np.float32]:
    """What the exported model says of each row, by ONNX Runtime; `output` has one column."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default in wheels from 1.29 on, read at import
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run([output], {INPUT: matrix})
    column: NDArray[np.float32] = scores[:, 0]
    return column


def max_difference(model: onnx.ModelProto, matrix: Matrix, scores: Scores) -> float:
    """The largest distance of the exported model's scores from `scores`, LightGBM's own."""
    return float(np.abs(onnx_scores(model, matrix) - scores).max())


def check_parity(difference: float) -> None:
    """Raises ParityError when the difference is over PARITY_BOUND."""
    if not difference <= PARITY_BOUND:
        raise ParityError(f"ONNX scores are up to {difference:.2g} from LightGBM's, over {PARITY_BOUND:g}")
