"""Towers and ranker as ONNX, from their weights by name; built by hand, so torch's exporter and what it needs are not wanted.

| model | inputs | output |
|---|---|---|
| user_tower | user FP32 [n, 43], history INT64 [n, 50], the latest first, 0: none | vector FP32 [n, 64] |
| item_tower | features FP32 [n, 38], item INT64 [n] | vector FP32 [n, 64] |
| ranker | user FP32 [1, 43], user_vector FP32 [1, 64], items FP32 [n, 102], item INT64 [n], category INT64 [n] | score FP32 [n] |

Columns are `features.USER_COLUMNS` and ITEM_COLUMNS; `items` is ITEM_COLUMNS and the item's vector. Scores are from 0 to 1. Cold
start: a number beyond those learnt is taken for 0, which says nothing; no history is zeros, as is a user not known at all.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from benchmarks.workloads.drawing import Drawing, Inputs
from benchmarks.workloads.recommendation.application import FEATURES, HISTORY, ITEM, USER, VECTOR

PARITY_BOUND = 1e-5
FIELDS, SIZE = 6, 16
"""Vectors of a ranker's candidate whose dot products are taken, and how long they are."""

Weights = Mapping[str, NDArray[np.float32]]
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
    """What is of the user alone is computed once: its part of the top's first layer is a bias there, and products of its two
    fields with the candidates' four are one matrix product."""
    draw = Drawing(weights)
    of_user = draw.relu(draw.linear("user", "user"))
    of_vector = draw.linear("user_vector", "user_vector")
    near, of_features, of_item = _of_rows(draw)
    number, category = draw.embedded("number", "item"), draw.embedded("category", "category")
    candidate = [of_features, of_item, number, category]
    flat = draw.add("Concat", candidate, "flat", axis=1)
    mixed = draw.add("MatMul", [flat, _spread(draw, [of_user, of_vector])], "with_user")
    top = draw.add("Concat", [mixed, _pairs(draw, candidate), near, of_features], "top", axis=1)
    first = draw.add("Add", [draw.add("MatMul", [top, draw.hold("top_0.of_items", _top_of_items(weights))], "top_0.product"),
                             _bias(draw, of_user, of_vector)], "top_0.sum")  # fmt: skip
    hidden = draw.relu(draw.linear("top_1", draw.relu(first)))
    logit = draw.add("Add", [draw.linear("top_2", hidden), draw.linear("near", near)], "logit")
    column = draw.add("Sigmoid", [logit], "column_of_scores")
    draw.add("Squeeze", [column, draw.hold("last", np.array([1]))], "score")
    inputs: Inputs = {
        "user": (FLOAT, [1, USER]), "user_vector": (FLOAT, [1, VECTOR]), "items": (FLOAT, ["n", ITEM]),
        "item": (INT64, ["n"]), "category": (INT64, ["n"]),
    }  # fmt: skip
    return draw.model("ranker", inputs, "score", ["n"])


def _of_rows(draw: Drawing) -> tuple[str, str, str]:
    """Nearness to the user [n, 1], and the fields of features and vector: of whole rows, of which no part is copied out."""
    weights, wide = draw.weights, np.zeros((ITEM, 2 * SIZE), np.float32)
    wide[:FEATURES, :SIZE], wide[FEATURES:, SIZE:] = weights["features.weight"].T, weights["item_vector.weight"].T
    bias = np.concatenate([weights["features.bias"], weights["item_vector.bias"]])
    product = draw.add("MatMul", ["items", draw.hold("rows.weight", wide)], "rows.product")
    both = draw.add("Add", [product, draw.hold("rows.bias", bias)], "rows.sum")
    middle, end = draw.hold("middle", np.array([SIZE])), draw.hold("end", np.array([2 * SIZE]))
    begin, columns = draw.hold("begin", np.array([0])), draw.hold("columns", np.array([1]))
    of_features = draw.relu(draw.add("Slice", [both, begin, middle, columns], "of_features"))
    of_item = draw.add("Slice", [both, middle, end, columns], "of_item")
    column = draw.add("Transpose", ["user_vector"], "column", perm=[1, 0])
    none = draw.hold("no_features", np.zeros((FEATURES, 1), np.float32))
    near = draw.add("MatMul", ["items", draw.add("Concat", [none, column], "long_column", axis=0)], "nearness")
    return near, of_features, of_item


def _spread(draw: Drawing, of_user: Sequence[str]) -> str:
    """What the candidates' fields, beside one another, are multiplied with to give their products with the user's: a column for
    each two, which is one of the user's where that field is, else zeros."""
    blocks = draw.hold("blocks", np.kron(np.eye(FIELDS - len(of_user)), np.ones((SIZE, 1))).astype(np.float32))
    spread = []
    for each in of_user:
        column = draw.add("Transpose", [each], f"{each}.column", perm=[1, 0])
        tall = draw.add("Concat", [column] * (FIELDS - len(of_user)), f"{each}.tall", axis=0)
        spread.append(draw.add("Mul", [tall, blocks], f"{each}.spread"))
    return draw.add("Concat", spread, "spread", axis=1)


def _pairs(draw: Drawing, fields: Sequence[str]) -> str:
    """Dot products of each two of a candidate's fields, [n, pairs]."""
    ones, others = (each.tolist() for each in np.triu_indices(len(fields), 1))
    left = draw.add("Concat", [fields[at] for at in ones], "ones", axis=1)
    right = draw.add("Concat", [fields[at] for at in others], "others", axis=1)
    sums = np.kron(np.eye(len(ones)), np.ones((SIZE, 1))).astype(np.float32)
    return draw.add("MatMul", [draw.add("Mul", [left, right], "products"), draw.hold("sums", sums)], "pairs")


def _top(weights: Weights) -> tuple[NDArray[np.float32], dict[tuple[int, int], int]]:
    """The top's first layer [inputs, outputs]; where in it the product of two fields is, all of them before nearness, what is of
    the user, and what is of the features."""
    pairs = zip(*(each.tolist() for each in np.triu_indices(FIELDS, 1)), strict=True)
    return weights["top_0.weight"].T, {pair: at for at, pair in enumerate(pairs)}


def _top_of_items(weights: Weights) -> NDArray[np.float32]:
    """Of what differs among candidates: products with the user, with the user's vector, among themselves, nearness, features."""
    whole, place = _top(weights)
    with_user = [place[user, field] for user in (0, 1) for field in range(2, FIELDS)]
    among = [place[one, other] for one in range(2, FIELDS) for other in range(one + 1, FIELDS)]
    near = len(place)
    return whole[[*with_user, *among, near, *range(near + 1 + SIZE, len(whole))]].copy()


def _bias(draw: Drawing, of_user: str, of_vector: str) -> str:
    """What the top's first layer makes of the user alone, [1, outputs]."""
    whole, place = _top(draw.weights)
    near = len(place)
    column = draw.add("Transpose", [of_vector], "of_vector.upright", perm=[1, 0])
    product = draw.add("MatMul", [of_user, column], "user.with_vector")
    alone = draw.add("Concat", [product, of_user], "user.alone", axis=1)
    held = draw.hold("top_0.of_user", whole[[place[0, 1], *range(near + 1, near + 1 + SIZE)]].copy())
    bias = draw.hold("top_0.bias", draw.weights["top_0.bias"])
    return draw.add("Add", [draw.add("MatMul", [alone, held], "user.top"), bias], "user.bias_of_top")


def check_parity(model: str, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The greatest difference. Raises ParityError where it is over PARITY_BOUND."""
    difference = float(np.abs(ours - theirs).max())
    if not difference <= PARITY_BOUND:
        raise ParityError(f"ONNX '{model}' is up to {difference:.2g} from what was trained, over {PARITY_BOUND:g}")
    return difference
