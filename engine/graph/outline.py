"""What a plan says, in the names of the spec, for people: `vireo explain` prints and draws it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engine.graph.admission import chains_ns
from engine.graph.plan import Choices, Condition, Constant, Fallback, Node, Plan, PlannedRecord, Wire
from engine.servables.signature import Signature

_VALUE_CHARS = 40

Named = Callable[[Choices], str]


@dataclass(frozen=True, slots=True)
class NodeOutline:
    """One node. `inputs`: name and where it is from, as are those of its fallbacks in `notes`. `needs` are indexes of nodes,
    `seldom` those of them that only its condition and its fallbacks read. `notes`: condition, bounds and fallbacks, in words.
    """

    name: str
    calls: str
    version: int
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    needs: tuple[int, ...]
    seldom: tuple[int, ...]
    from_request: bool
    to_answer: bool
    conditional: bool
    stood_in_for: bool
    notes: tuple[str, ...]
    expected_ns: int


@dataclass(frozen=True, slots=True)
class GraphOutline:
    """A graph. `outputs`: name and where it is from. `critical` are the indexes of the nodes on the chain that is expected to
    take longest, for one row, `expected_ns`; none before anything is known."""

    name: str
    signature: Signature
    outputs: tuple[tuple[str, str], ...]
    nodes: tuple[NodeOutline, ...]
    critical: tuple[int, ...]
    expected_ns: int
    slo_ns: int | None
    streams: bool
    records: tuple[str, ...]


def outline(plan: Plan) -> GraphOutline:
    """See the module; asks the nodes' ports what they expect for one row."""
    expected = [each.target.port.expected_ns(1) for each in plan.nodes]
    named = _names(plan)
    owner = {slot: each.index for each in plan.nodes for slot in each.slots}
    ends = {owner[slot] for each in plan.outputs for slot in each.choices if slot in owner}
    chains = chains_ns(expected, [each.consumers for each in plan.nodes])
    return GraphOutline(
        plan.name,
        plan.signature,
        tuple((each.spec.name, named(each.choices)) for each in plan.outputs),
        tuple(
            _node(each, owner, named, to_answer=each.index in ends, expected_ns=expected[each.index])
            for each in plan.nodes
        ),
        tuple(_critical(plan, chains)),
        max(chains, default=0),
        plan.slo_ns,
        plan.streams,
        tuple(_record(each, named) for each in plan.records),
    )


def _names(plan: Plan) -> Named:
    names = dict(enumerate(plan.input_names))
    for node in plan.nodes:
        names |= {slot: f"{node.name}.{output}" for slot, output in zip(node.slots, node.outputs, strict=True)}

    def named(choices: Choices) -> str:
        return ", else ".join(names[each] for each in choices)

    return named


def _critical(plan: Plan, chains: Sequence[int]) -> Iterator[int]:
    following: Sequence[int] = [each.index for each in plan.nodes if not each.needs]
    while following:
        found = max(following, key=lambda index: (chains[index], -index))
        if not chains[found]:
            return
        yield found
        following = plan.nodes[found].consumers


def _node(node: Node, owner: dict[int, int], named: Named, *, to_answer: bool, expected_ns: int) -> NodeOutline:
    read = {slot for wire in node.wires for slot in wire.choices}
    always = {owner[slot] for slot in read if slot in owner}
    asked = set() if node.when is None else set(node.when.choices)
    return NodeOutline(
        node.name,
        node.target.name,
        node.target.version,
        tuple((each.name, _source(each, named)) for each in node.wires),
        node.outputs,
        node.needs,
        tuple(each for each in node.needs if each not in always),
        any(slot not in owner for slot in read | asked),
        to_answer,
        node.when is not None,
        node.on_error is not None or node.on_late is not None,
        tuple(_notes(node, named)),
        expected_ns,
    )


def _source(wire: Wire, named: Named) -> str:
    return named(wire.choices) if wire.constant is None else f"always {_value(wire.constant)}"


def _value(constant: Constant) -> str:
    values = (constant.tensor.array[:1] if constant.rows else constant.tensor.array).ravel()[:_VALUE_CHARS].tolist()
    words = [_word(each) for each in values]
    text = words[0] if len(set(words)) == 1 else f"[{', '.join(words)}]"
    return text if len(text) <= _VALUE_CHARS else f"{text[:_VALUE_CHARS]}..."


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.7g}"  # as many digits as FP32 holds
    return repr(value.decode("utf-8", "replace")) if isinstance(value, bytes) else str(value).lower()


def _notes(node: Node, named: Named) -> Iterator[str]:
    if node.when is not None:
        yield f"when {_condition(node.when, named)}"
    if node.otherwise:
        yield f"otherwise {_fixed(node, node.otherwise)}"
    if node.timeout_ns is not None:
        yield f"at most {node.timeout_ns / 1e6:g} ms"
    if node.timeout_share is not None:
        yield f"at most {node.timeout_share:.0%} of the request's budget"
    for why, fallback in (("late", node.on_late), ("failed", node.on_error)):
        if fallback is not None:
            yield f"if {why}: {_fallback(node, fallback, named)}"


def _condition(condition: Condition, named: Named) -> str:
    operand = f" {condition.operator} {condition.operand:g}" if condition.operator else ""
    return f"{named(condition.choices)}{operand}"


def _fixed(node: Node, values: Sequence[tuple[int, Constant]]) -> str:
    names = dict(zip(node.slots, node.outputs, strict=True))
    return ", ".join(f"{names[slot]} = {_value(constant)}" for slot, constant in values)


def _fallback(node: Node, fallback: Fallback, named: Named) -> str:
    if fallback.cached is not None:
        return f"the last answer for the same {named(fallback.cached_key)}, up to {fallback.cached.max_age} old"
    if fallback.target is None:
        return _fixed(node, fallback.values or ())
    wires = ", ".join(f"{each.name} from {_source(each, named)}" for each in fallback.wires)
    return f"{fallback.target.name} version {fallback.target.version}{f' ({wires})' if wires else ''}"


def _record(record: PlannedRecord, named: Named) -> str:
    columns = ", ".join(
        f"{each.name} = {named(each.choices) if each.choices else each.word}" for each in record.columns
    )
    when = "" if record.when is None else f", for rows where {_condition(record.when, named)}"
    then = "before the answer" if record.durable else "after the answer"
    return f"{record.name}: to log {record.log}, {then}{when}: {columns}"
