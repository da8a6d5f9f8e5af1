"""A declared graph and what is loaded, made into a plan: each tensor gets a slot, each node its target, wires and fallbacks.

Everything that can be known before a request comes is checked here against the signatures of what is loaded: datatypes,
shapes, and that what somebody needs is always there. What the spec alone tells was checked before, with the place in the
file (`relations`); here errors name graph, node and tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from engine.errors import FailedPrecondition, SpecError, VireoError, nearest, quoted
from engine.graph.condition import parse_condition
from engine.graph.declaration import (
    ConstantSpec,
    EnsembleSpec,
    FallbackSpec,
    GraphSpec,
    NodeSpec,
    RecordSpec,
    Values,
    Wiring,
)
from engine.graph.edges import choices_of, cycle_in, fallbacks_of, in_order, stood_in_with, waited_for, wired
from engine.graph.embedders import embedding_nodes
from engine.graph.plan import (
    Condition,
    Constant,
    Fallback,
    Node,
    Output,
    Plan,
    PlannedColumn,
    PlannedRecord,
    Slot,
    Wire,
)
from engine.graph.port import Target
from engine.graph.presence import Presence
from engine.graph.reference import Reference, parse_reference
from engine.graph.shapes import constant_of, either, fits, sized, told
from engine.graph.slots import Slots
from engine.graph.stream import check_stream
from engine.servables.signature import ANY, Signature, TensorSpec, declared_specs
from engine.tensor import DATATYPES

Find = Callable[[str, int | None], Target]


def resolve(name: str, spec: GraphSpec, find: Find) -> Plan:
    """The plan of graph `name`, whose servables `find` gives by name and version.

    Raises FailedPrecondition where they do not fit, and what `find` raises; both name graph, node and tensor.
    """
    return _Resolution(name, spec, find).plan()


class _Resolution:
    """One use of `resolve`. Nodes are looked at in the order in which they can run."""

    def __init__(self, name: str, spec: GraphSpec, find: Find) -> None:
        self._name, self._spec, self._find = name, spec, find
        self._targets: dict[str, Target] = {}
        self._lighter: dict[tuple[str, str], Target] = {}
        self._slots = Slots(spec.nodes)

    def plan(self) -> Plan:
        """See `resolve`."""
        spec = self._spec
        self._find_targets()
        used = self._used()
        streams = self._arrange(used)
        self._place()
        wires = {name: self._wires(name) for name in self._order}  # all, for each tells more of what tensors are
        consumers: dict[str, list[str]] = {name: [] for name in self._order}
        for name in self._order:
            for each in self._waits[name]:
                consumers[each].append(name)
        nodes = tuple(self._node(name, wires[name], consumers[name]) for name in self._order)
        outputs = tuple(self._output(name, choices_of(wire)) for name, wire in spec.outputs.items())
        return Plan(
            self._name,
            self._signature([each.spec for each in outputs]),
            tuple(spec.inputs),
            len(self._slots),
            nodes,
            outputs,
            None if spec.slo_ms is None else int(spec.slo_ms * 1e6),
            streams is not None,
            tuple(self._record(name, each) for name, each in spec.records.items()),
        )

    def _arrange(self, used: Mapping[str, set[str]]) -> str | None:
        """The order of the nodes, what they wait for and give; the node that streams, if one does."""
        spec = self._spec
        needs = self._waits = {name: self._read_by(node) for name, node in spec.nodes.items()}
        cycle = cycle_in(needs)
        with self._at():
            if cycle is not None or not needs:
                raise FailedPrecondition(f"nodes wait for each other: {' -> '.join(cycle)}" if cycle else "no nodes")
            streams = check_stream(spec, self._targets, needs)
        self._presence = Presence(spec)
        self._order = in_order(needs)
        self._indexes = {name: index for index, name in enumerate(self._order)}
        self._outputs = {}
        for name, target in self._targets.items():
            every = target.signature.output_names
            kept = tuple(each for each in every if each in used[name])
            self._outputs[name] = every if name == streams or not kept else kept
        return streams

    @contextmanager
    def _at(self, *place: str) -> Iterator[None]:
        """Errors begin with the graph and the place."""
        try:
            yield
        except VireoError as error:
            kind = FailedPrecondition if isinstance(error, SpecError) else type(error)
            where = ", ".join((f"graph {quoted(self._name)}", *place))
            raise kind(f"{where}: {error.message}", retry_after_s=error.retry_after_s) from error

    # What is called, and what is used of it.

    def _find_targets(self) -> None:
        for name, node in self._spec.nodes.items():
            with self._at(_node(name)):
                self._targets[name] = self._find(node.call, node.version)
            for key, fallback in fallbacks_of(node):
                if fallback.call is not None:
                    with self._at(_node(name), key):
                        target = self._lighter[name, key] = self._find(fallback.call, fallback.version)
                        if target.streams:
                            raise FailedPrecondition(f"{_version(target)} streams, and cannot stand in for one answer")
        self._find_embedders()

    def _find_embedders(self) -> None:
        """Of a node whose version is open, the one that what it is wired to was made for."""
        chosen: dict[str, tuple[str, int]] = {}
        for name, target in self._targets.items():
            for wire in target.signature.inputs:
                if wire.embedder is None:
                    continue
                with self._at(_node(name), f"input {quoted(wire.name)}"):
                    for source in embedding_nodes(self._spec, name, wire):
                        if (other := chosen.setdefault(source, wire.embedder)) != wire.embedder:
                            raise FailedPrecondition(
                                f"takes what version {wire.embedder[1]} of node {quoted(source)} gives, and others what version "
                                f"{other[1]} does"
                            )
                        self._targets[source] = self._find(*wire.embedder)

    def _used(self) -> dict[str, set[str]]:
        """The outputs of each node that anybody reads."""
        used: dict[str, set[str]] = {name: set() for name in self._spec.nodes}
        for place, text in self._references():
            with self._at(*place):
                reference = self._existing(text)
            if reference.node is not None:
                used[reference.node].add(reference.tensor)
        return used

    def _references(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Every reference of the graph and where it stands."""
        for name, node in self._spec.nodes.items():
            with self._at(_node(name), "when"):
                waited = [*waited_for(node), *stood_in_with(node)]
            yield from (((_node(name), _key(key)), text) for key, text in waited)
        for key, text in wired(self._spec.outputs, "outputs"):
            yield (f"output {quoted(key.removeprefix('outputs.'))}",), text
        for name, record in self._spec.records.items():
            for column, text in record.columns.items():
                if not text.startswith("$"):
                    yield (f"record {quoted(name)}", f"column {quoted(column)}"), text
            if record.when is not None:
                place = f"record {quoted(name)}", "when"
                with self._at(*place):
                    parsed = parse_condition(record.when)
                yield place, parsed.reference

    def _existing(self, text: str) -> Reference:
        reference = parse_reference(text, self._spec.nodes)
        if reference.node is None:
            if reference.tensor not in self._spec.inputs:
                hint = nearest(reference.tensor, self._spec.inputs)
                raise FailedPrecondition(f"the graph has no input {quoted(reference.tensor)}{hint}")
        else:
            target = self._targets[reference.node]
            names = target.signature.output_names
            if reference.tensor not in names:
                raise FailedPrecondition(
                    f"{quoted(text)}: {_version(target)} has no output {quoted(reference.tensor)}"
                    f"{nearest(reference.tensor, names)}"
                )
        return reference

    # Slots.

    def _place(self) -> None:
        """Gives each tensor its slot, and its shape as those declare it who may write it."""
        for name, declared in self._spec.inputs.items():
            self._slots.add(Reference(None, name), DATATYPES[declared.datatype], declared.shape)
        for name in self._order:
            for output in self._outputs[name]:
                spec = _named(self._targets[name], output)
                self._slots.add(Reference(name, output), spec.datatype, either(self._shapes(name, spec)))

    def _shapes(self, name: str, spec: TensorSpec) -> Iterator[tuple[int, ...]]:
        yield spec.shape
        for key, _ in fallbacks_of(self._spec.nodes[name]):
            target = self._lighter.get((name, key))
            if target is not None:
                with self._at(_node(name), key):
                    yield _stood_in_for(spec, target, self._targets[name])

    # Nodes.

    def _wires(self, name: str) -> tuple[Wire, ...]:
        node, target = self._spec.nodes[name], self._targets[name]
        wires = self._wiring((_node(name),), node.inputs, target, name)
        if node.when is None:  # else it may not have run, and its tensors be anything
            for wire, into in node.inputs.items():
                choices = choices_of(into)
                if len(choices) == 1:
                    self._slots.narrow(choices[0], target.signature.input_named[wire], _node(name))
        return wires

    def _wiring(self, place: tuple[str, ...], wiring: Wiring, target: Target, node: str) -> tuple[Wire, ...]:
        known = target.signature.input_named
        wires: list[Wire] = []
        for name, wire in wiring.items():
            with self._at(*place, f"input {quoted(name)}"):
                if name not in known:
                    raise FailedPrecondition(f"{_version(target)} has no such input{nearest(name, known)}")
                if isinstance(wire, ConstantSpec):
                    constant = constant_of(wire.value, known[name], batchable=target.signature.batchable)
                    wires.append(Wire(name, (), constant))
                else:
                    wires.append(self._wire(known[name], choices_of(wire), target, node))
        for each in known.values():
            if each.name not in wiring and not each.optional:
                with self._at(*place, f"input {quoted(each.name)}"):
                    raise FailedPrecondition(f"{_version(target)} needs it, nothing is wired to it")
        return tuple(wires)

    def _wire(self, into: TensorSpec, texts: Sequence[str], target: Target, node: str) -> Wire:
        for text in texts:
            self._slots.check(text, into)
        if not into.optional and not self._presence.is_sure(texts, self._presence.of_node(node)):
            raise FailedPrecondition(f"{_may_be_missing(texts)}, and {_version(target)} needs it")
        return Wire(into.name, self._slots.choices(texts))

    def _read_by(self, node: NodeSpec) -> tuple[str, ...]:
        """The nodes whose outputs it reads, also those that only its fallbacks do."""
        references = (parse_reference(text, self._spec.nodes) for _, text in (*waited_for(node), *stood_in_with(node)))
        return tuple(dict.fromkeys(each.node for each in references if each.node is not None))

    def _node(self, name: str, wires: tuple[Wire, ...], consumers: Sequence[str]) -> Node:
        node = self._spec.nodes[name]
        return Node(
            self._indexes[name],
            name,
            self._targets[name],
            wires,
            tuple(sorted(self._indexes[each] for each in self._waits[name])),
            tuple(self._indexes[each] for each in consumers),
            self._outputs[name],
            tuple(self._slots.of(Reference(name, each)) for each in self._outputs[name]),
            None if node.when is None else self._condition((_node(name), "when"), node.when),
            self._values(name, "otherwise", node.otherwise or {}),
            None if node.timeout_ms is None else int(node.timeout_ms * 1e6),
            node.timeout_share,
            None if node.on_error is None else self._fallback(name, "on_error", node.on_error),
            None if node.on_late is None else self._fallback(name, "on_late", node.on_late),
        )

    def _condition(self, place: tuple[str, ...], text: str) -> Condition:
        parsed = parse_condition(text)
        datatype = self._slots.datatype(parsed.reference).name
        with self._at(*place):
            if not parsed.operator and datatype != "BOOL":
                raise FailedPrecondition(
                    f"{quoted(parsed.reference)} is {datatype}, not BOOL: compare it with a number"
                )
            if datatype in ("BYTES", "BF16"):
                raise FailedPrecondition(f"{quoted(parsed.reference)} is {datatype}, which compares with no number")
        return Condition((self._slots.slot(parsed.reference),), parsed.operator, parsed.operand)

    def _values(self, name: str, key: str, values: Values) -> tuple[tuple[Slot, Constant], ...]:
        """Declared outputs of a node, those that are used, with their slots."""
        target, made = self._targets[name], []
        for output, value in values.items():
            with self._at(_node(name), f"{key}.{output}"):
                if output not in target.signature.output_names:
                    hint = nearest(output, target.signature.output_names)
                    raise FailedPrecondition(f"{_version(target)} has no output {quoted(output)}{hint}")
                spec, reference = _named(target, output), Reference(name, output)
                used = output in self._outputs[name]
                shape = sized(spec.shape, self._slots.shape(reference)) if used else spec.shape
                constant = constant_of(value, replace(spec, shape=shape), batchable=target.signature.batchable)
                if used:
                    made.append((self._slots.of(reference), constant))
        return tuple(made)

    def _fallback(self, name: str, key: str, declared: FallbackSpec) -> Fallback:
        node = self._spec.nodes[name]
        if declared.cached is not None:
            choices = self._slots.choices([declared.cached.key])
            with self._at(_node(name), f"{key}.cached.key"):
                if not self._presence.is_sure([declared.cached.key], self._presence.of_node(name)):
                    raise FailedPrecondition(f"{_may_be_missing([declared.cached.key])}: nothing to remember it by")
            return Fallback(cached=declared.cached, cached_key=choices)
        if declared.default is not None:
            missing = [each for each in self._outputs[name] if each not in declared.default]
            with self._at(_node(name), f"{key}.default"):
                if missing:
                    raise FailedPrecondition(f"no value for output {', '.join(map(quoted, missing))}, which is used")
            return Fallback(values=self._values(name, f"{key}.default", declared.default))
        target = self._lighter[name, key]
        wiring = declared.inputs
        if wiring is None:
            wiring = {each: wire for each, wire in node.inputs.items() if each in target.signature.input_named}
        return Fallback(target=target, wires=self._wiring((_node(name), key), wiring, target, name))

    # What the graph gives.

    def _output(self, name: str, texts: Sequence[str]) -> Output:
        with self._at(f"output {quoted(name)}"):
            if not self._presence.is_sure(texts):
                raise FailedPrecondition(f"{_may_be_missing(texts)}, and a graph answers all its outputs")
            return Output(self._slots.joined(name, texts), self._slots.choices(texts))

    def _record(self, name: str, declared: RecordSpec) -> PlannedRecord:
        columns = tuple(
            PlannedColumn(column, word=text)
            if text.startswith("$")
            else PlannedColumn(column, self._slots.choices([text]))
            for column, text in declared.columns.items()
        )
        when = None if declared.when is None else self._condition((f"record {quoted(name)}", "when"), declared.when)
        return PlannedRecord(name, declared.log, columns, when, declared.durable)

    def _signature(self, outputs: Sequence[TensorSpec]) -> Signature:
        inputs = declared_specs(self._spec.inputs)
        called = [each.signature for each in (*self._targets.values(), *self._lighter.values())]
        batchable = (
            all(each.shape[:1] == (ANY,) for each in (*inputs, *outputs))
            and all(each.batchable for each in called)
            and all(map(self._counts_rows, self._order))
        )
        rows_max = min((each.rows_max for each in called if each.rows_max is not None), default=None)
        signature = Signature(tuple(inputs), tuple(outputs), batchable, rows_max if batchable else None)
        if isinstance(self._spec, EnsembleSpec):
            from engine.graph.ensemble import as_configured  # loaded where there is an ensemble

            with self._at():
                return as_configured(self._spec, signature, self._targets)
        return signature

    def _counts_rows(self, name: str) -> bool:
        """Whether as many rows come out of a node as the request has: some input tells it how many these are."""
        node, signature = self._spec.nodes[name], self._targets[name].signature
        wires = node.inputs.values()
        return signature.batchable and any(
            isinstance(wire, ConstantSpec) or self._presence.is_sure(choices_of(wire), self._presence.of_node(name))
            for wire in wires
        )


def _node(name: str) -> str:
    return f"node {quoted(name)}"


def _key(key: str) -> str:
    return f"input {quoted(key.removeprefix('inputs.'))}" if key.startswith("inputs.") else key


def _version(target: Target) -> str:
    return f"{quoted(target.name)} version {target.version}"


def _may_be_missing(texts: Sequence[str]) -> str:
    return f"{'each of ' if len(texts) > 1 else ''}{', '.join(map(quoted, texts))} may be missing"


def _named(target: Target, output: str) -> TensorSpec:
    return next(each for each in target.signature.outputs if each.name == output)


def _stood_in_for(spec: TensorSpec, lighter: Target, node: Target) -> tuple[int, ...]:
    """The shape in which `lighter` gives an output of `node`. Raises FailedPrecondition where it is another tensor."""
    if spec.name not in lighter.signature.output_names:
        raise FailedPrecondition(f"{_version(lighter)} has no output {quoted(spec.name)}, which is used")
    given = _named(lighter, spec.name)
    if given.datatype is not spec.datatype or not fits(given.shape, spec.shape):
        raise FailedPrecondition(
            f"{_version(lighter)} gives {quoted(spec.name)} as {told(given.datatype, given.shape)}, "
            f"{_version(node)} as {told(spec.datatype, spec.shape)}"
        )
    return given.shape
