"""A search's vectors are only comparable with queries by the model they were made for: a graph calls that version of it."""

from __future__ import annotations

from engine.errors import FailedPrecondition, quoted
from engine.graph.declaration import GraphSpec, NodeSpec
from engine.graph.edges import choices_of, fallbacks_of
from engine.graph.reference import parse_reference
from engine.servables.signature import TensorSpec


def embedding_nodes(spec: GraphSpec, name: str, wire: TensorSpec) -> list[str]:
    """The nodes wired to the input `wire` of node `name`, which wants an embedder: all call that model, and no other version.

    An input of the graph may be wired too: its caller then embeds. Raises FailedPrecondition where a node calls something else by
    its declaration, or something else may stand in for it.
    """
    assert wire.embedder is not None
    wired = choices_of(spec.nodes[name].inputs.get(wire.name))
    found = [each for each in (parse_reference(text, spec.nodes).node for text in wired) if each is not None]
    for each in found:
        _check(each, spec.nodes[each], *wire.embedder)
    return found


def _check(name: str, node: NodeSpec, model: str, version: int) -> None:
    wanted = f"takes what {quoted(model)} version {version} gives"
    if node.call != model or node.version not in (None, version):
        called = quoted(node.call) if node.version is None else f"{quoted(node.call)} version {node.version}"
        raise FailedPrecondition(f"{wanted}, and node {quoted(name)} calls {called}")
    for key, fallback in fallbacks_of(node):
        if fallback.call is not None:
            raise FailedPrecondition(f"{wanted}, and node {quoted(name)} has {quoted(fallback.call)} for {key}")
