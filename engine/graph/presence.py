"""Which tensors of a graph may be missing when somebody wants them. Pure.

A tensor is there where certain things are so: the conditions of the node that gives it and of those its condition asks, and the
optional inputs of the graph that were given. Whoever runs under the same conditions, written alike, can rely on it. That no two
conditions exclude or imply each other otherwise is not found out: a list of references should end with one that is always there.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.graph.condition import ParsedCondition, parse_condition
from engine.graph.declaration import GraphSpec
from engine.graph.edges import in_order, needs_of
from engine.graph.reference import parse_reference

Conditions = frozenset[ParsedCondition]
"""All of them must be so. That an optional input is given has a "=" before its name, which no condition has."""

ALWAYS: Conditions = frozenset()


class Presence:
    """Of a graph whose references, conditions and order are checked."""

    def __init__(self, graph: GraphSpec) -> None:
        self._graph = graph
        self._under: dict[str, Conditions] = {}
        for name in in_order(needs_of(graph)):
            self._under[name] = self.where(graph.nodes[name].when)

    def of_node(self, name: str) -> Conditions:
        """What is so whenever the node runs."""
        return self._under[name]

    def where(self, condition: str | None) -> Conditions:
        """What is so whenever `condition`, as it is written, is true: a missing tensor makes it false."""
        if condition is None:
            return ALWAYS
        parsed = parse_condition(condition)
        return self.of(parsed.reference) | {parsed}

    def of(self, reference: str) -> Conditions:
        """What must be so for the tensor to be there."""
        named = parse_reference(reference, self._graph.nodes)
        if named.node is None:
            optional = self._graph.inputs[named.tensor].optional
            return frozenset({ParsedCondition(f"={named.tensor}", "", 0.0)}) if optional else ALWAYS
        otherwise = self._graph.nodes[named.node].otherwise or {}
        return ALWAYS if named.tensor in otherwise else self._under[named.node]

    def is_sure(self, choices: Iterable[str], under: Conditions = ALWAYS) -> bool:
        """Whether one of `choices` is there whenever `under` is so."""
        return any(self.of(each) <= under for each in choices)
