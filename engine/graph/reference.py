"""What a reference inside a graph names: an input of the graph, or an output of one of its nodes. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from engine.errors import SpecError, nearest, quoted


@dataclass(frozen=True, slots=True)
class Reference:
    """The output `tensor` of `node`, or, where `node` is None, the graph's input `tensor`."""

    node: str | None
    tensor: str

    def __str__(self) -> str:
        return self.tensor if self.node is None else f"{self.node}.{self.tensor}"


def parse_reference(text: str, nodes: Collection[str]) -> Reference:
    """`text` up to its first dot names one of `nodes`, the rest its output; without a dot it is an input of the graph.

    Whether there is such an input or output, only the caller knows. Raises SpecError, naming the nearest node, where there
    is none of that name.
    """
    node, dot, tensor = text.partition(".")
    if not dot:
        if not text:
            raise SpecError("expected a reference such as 'amount' or 'score.probability', got ''")
        return Reference(None, text)
    if not node or not tensor:
        raise SpecError(f"expected a reference such as 'amount' or 'score.probability', got {quoted(text)}")
    if node not in nodes:
        raise SpecError(f"{quoted(text)}: the graph has no node {quoted(node)}{nearest(node, nodes)}")
    return Reference(node, tensor)
