"""Which node waits for which, in what order they can run, and on which path the most adds up. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from engine.graph.condition import parse_condition
from engine.graph.declaration import FallbackSpec, GraphSpec, NodeSpec, Wiring
from engine.graph.reference import parse_reference

Edges = Mapping[str, Sequence[str]]
"""A name to those it waits for, each once, in the order in which they are written."""


def choices_of(wire: object) -> tuple[str, ...]:
    """The references of an input or output as it is declared: one, several, or none where it is a constant."""
    if isinstance(wire, str):
        return (wire,)
    return wire if isinstance(wire, tuple) else ()


def wired(wiring: Wiring | Mapping[str, str | tuple[str, ...]], key: str) -> Iterator[tuple[str, str]]:
    """Key in the spec and reference, for all references of inputs or outputs that stand at `key`."""
    for name, wire in wiring.items():
        for index, text in enumerate(choices_of(wire)):
            yield (f"{key}.{name}[{index}]" if isinstance(wire, tuple) else f"{key}.{name}"), text


def waited_for(node: NodeSpec) -> Iterator[tuple[str, str]]:
    """Key and reference of what `node`, its condition checked, waits for: its inputs and its condition."""
    yield from wired(node.inputs, "inputs")
    if node.when is not None:
        yield "when", parse_condition(node.when).reference


def stood_in_with(node: NodeSpec) -> Iterator[tuple[str, str]]:
    """Key and reference of what its fallbacks use."""
    for key, fallback in fallbacks_of(node):
        yield from wired(fallback.inputs or {}, f"{key}.inputs")
        if fallback.cached is not None:
            yield f"{key}.cached.key", fallback.cached.key


def fallbacks_of(node: NodeSpec) -> Iterator[tuple[str, FallbackSpec]]:
    """The fallbacks of `node` by their keys."""
    for key, fallback in (("on_error", node.on_error), ("on_late", node.on_late)):
        if fallback is not None:
            yield key, fallback


def needs_of(graph: GraphSpec) -> Edges:
    """For each node of a checked graph the nodes it waits for."""
    return {
        name: tuple(
            dict.fromkeys(
                reference.node
                for _, text in waited_for(node)
                if (reference := parse_reference(text, graph.nodes)).node is not None
            )
        )
        for name, node in graph.nodes.items()
    }


def in_order(edges: Edges) -> list[str]:
    """All names, each after those it waits for. The edges have no cycle."""
    return [each for each in TopologicalSorter(edges).static_order() if each in edges]


def cycle_in(edges: Edges) -> list[str] | None:
    """A cycle such as [a, b, a], in which b waits for a; it begins with the one that is declared first. None without one."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1][:-1]
        first = min(cycle, key=list(edges).index)
        start = cycle.index(first)
        return [*cycle[start:], *cycle[:start], first]
    return None


def reached(edges: Edges, starts: Sequence[str]) -> set[str]:
    """`starts` and all that they wait for, directly or through others."""
    found, left = set(starts), list(starts)
    while left:
        for each in edges[left.pop()]:
            if each not in found:
                found.add(each)
                left.append(each)
    return found


def depths(edges: Edges) -> dict[str, int]:
    """All names, each after those it waits for, and how many follow each other up to it. The edges have no cycle."""
    found: dict[str, int] = {}
    for name in in_order(edges):
        found[name] = 1 + max((found[each] for each in edges[name]), default=0)
    return found


def heaviest_path(edges: Edges, weight: Callable[[str], float]) -> tuple[float, list[str]]:
    """The path on which most adds up, without what weighs nothing on it."""
    best: dict[str, tuple[float, list[str]]] = {}
    for name in in_order(edges):
        total, path = max((best[each] for each in edges[name]), key=lambda each: each[0], default=(0.0, []))
        own = weight(name)
        best[name] = (total + own, [*path, name] if own else path)
    return max(best.values(), key=lambda each: each[0], default=(0.0, []))
