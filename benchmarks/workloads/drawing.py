"""ONNX graphs drawn by hand: nodes and constants, as they are added, over weights by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
FLOAT = TensorProto.FLOAT

Inputs = dict[str, tuple[int, list[int | str]]]
"""Datatype and shape of each."""


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
