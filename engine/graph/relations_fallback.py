"""What may stand in for a node, checked with the place in the file before anything is loaded. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.duration import duration_us
from engine.errors import SpecError, quoted
from engine.graph.declaration import CachedSpec, FallbackSpec
from engine.graph.edges import reached, wired
from engine.graph.known import mismatch
from engine.graph.reference import parse_reference
from engine.graph.relations_graph import GraphRelations

CACHED_ENTRIES_MOST = 10_000_000


def check_fallback(graph: GraphRelations, node: str, where: str, fallback: FallbackSpec) -> None:
    """Raises SpecError where `fallback` of `node`, declared at `where`, is not one thing, or lacks what somebody uses."""
    ways = [fallback.default is not None, fallback.call is not None, fallback.cached is not None]
    if sum(ways) != 1:
        raise SpecError(f"{graph.place(where)}: give exactly one of 'default', 'call' and 'cached'")
    for key, value in (("version", fallback.version), ("inputs", fallback.inputs)):
        if value is not None and fallback.call is None:
            raise SpecError(f"{graph.place(f'{where}.{key}')}: belongs to 'call'")
    if fallback.default is not None:
        _check_default(graph, node, f"{where}.default", fallback)
    elif fallback.cached is not None:
        _check_cached(graph, node, f"{where}.cached", fallback.cached)
    else:
        _check_call(graph, node, where, fallback)


def _check_default(graph: GraphRelations, node: str, where: str, fallback: FallbackSpec) -> None:
    values = fallback.default or {}
    graph.check_values(values, where, graph.graph.nodes[node].call, graph.known[node])
    missing = sorted(graph.used[node] - values.keys())
    if missing:
        raise SpecError(f"{graph.place(where)}: no value for output {', '.join(map(quoted, missing))}, which is used")


def _check_cached(graph: GraphRelations, node: str, where: str, cached: CachedSpec) -> None:
    graph.read(f"{where}.max_age", duration_us, cached.max_age)
    if not 1 <= cached.entries_max <= CACHED_ENTRIES_MOST:
        key = graph.place(f"{where}.entries_max")
        raise SpecError(f"{key}: must be from 1 to {CACHED_ENTRIES_MOST}, got {cached.entries_max}")
    _check_waited_for(graph, node, [(f"{where}.key", cached.key)])
    if not graph.presence.is_sure([cached.key], graph.presence.of_node(node)):
        raise SpecError(f"{graph.place(f'{where}.key')}: {quoted(cached.key)} may be missing when the node runs")


def _check_call(graph: GraphRelations, node: str, where: str, fallback: FallbackSpec) -> None:
    assert fallback.call is not None
    declared = graph.graph.nodes[node]
    lighter = graph.find(fallback.call, fallback.version, f"{graph.where}.{where}")
    _check_waited_for(graph, node, wired(fallback.inputs or {}, f"{where}.inputs"))
    inputs, key = fallback.inputs, f"{where}.inputs"
    if inputs is None:
        known = declared.inputs if lighter is None else lighter.inputs
        inputs, key = {name: wire for name, wire in declared.inputs.items() if name in known}, f"{where}.call"
    graph.check_wiring(
        inputs, key, fallback.call, lighter, graph.presence.of_node(node), apart=fallback.inputs is not None
    )
    if lighter is None:
        return
    for output in sorted(graph.used[node]):
        if output not in lighter.outputs:
            raise SpecError(
                f"{graph.place(f'{where}.call')}: {lighter.kind} {quoted(fallback.call)} has no output {quoted(output)}, which "
                f"is used"
            )
        problem = mismatch(lighter.outputs[output], graph.type_of(f"{node}.{output}"))
        if problem is not None:
            raise SpecError(
                f"{graph.place(f'{where}.call')}: output {quoted(output)} of {quoted(fallback.call)}: {problem}"
            )


def _check_waited_for(graph: GraphRelations, node: str, used: Iterable[tuple[str, str]]) -> None:
    """What stands in for a node must not have to wait for more than the node did. `used`: keys and references."""
    waited_for = reached(graph.needs, graph.needs[node])
    for key, text in used:
        other = parse_reference(text, graph.graph.nodes).node
        if other is not None and other not in waited_for:
            what = (
                "its own output"
                if other == node
                else f"node {quoted(other)}, for which node {quoted(node)} does not wait"
            )
            raise SpecError(f"{graph.place(key)}: {quoted(text)} is of {what}")
