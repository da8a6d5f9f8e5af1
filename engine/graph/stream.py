"""Where in a graph a servable may stand that answers one request with many responses: at its end, alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.errors import FailedPrecondition, quoted
from engine.graph.condition import parse_condition
from engine.graph.declaration import GraphSpec
from engine.graph.edges import Edges, reached
from engine.graph.port import Target
from engine.graph.reference import parse_reference


def check_stream(graph: GraphSpec, targets: Mapping[str, Target], needs: Edges) -> str | None:
    """The node that streams, if one does; of a graph without cycles. Raises FailedPrecondition where it is not the last, or
    something is declared that has no meaning for many responses."""
    streaming = [name for name in needs if targets[name].streams]
    if not streaming:
        return None
    problem = next((found for name in streaming if (found := _problem(graph, name, needs)) is not None), None)
    if problem is not None:
        raise FailedPrecondition(problem)
    return streaming[0]


def _problem(graph: GraphSpec, name: str, needs: Edges) -> str | None:
    node = graph.nodes[name]
    what = f"node {quoted(name)}: {quoted(node.call)} streams"
    before = reached(needs, [name])
    for other, waits in needs.items():
        if name in waits:
            return f"{what}, which only the last node may: node {quoted(other)} comes after it"
        if other not in before:
            return f"{what}, so all others come before it: node {quoted(other)} does not"
    for output, wire in graph.outputs.items():
        if not isinstance(wire, str) or parse_reference(wire, graph.nodes).node != name:
            return f"{what}, so all outputs are its own: output {quoted(output)} is not"
    for key, value in (("when", node.when), ("on_error", node.on_error), ("on_late", node.on_late)):
        if value is not None:
            return f"{what}, and what is sent cannot be taken back: {quoted(key)} is not for it"
    for record, text in _recorded(graph):
        if parse_reference(text, graph.nodes).node == name:
            return f"{what}, and is not kept for record {quoted(record)}: {quoted(text)}"
    return None


def _recorded(graph: GraphSpec) -> Iterator[tuple[str, str]]:
    for name, record in graph.records.items():
        yield from ((name, text) for text in record.columns.values() if not text.startswith("$"))
        if record.when is not None:
            yield name, parse_condition(record.when).reference
