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
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.workloads.recommendation.application import FEATURES, HISTORY, ITEM, USER, VECTOR

OPSET, IR_VERSION = 17, 8
PARITY_BOUND = 1e-5
FIELDS, SIZE = 6, 16
"""Vectors of a ranker's candidate whose dot products are taken, and how long they are."""

Inputs = dict[str, tuple[int, list[int | str]]]
"""Datatype and shape of each."""
Weights = dict[str, NDArray[np.float32]]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class ParityError(Exception):
    """An exported model does not say what the trained one says."""


@dataclass(slots=True)
class Drawing:
    """Nodes and constants of one graph, as they are added."""

    weights: Mapping[str, NDArray[np.float32]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    held: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """One node; its output's name."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def hold(self, name: str, value: NDArray[np.generic]) -> str:
        """A constant."""
        self.held[name] = value
        return name

    def linear(self, part: str, value: str) -> str:
        """The layer `part` of a value."""
        inputs = [value, self.hold(f"{part}.weight", self.weights[f"{part}.weight"].T.copy())]
        out = self.add("MatMul", inputs, f"{part}.product")
        bias = self.weights.get(f"{part}.bias")
        return out if bias is None else self.add("Add", [out, self.hold(f"{part}.bias", bias)], f"{part}.sum")

    def relu(self, value: str) -> str:
        """Its positive part."""
        return self.add("Relu", [value], f"{value}.positive")

    def embedded(self, part: str, numbers: str) -> str:
        """Rows of the table `part`; of its row 0 where a number is not in it."""
        table = self.weights[f"{part}.weight"]
        zero, rows = self.hold("zero", np.array(0)), self.hold(f"{part}.rows", np.array(len(table)))
        known = self.add("And", [self.add("GreaterOrEqual", [numbers, zero], f"{part}.least"),
                                 self.add("Less", [numbers, rows], f"{part}.most")], f"{part}.known")  # fmt: skip
        row = self.add("Where", [known, numbers, zero], f"{part}.row")
        return self.add("Gather", [self.hold(f"{part}.weight", table), row], f"{part}.embedded")

    def model(self, name: str, inputs: Inputs, output: str, shape: Sequence[int | str]) -> onnx.ModelProto:
        """The graph with these ends, checked."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(each, *kind) for each, kind in inputs.items()],
            [helper.make_tensor_value_info(output, FLOAT, shape)],
            [numpy_helper.from_array(np.asarray(value), each) for each, value in self.held.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(made)
        return made


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
