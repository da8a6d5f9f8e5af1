"""What is said of graphs and traffic splits, as text for people. Pure: outlines and declarations in, lines out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from serving.graph_drawing import duration, shown
from serving.graph_text import LEGEND, draw_text

if TYPE_CHECKING:
    from engine import GraphOutline, NodeOutline, Spec

_TEXT_COLUMNS = 400


def graph_lines(graph: GraphOutline) -> Iterator[str]:
    """One graph: what it takes and gives, its nodes in the order in which they can run, what it records, its picture."""
    yield f"graph {_line(graph.name)}: READY, {_told(graph)}"
    for each in graph.signature.inputs:
        optional = " (optional)" if each.optional else ""
        yield f"  in  {_line(each.name)}: {each.datatype.name} {_shape(each.shape)}{optional}"
    for each, (_, source) in zip(graph.signature.outputs, graph.outputs, strict=True):
        yield f"  out {_line(each.name)}: {each.datatype.name} {_shape(each.shape)}, {_line(source)}"
    yield f"  {_rows(graph)}"
    for number, node in enumerate(graph.nodes, 1):
        yield from _node(number, node, critical=number - 1 in graph.critical)
    for record in graph.records:
        yield f"  record {_line(record)}"
    yield ""
    yield from (f"  {line}" for line in draw_text(graph))
    yield f"  {LEGEND}"


def _told(graph: GraphOutline) -> str:
    parts = [f"{len(graph.nodes)} node(s)"]
    if graph.slo_ns is not None:
        parts.append(f"slo {duration(graph.slo_ns)}")
    if graph.critical:
        path = " -> ".join(graph.nodes[each].name for each in graph.critical)
        parts.append(f"{duration(graph.expected_ns)} expected for one row, on {_line(path)}")
    if graph.streams:
        parts.append("streams")
    return ", ".join(parts)


def _rows(graph: GraphOutline) -> str:
    if not graph.signature.batchable:
        return "one request is one call of each node"
    bound = "" if graph.signature.rows_max is None else f", up to {graph.signature.rows_max}"
    return f"a request has any number of rows{bound}; rows of many requests meet at each node"


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join('any' if size < 0 else str(size) for size in shape)}]"


def _node(number: int, node: NodeOutline, *, critical: bool) -> Iterator[str]:
    expected = f"{duration(node.expected_ns)} expected" if node.expected_ns else "not measured yet"
    path = ", on the critical path" if critical else ""
    yield f"  {number}. {_line(node.name)}: {_line(node.calls)} version {node.version}, {expected}{path}"
    for name, source in node.inputs:
        yield f"       {_line(name)} <- {_line(source)}"
    for note in node.notes:
        yield f"       {_line(note)}"


def split_lines(name: str, spec: Spec) -> Iterator[str]:
    """The traffic split `name` of the spec."""
    split = spec.traffic[name]
    total = sum(each.weight for each in split.variants.values())
    key = {None: "by chance", "$id": "by the request's id"}.get(split.key, f"by input {_line(str(split.key))}")
    yield f"split {_line(name)}: {key}"
    for variant, each in split.variants.items():
        share = 100 * each.weight / total if total else 0.0
        yield f"  {_line(variant)}: {_called(each.call, each.version)}, weight {each.weight:g}, {share:.4g}% of requests"
    for shadow, copy in split.shadows.items():
        yield f"  shadow {_line(shadow)}: {_called(copy.call, copy.version)}, a copy of {100 * copy.share:.4g}% of requests"
    if split.exposures is not None:
        yield f"  who got what: log {_line(split.exposures)}"


def _called(call: str, version: int | None) -> str:
    return f"{_line(call)} version {version or 'newest'}"


def _line(text: str) -> str:
    """Text that stays on its line."""
    return shown(text, _TEXT_COLUMNS)
