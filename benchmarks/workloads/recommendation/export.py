"""Towers and ranker as ONNX, from their weights by name; built by hand, so torch's exporter and what it needs are not wanted.

| model | inputs | output |
|---|---|---|
| user_tower | user FP32 [n, 43], history INT64 [n, 50], the latest first, 0: none | vector FP32 [n, 64] |
| item_tower | features FP32 [n, 38], item INT64 [n] | vector FP32 [n, 64] |
| ranker | user FP32 [1, 43], user_vector FP32 [1, 64], items FP32 [n, 102], item INT64 [n], category INT64 [n] | score FP32 [n] |

Columns are `features.USER_COLUMNS` and ITEM_COLUMNS; `items` is ITEM_COLUMNS and the item's vector. Scores are from 0 to 1. Cold
start: a number beyond those learnt is taken for 0, which says nothing; no history is zeros, as is a user not known at all.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.workloads.drawing import Drawing, Inputs
from benchmarks.workloads.recommendation.application import FEATURES, HISTORY, ITEM, USER, VECTOR

PARITY_BOUND = 1e-5
FIELDS, SIZE = 6, 16
"""Vectors of a ranker's candidate whose dot products are taken, and how long they are."""

Weights = dict[str, NDArray[np.float32]]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class ParityError(Exception):
    """An exported model does not say what the trained one says."""


def user_tower(weights: Weights) -> onnx.ModelProto:
    """The mean of the history's rows (as if there were one item more, of zeros) beside the user's row."""
    draw = Drawing(weights)
    second, one = draw.hold("second", np.array([1])), draw.hold("one", np.array(1, np.float32))
    each = draw.embedded("past", "history")
    positive = draw.add("Greater", ["past.row", "zero"], "counted")
    mask = draw.add("Cast", [positive], "mask", to=FLOAT)
    total = draw.add("ReduceSum", [each, second], "total", keepdims=0)  # row 0 is zeros
    count = draw.add("Add", [draw.add("ReduceSum", [mask, second], "items", keepdims=1), one], "count")
    past = draw.add("Div", [total, count], "past")
    both = draw.add("Concat", ["user", past], "both", axis=1)
    deep = draw.linear("user_last", draw.relu(draw.linear("user_hidden", both)))
    draw.add("Add", [draw.linear("past_direct", past), deep], "vector")
    inputs: Inputs = {"user": (FLOAT, ["n", USER]), "history": (INT64, ["n", HISTORY])}
    return draw.model("user_tower", inputs, "vector", ["n", VECTOR])


def item_tower(weights: Weights) -> onnx.ModelProto:
    """What the number taught beside what the features say."""
    draw = Drawing(weights)
    deep = draw.linear("item_last", draw.relu(draw.linear("item_hidden", "features")))
    draw.add("Add", [draw.embedded("number", "item"), deep], "vector")
    inputs: Inputs = {"features": (FLOAT, ["n", FEATURES]), "item": (INT64, ["n"])}
    return draw.model("item_tower", inputs, "vector", ["n", VECTOR])


def ranker(weights: Weights) -> onnx.ModelProto:
    """The user's part is computed once and broadcast."""
    draw = Drawing(weights)
    draw.hold("parts", np.array([FEATURES, VECTOR]))
    draw.nodes.append(helper.make_node("Split", ["items", "parts"], ["features_of", "vector_of"], axis=1))
    near = draw.add("MatMul", ["vector_of", draw.add("Transpose", ["user_vector"], "column", perm=[1, 0])], "nearness")
    rows = draw.add("Shape", ["item"], "rows")
    size = draw.add("Concat", [rows, draw.hold("wide", np.array([SIZE]))], "size", axis=0)
    of_user = draw.add("Expand", [draw.relu(draw.linear("user", "user")), size], "of_user")
    of_vector = draw.add("Expand", [draw.linear("user_vector", "user_vector"), size], "of_vector")
    of_features = draw.relu(draw.linear("features", "features_of"))
    fields = [of_user, of_vector, of_features, draw.linear("item_vector", "vector_of"),
              draw.embedded("number", "item"), draw.embedded("category", "category")]  # fmt: skip
    pairs = _pairs(draw, fields)
    top = draw.add("Concat", [pairs, near, of_user, of_features], "top", axis=1)
    hidden = draw.relu(draw.linear("top_1", draw.relu(draw.linear("top_0", top))))
    logit = draw.add("Add", [draw.linear("top_2", hidden), draw.linear("near", near)], "logit")
    column = draw.add("Sigmoid", [logit], "column_of_scores")
    draw.add("Squeeze", [column, draw.hold("last", np.array([1]))], "score")
    inputs: Inputs = {
        "user": (FLOAT, [1, USER]), "user_vector": (FLOAT, [1, VECTOR]), "items": (FLOAT, ["n", ITEM]),
        "item": (INT64, ["n"]), "category": (INT64, ["n"]),
    }  # fmt: skip
    return draw.model("ranker", inputs, "score", ["n"])


def _pairs(draw: Drawing, fields: Sequence[str]) -> str:
    """Dot products of each two fields, [n, FIELDS * (FIELDS - 1) / 2]."""
    flat = draw.add("Concat", fields, "flat", axis=1)
    stacked = draw.add("Reshape", [flat, draw.hold("stack", np.array([-1, FIELDS, SIZE]))], "stacked")
    turned = draw.add("Transpose", [stacked], "turned", perm=[0, 2, 1])
    square = draw.add("MatMul", [stacked, turned], "square")
    row = draw.add("Reshape", [square, draw.hold("line", np.array([-1, FIELDS * FIELDS]))], "line_of_products")
    one, other = np.triu_indices(FIELDS, 1)
    return draw.add("Gather", [row, draw.hold("above", one * FIELDS + other)], "pairs", axis=1)


def check_parity(model: str, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The greatest difference. Raises ParityError where it is over PARITY_BOUND."""
    difference = float(np.abs(ours - theirs).max())
    if not difference <= PARITY_BOUND:
        raise ParityError(f"ONNX '{model}' is up to {difference:.2g} from what was trained, over {PARITY_BOUND:g}")
    return difference
