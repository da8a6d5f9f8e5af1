"""What one graph must say to make sense, checked with the place in the file before anything is loaded. Pure.

A servable of the model repository is known only when it is loaded: then `resolution` checks what remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from engine.declaration import TensorDeclaration, Value
from engine.errors import SpecError, nearest, quoted
from engine.graph.condition import parse_condition
from engine.graph.declaration import ConstantSpec, GraphSpec, NodeSpec, Values, Wiring
from engine.graph.edges import (
    choices_of,
    cycle_in,
    fallbacks_of,
    heaviest_path,
    needs_of,
    reached,
    stood_in_with,
    waited_for,
    wired,
)
from engine.graph.known import Known, joined, mismatch, value_mismatch
from engine.graph.presence import Conditions, Presence
from engine.graph.reference import Reference, parse_reference
from engine.limits import GRAPH_NODES_MAX, INPUTS_MAX, NAME_CHARS_MAX
from engine.strict_yaml import Place
from engine.tensor import DATATYPES

Find = Callable[[str, int | None, str], Known | None]
"""A servable by name and version, None where only loading tells; raises SpecError, at the key given, where there is none."""

TIMEOUT_MS_MAX = 86_400_000
_SHARE_ERROR = 1e-9


class GraphRelations:
    """The check of one graph, whose keys in the spec begin with `where`. `check` is called once and raises SpecError."""

    def __init__(self, graph: GraphSpec, where: str, find: Find, place: Place) -> None:
        self.graph, self.find = graph, find
        self._place, self.where = place, where
        self.known: dict[str, Known | None] = {}
        self.used: dict[str, set[str]] = {name: set() for name in graph.nodes}

    def check(self) -> None:
        """All but fallbacks and records; afterwards the rest may be asked."""
        self._check_names()
        self._check_inputs()
        for name, node in self.graph.nodes.items():
            self.known[name] = self.find(node.call, node.version, f"{self.where}.nodes.{name}")
            self._check_node(name, node)
        self._check_references()
        self._check_cycle()
        self.presence = Presence(self.graph)
        for name, node in self.graph.nodes.items():
            self._check_wires(name, node)
        self.outputs = {name: self._output(name, choices) for name, choices in self.graph.outputs.items()}
        self._check_unused()
        self._check_paths()

    def place(self, key: str) -> str:
        """Where a key of the graph is written."""
        return self._place(f"{self.where}.{key}")

    # Names, numbers and words.

    def _check_names(self) -> None:
        graph = self.graph
        for key, count, most in (
            ("nodes", len(graph.nodes), GRAPH_NODES_MAX),
            ("outputs", len(graph.outputs), INPUTS_MAX),
        ):
            if not 1 <= count <= most:
                raise SpecError(f"{self.place(key)}: a graph has from 1 to {most} {key}, got {count}")
        if len(graph.inputs) > INPUTS_MAX:
            raise SpecError(f"{self.place('inputs')}: a graph has at most {INPUTS_MAX} inputs, got {len(graph.inputs)}")
        for side, names in (("inputs", graph.inputs), ("nodes", graph.nodes), ("outputs", graph.outputs)):
            for name in names:
                if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
                    raise SpecError(f"{self.place(side)}: a name has from 1 to {NAME_CHARS_MAX} printable characters")
                if side != "outputs" and ("." in name or name.startswith("$")):
                    raise SpecError(f"{self.place(f'{side}.{name}')}: the name has no dot and begins with no '$'")
        for name in graph.nodes:
            if name in graph.inputs:
                raise SpecError(
                    f"{self.place(f'nodes.{name}')}: the graph has an input {quoted(name)} too: a tensor has one source"
                )
        self._check_range("slo_ms", graph.slo_ms)

    def _check_inputs(self) -> None:
        for name, declared in self.graph.inputs.items():
            if declared.datatype not in DATATYPES:
                known = nearest(declared.datatype, DATATYPES)
                key = self.place(f"inputs.{name}.datatype")
                raise SpecError(f"{key}: unknown datatype {quoted(declared.datatype)}{known}")
            if any(size < -1 for size in declared.shape):
                key = self.place(f"inputs.{name}.shape")
                raise SpecError(f"{key}: sizes are -1 or more, got {list(declared.shape)}")

    def _check_node(self, name: str, node: NodeSpec) -> None:
        where, slo_ms = f"nodes.{name}", self.graph.slo_ms
        self._check_range(f"{where}.timeout_ms", node.timeout_ms)
        if node.timeout_ms is not None and slo_ms is not None and node.timeout_ms > slo_ms:
            raise SpecError(
                f"{self.place(f'{where}.timeout_ms')}: {_number(node.timeout_ms)} ms exceed the graph's slo_ms of "
                f"{_number(slo_ms)}"
            )
        if node.timeout_share is not None and not 0 < node.timeout_share <= 1:
            key = self.place(f"{where}.timeout_share")
            raise SpecError(f"{key}: must be above 0 and at most 1, got {node.timeout_share}")
        if node.when is not None:
            self.read(f"{where}.when", parse_condition, node.when)
        elif node.otherwise is not None:
            raise SpecError(f"{self.place(f'{where}.otherwise')}: belongs to 'when': the node always runs")

    def _check_range(self, key: str, value_ms: float | None) -> None:
        if value_ms is not None and not 0.001 <= value_ms <= TIMEOUT_MS_MAX:
            raise SpecError(f"{self.place(key)}: must be from 0.001 to {TIMEOUT_MS_MAX}, got {value_ms}")

    def read(self, key: str, read: Callable[[str], object], text: str) -> None:
        """Whether `read` can read `text`, which stands at `key`."""
        try:
            read(text)
        except SpecError as error:
            raise SpecError(f"{self.place(key)}: {error.message}") from error

    # References.

    def _check_references(self) -> None:
        graph = self.graph
        for name, node in graph.nodes.items():
            for key, text in (*waited_for(node), *stood_in_with(node)):
                self.refer(text, f"nodes.{name}.{key}")
            self._check_named(node.inputs, f"nodes.{name}.inputs")
            for key, fallback in fallbacks_of(node):
                self._check_named(fallback.inputs or {}, f"nodes.{name}.{key}.inputs")
        self._check_named(graph.outputs, "outputs")
        for key, text in wired(graph.outputs, "outputs"):
            self.refer(text, key)
        for key, text in self._recorded():
            self.refer(text, key)

    def _check_named(self, wiring: Wiring | Mapping[str, str | tuple[str, ...]], key: str) -> None:
        for tensor, wire in wiring.items():
            if wire == ():
                raise SpecError(f"{self.place(f'{key}.{tensor}')}: names no tensor")

    def _recorded(self) -> Iterator[tuple[str, str]]:
        """Key and reference of what the records take; words such as $id aside."""
        for name, record in self.graph.records.items():
            for column, text in record.columns.items():
                if not text.startswith("$"):
                    yield f"records.{name}.columns.{column}", text
            if record.when is not None:
                self.read(f"records.{name}.when", parse_condition, record.when)
                yield f"records.{name}.when", parse_condition(record.when).reference

    def refer(self, text: str, key: str) -> Reference:
        """The reference that stands at `key`, its tensor noted as used. Raises SpecError where there is no such tensor."""
        graph = self.graph
        try:
            reference = parse_reference(text, graph.nodes)
        except SpecError as error:
            raise SpecError(f"{self.place(key)}: {error.message}") from error
        if reference.node is None:
            if text in graph.nodes:
                raise SpecError(
                    f"{self.place(key)}: {quoted(text)} is a node: name one of its outputs, {self._example(text)}"
                )
            if text not in graph.inputs:
                known = nearest(text, [*graph.inputs, *self._all_outputs()])
                raise SpecError(f"{self.place(key)}: the graph has no input {quoted(text)}{known}")
            return reference
        known_node = self.known[reference.node]
        if known_node is not None and reference.tensor not in known_node.outputs:
            called = graph.nodes[reference.node].call
            raise SpecError(
                f"{self.place(key)}: node {quoted(reference.node)} calls {known_node.kind} {quoted(called)}, which has no "
                f"output {quoted(reference.tensor)}{nearest(reference.tensor, known_node.outputs)}"
            )
        self.used[reference.node].add(reference.tensor)
        return reference

    def _example(self, node: str) -> str:
        known = self.known[node]
        outputs = list(known.outputs) if known is not None else []
        output = outputs[0] if outputs else "OUTPUT"
        return f"such as {quoted(f'{node}.{output}')}"

    def _all_outputs(self) -> Iterable[str]:
        return (f"{name}.{each}" for name, known in self.known.items() if known is not None for each in known.outputs)

    def _check_cycle(self) -> None:
        self.needs = needs_of(self.graph)
        cycle = cycle_in(self.needs)
        if cycle is None:
            return
        waiting, awaited = cycle[0], cycle[-2]
        key = next(
            key
            for key, text in waited_for(self.graph.nodes[waiting])
            if parse_reference(text, self.needs).node == awaited
        )
        what = (
            f"node {quoted(waiting)} waits for itself"
            if waiting == awaited
            else "nodes wait for each other in a circle"
        )
        raise SpecError(f"{self.place(f'nodes.{waiting}.{key}')}: {what}: {' -> '.join(cycle)}")

    # Tensors.

    def type_of(self, text: str) -> TensorDeclaration | None:
        """What a checked reference names, None where only loading tells."""
        reference = parse_reference(text, self.graph.nodes)
        if reference.node is None:
            return self.graph.inputs[reference.tensor]
        known = self.known[reference.node]
        return None if known is None else known.outputs[reference.tensor]

    def check_condition(self, text: str, key: str) -> None:
        """Whether the tensor of a condition, its reference checked, can be asked so."""
        parsed, found = parse_condition(text), self.type_of(parse_condition(text).reference)
        if found is None:
            return
        if not parsed.operator and found.datatype != "BOOL":
            raise SpecError(
                f"{self.place(key)}: {quoted(parsed.reference)} is {found.datatype}, not BOOL: compare it, such as "
                f"{quoted(f'{parsed.reference} > 0.5')}"
            )
        if found.datatype in ("BYTES", "BF16"):
            raise SpecError(
                f"{self.place(key)}: {quoted(parsed.reference)} is {found.datatype}, which compares with no number"
            )

    def _check_wires(self, name: str, node: NodeSpec) -> None:
        where, under = f"nodes.{name}", self.presence.of_node(name)
        known = self.known[name]
        if node.when is not None:
            self.check_condition(node.when, f"{where}.when")
        self.check_wiring(node.inputs, f"{where}.inputs", node.call, known, under)
        if node.otherwise is not None:
            self.check_values(node.otherwise, f"{where}.otherwise", node.call, known)

    def check_wiring(
        self, wiring: Wiring, where: str, call: str, known: Known | None, under: Conditions, *, apart: bool = True
    ) -> None:
        """Whether `wiring` gives the servable what it takes, all that it must have, and nothing else. `apart`: each wire has a
        key of its own below `where`."""
        for tensor, wire in wiring.items():
            key = f"{where}.{tensor}" if apart else where
            if known is not None and tensor not in known.inputs:
                raise SpecError(
                    f"{self.place(key)}: {known.kind} {quoted(call)} has no input {quoted(tensor)}{nearest(tensor, known.inputs)}"
                )
            wanted = None if known is None else known.inputs[tensor]
            if isinstance(wire, ConstantSpec):
                self._check_value(wire.value, wanted, key, known)
                continue
            self._check_types(wire, wanted, key)
            if wanted is not None and not wanted.optional and not self.presence.is_sure(choices_of(wire), under):
                raise SpecError(
                    f"{self.place(key)}: {may_be_missing(wire)}, and {quoted(call)} needs input {quoted(tensor)}"
                )
        required = (
            () if known is None else (name for name, each in known.inputs.items() if each is None or not each.optional)
        )
        missing = [each for each in required if each not in wiring]
        if missing and known is not None:
            raise SpecError(
                f"{self.place(where)}: {known.kind} {quoted(call)} needs input {', '.join(map(quoted, missing))}"
            )

    def _check_types(
        self, wire: str | tuple[str, ...], wanted: TensorDeclaration | None, key: str
    ) -> TensorDeclaration | None:
        """Whether each reference of `wire` is what is `wanted`, or the first of them; what all of them together are."""
        found: TensorDeclaration | None = None
        for index, text in enumerate(choices_of(wire)):
            got = self.type_of(text)
            problem = mismatch(got, wanted if wanted is not None else found)
            if problem is not None:
                place = self.place(f"{key}[{index}]" if isinstance(wire, tuple) else key)
                like = "" if wanted is not None else f", as the first is ({quoted(choices_of(wire)[0])})"
                raise SpecError(f"{place}: {quoted(text)}: {problem}{like}")
            found = joined(found, got)
        return found

    def _check_value(
        self, value: Value | tuple[Value, ...], wanted: TensorDeclaration | None, key: str, known: Known | None
    ) -> None:
        problem = value_mismatch(value, wanted, rows=known is not None and known.rows)
        if problem is not None:
            raise SpecError(f"{self.place(key)}: {problem}")

    def check_values(self, values: Values, where: str, call: str, known: Known | None) -> None:
        """Whether `values` may be what outputs of the servable hold."""
        for tensor, value in values.items():
            if known is not None and tensor not in known.outputs:
                raise SpecError(
                    f"{self.place(f'{where}.{tensor}')}: {known.kind} {quoted(call)} has no output "
                    f"{quoted(tensor)}{nearest(tensor, known.outputs)}"
                )
            self._check_value(value, None if known is None else known.outputs[tensor], f"{where}.{tensor}", known)

    def _output(self, name: str, wire: str | tuple[str, ...]) -> TensorDeclaration | None:
        if not self.presence.is_sure(choices_of(wire)):
            raise SpecError(
                f"{self.place(f'outputs.{name}')}: {may_be_missing(wire)}, and a graph answers all its outputs"
            )
        return self._check_types(wire, None, f"outputs.{name}")

    # The whole.

    def _check_unused(self) -> None:
        """Every node is computed for somebody."""
        graph = self.graph
        texts = (text for _, text in (*wired(graph.outputs, "outputs"), *self._recorded()))
        ends = [named.node for text in texts if (named := parse_reference(text, graph.nodes)).node is not None]
        useful = reached(self.needs, ends)
        for name in graph.nodes:
            if name not in useful:
                raise SpecError(
                    f"{self.place(f'nodes.{name}')}: nothing uses node {quoted(name)}, neither an output nor a record nor what "
                    f"they need: remove it, or record it"
                )

    def _check_paths(self) -> None:
        """Nodes that wait for each other can all take their time and keep the graph's."""
        nodes, slo_ms = self.graph.nodes, self.graph.slo_ms
        total, path = heaviest_path(self.needs, lambda name: nodes[name].timeout_share or 0.0)
        if total > 1 + _SHARE_ERROR:
            raise SpecError(
                f"{self.place(f'nodes.{path[-1]}.timeout_share')}: the shares along {' -> '.join(path)} add up to "
                f"{_number(total)}, at most 1 is there"
            )
        if slo_ms is None:
            return
        total_ms, path = heaviest_path(self.needs, lambda name: _bound_ms(nodes[name], slo_ms))
        if total_ms > slo_ms * (1 + _SHARE_ERROR):
            key = "timeout_share" if nodes[path[-1]].timeout_ms is None else "timeout_ms"
            raise SpecError(
                f"{self.place(f'nodes.{path[-1]}.{key}')}: the bounds along {' -> '.join(path)} add up to "
                f"{_number(total_ms)} ms, more than the graph's slo_ms of {_number(slo_ms)}"
            )


def _bound_ms(node: NodeSpec, slo_ms: float) -> float:
    bounds = [node.timeout_ms] if node.timeout_ms is not None else []
    bounds += [node.timeout_share * slo_ms] if node.timeout_share is not None else []
    return min(bounds, default=0.0)


def may_be_missing(wire: str | tuple[str, ...]) -> str:
    """In words, for an error."""
    if isinstance(wire, str):
        return f"{quoted(wire)} may be missing"
    return f"each of {', '.join(map(quoted, wire))} may be missing"


def _number(value: float) -> str:
    return f"{value:.9g}"
