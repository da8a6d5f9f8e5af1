"""Random graphs: the plan is in order, each slot has one writer, and reading the plan gives what reading the spec does."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from engine import Array, Signature, Tensor, TensorSpec, datatype_named
from engine.declaration import TensorDeclaration
from engine.graph.condition import is_true, parse_condition
from engine.graph.declaration import ConstantSpec, FallbackSpec, GraphSpec, NodeSpec
from engine.graph.plan import Choices, Fallback, Plan, Wire
from engine.graph.port import Target
from engine.graph.resolution import resolve
from tests.engine.graph.signatures import Port

GRAPHS = 1_500
FP64 = datatype_named("FP64", of="tests")
Values = dict[str, Array]


@dataclass(frozen=True)
class Function:
    """Output k is (k + 1) times the sum of all inputs, each weighed by its place, and `step`."""

    target: Target
    step: float

    def __call__(self, inputs: Mapping[str, Array]) -> Values:
        signature = self.target.signature
        total = np.array([self.step])
        for place, each in enumerate(signature.inputs):
            if each.name in inputs:
                total = total + (place + 1) * inputs[each.name]
        return {each.name: (place + 1) * total for place, each in enumerate(signature.outputs)}


@dataclass
class Drawn:
    """A graph, the functions it calls, and the nodes that fail when it runs."""

    spec: GraphSpec
    functions: dict[str, Function]
    failing: set[str] = field(default_factory=set)


class Draw:
    """Draws one graph in which all is sound. `sure` are references that are always there, `known` all others too."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.functions: dict[str, Function] = {}
        self.sure, self.known = ["x"], ["x", "maybe"]
        self.failing: set[str] = set()

    def graph(self) -> Drawn:
        """See `Drawn`."""
        rng = self._rng
        nodes = {name: self._node(name) for name in (f"n{index}" for index in range(rng.randint(1, 9)))}
        names = list(nodes)
        rng.shuffle(names)
        declared = TensorDeclaration("FP64", (-1,))
        inputs = {"x": declared, "maybe": TensorDeclaration("FP64", (-1,), optional=True)}
        outputs: dict[str, str | tuple[str, ...]] = {
            f"out{index}": self._joined() if rng.random() < 0.3 else rng.choice(self.sure) for index in range(3)
        }
        return Drawn(GraphSpec(inputs, {each: nodes[each] for each in names}, outputs), self.functions, self.failing)

    def _joined(self) -> tuple[str, ...]:
        return (*self._rng.choices(self.known, k=self._rng.randint(1, 2)), self._rng.choice(self.sure))

    def _function(self, name: str, outputs: int, inputs: int) -> Function:
        rng = self._rng
        taken = tuple(TensorSpec(f"i{each}", FP64, (-1,), rng.random() < 0.5) for each in range(inputs))
        given = tuple(TensorSpec(f"o{each}", FP64, (-1,)) for each in range(outputs))
        target = Target(name, 1, Signature(taken, given, batchable=True), False, Port())
        function = self.functions[name] = Function(target, float(rng.randint(-9, 9)))
        return function

    def _wires(self, function: Function) -> dict[str, str | tuple[str, ...] | ConstantSpec]:
        rng = self._rng
        wires: dict[str, str | tuple[str, ...] | ConstantSpec] = {}
        for each in function.target.signature.inputs:
            drawn = rng.random()
            if drawn < 0.15:
                wires[each.name] = ConstantSpec(float(rng.randint(-5, 5)))
            elif drawn < 0.35:
                wires[each.name] = self._joined()
            elif not each.optional:
                wires[each.name] = rng.choice(self.sure)
            elif drawn < 0.9:
                wires[each.name] = rng.choice(self.known)
        return wires

    def _node(self, name: str) -> NodeSpec:
        rng = self._rng
        function = self._function(f"f_{name}", rng.randint(1, 3), rng.randint(1, 3))
        outputs = function.target.signature.output_names
        wires = self._wires(function)
        when = f"{rng.choice(self.known)} > {rng.randint(-30, 30)}" if rng.random() < 0.4 else None
        otherwise = {each: float(rng.randint(-9, 9)) for each in outputs if rng.random() < 0.5} if when else None
        on_error = self._fallback(name, function, wires) if rng.random() < 0.5 else None
        if on_error is not None and rng.random() < 0.5:
            self.failing.add(name)
        for each in outputs:
            self.known.append(f"{name}.{each}")
            if when is None or (otherwise and each in otherwise):
                self.sure.append(f"{name}.{each}")
        return NodeSpec(f"f_{name}", wires, when=when, otherwise=otherwise, on_error=on_error)

    def _fallback(
        self, name: str, function: Function, wires: Mapping[str, str | tuple[str, ...] | ConstantSpec]
    ) -> FallbackSpec:
        rng, outputs = self._rng, function.target.signature.output_names
        if rng.random() < 0.4:
            return FallbackSpec(default={each: float(rng.randint(-9, 9)) for each in outputs})
        own = rng.random() < 0.5
        lighter = self._function(f"light_{name}", len(outputs) + rng.randint(0, 1), 3)
        if own:  # it takes what the node has
            signature = function.target.signature
            lighter = self.functions[f"light_{name}"] = Function(
                Target(
                    f"light_{name}",
                    1,
                    Signature(signature.inputs[:2], lighter.target.signature.outputs, True),
                    False,
                    Port(),
                ),
                lighter.step,
            )
        return FallbackSpec(call=f"light_{name}", inputs=None if own else self._wires(lighter))


class Oracle:
    """Reads the spec itself, from the outputs back."""

    def __init__(self, drawn: Drawn, inputs: Values) -> None:
        self._drawn, self._inputs = drawn, inputs
        self._answers: dict[str, Values] = {}

    def outputs(self) -> Values:
        """Of the graph."""
        return {name: self._first(wire) for name, wire in self._drawn.spec.outputs.items()}  # type: ignore[misc]

    def _first(self, wire: str | tuple[str, ...]) -> Array | None:
        for text in (wire,) if isinstance(wire, str) else wire:
            node, _, tensor = text.rpartition(".")
            found = self._answer(node).get(tensor) if node else self._inputs.get(tensor)
            if found is not None:
                return found
        return None

    def _answer(self, name: str) -> Values:
        if name not in self._answers:
            self._answers[name] = self._computed(name)
        return self._answers[name]

    def _computed(self, name: str) -> Values:
        node = self._drawn.spec.nodes[name]
        if node.when is not None:
            condition = parse_condition(node.when)
            asked = self._first(condition.reference)
            if asked is None or not is_true(condition.operator, condition.operand, asked):
                return self._fixed(node.otherwise or {})
        if name not in self._drawn.failing:
            return self._called(node.call, node.inputs)
        assert node.on_error is not None
        if node.on_error.default is not None:
            return self._fixed(node.on_error.default)
        assert node.on_error.call is not None
        return self._called(node.on_error.call, node.inputs if node.on_error.inputs is None else node.on_error.inputs)

    def _fixed(self, values: Mapping[str, object]) -> Values:
        return {each: np.full(len(self._inputs["x"]), value) for each, value in values.items()}

    def _called(self, call: str, wires: Mapping[str, str | tuple[str, ...] | ConstantSpec]) -> Values:
        function = self._drawn.functions[call]
        inputs = {}
        for each in function.target.signature.inputs:
            wire = wires.get(each.name, ())
            found = self._fixed({"": wire.value})[""] if isinstance(wire, ConstantSpec) else self._first(wire)
            if found is not None:
                inputs[each.name] = found
        return function(inputs)


class Reader:
    """Reads the plan, node by node, and holds it to its promises."""

    def __init__(self, drawn: Drawn, plan: Plan, inputs: Values) -> None:
        self._drawn, self._plan = drawn, plan
        self._rows = len(inputs["x"])
        self._values: list[Array | None] = [inputs.get(name) for name in plan.input_names]
        self._values += [None] * (plan.slots - len(self._values))
        self._readable: set[int] = set(range(len(plan.input_names)))

    def outputs(self) -> Values:
        """Of the graph."""
        written = set(self._readable)
        for node in self._plan.nodes:
            assert not written & set(node.slots), "a slot has one writer"
            written |= set(node.slots)
        assert written == set(range(self._plan.slots))
        for index, node in enumerate(self._plan.nodes):
            assert node.index == index
            assert all(need < index for need in node.needs)
            assert all(index in self._plan.nodes[need].consumers for need in node.needs)
            assert all(index in self._plan.nodes[each].needs for each in node.consumers)
            self._readable = set(range(len(self._plan.input_names)))
            self._readable |= {slot for need in node.needs for slot in self._plan.nodes[need].slots}
            self._run(index)
        self._readable = written
        return {each.spec.name: self._first(each.choices) for each in self._plan.outputs}  # type: ignore[misc]

    def _first(self, choices: Choices) -> Array | None:
        assert set(choices) <= self._readable, "what is read was waited for"
        return next((self._values[each] for each in choices if self._values[each] is not None), None)

    def _run(self, index: int) -> None:
        node = self._plan.nodes[index]
        if node.when is not None:
            asked = self._first(node.when.choices)
            if asked is None or not is_true(node.when.operator, node.when.operand, asked):
                self._fill(Fallback(values=node.otherwise), index)
                return
        if node.name in self._drawn.failing:
            assert node.on_error is not None
            self._fill(node.on_error, index)
        else:
            self._call(node.target, node.wires, index)

    def _fill(self, fallback: Fallback, index: int) -> None:
        if fallback.target is not None:
            self._call(fallback.target, fallback.wires, index)
        for slot, constant in fallback.values or ():
            assert slot in self._plan.nodes[index].slots
            self._values[slot] = constant.of(self._rows).array

    def _call(self, target: Target, wires: tuple[Wire, ...], index: int) -> None:
        found = {
            w.name: self._first(w.choices) if w.constant is None else w.constant.of(self._rows).array for w in wires
        }
        inputs = {name: array for name, array in found.items() if array is not None}
        tensors = {name: Tensor(FP64, array) for name, array in inputs.items()}
        target.signature.check(target.name, tensors, self._plan.nodes[index].outputs)
        answer = self._drawn.functions[target.name](inputs)
        node = self._plan.nodes[index]
        for name, slot in zip(node.outputs, node.slots, strict=True):
            self._values[slot] = np.broadcast_to(answer[name], (self._rows,))


def test_reading_the_plan_gives_what_reading_the_spec_does() -> None:
    rng = random.Random(11)
    for number in range(GRAPHS):
        drawn = Draw(rng).graph()
        functions = drawn.functions
        plan = resolve("g", drawn.spec, lambda name, version, functions=functions: functions[name].target)  # type: ignore[misc]
        rows = rng.randint(1, 3)
        inputs = {"x": np.array([float(rng.randint(-9, 9)) for _ in range(rows)])}
        if rng.random() < 0.5:
            inputs["maybe"] = np.array([float(rng.randint(-9, 9)) for _ in range(rows)])
        wanted, got = Oracle(drawn, inputs).outputs(), Reader(drawn, plan, inputs).outputs()
        assert wanted.keys() == got.keys()
        for name, array in wanted.items():
            assert np.array_equal(np.broadcast_to(array, (rows,)), got[name]), f"graph {number} of seed 11, {name}"


def test_same_graph_is_resolved_alike() -> None:
    for number in range(50):
        plans = []
        for _ in range(2):
            drawn = Draw(random.Random(number)).graph()
            functions = drawn.functions
            plan = resolve("g", drawn.spec, lambda name, version, functions=functions: functions[name].target)  # type: ignore[misc]
            plans.append([(each.name, each.slots, each.needs, each.outputs) for each in plan.nodes])
        assert plans[0] == plans[1], f"seed {number}"
