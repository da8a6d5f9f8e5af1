"""What presence promises holds in every run: beside it, runs of random graphs are simulated."""

from __future__ import annotations

import random

import pytest

from engine.declaration import TensorDeclaration
from engine.graph.declaration import GraphSpec, NodeSpec
from engine.graph.edges import cycle_in, heaviest_path, in_order, reached
from engine.graph.presence import Presence

FLAG = TensorDeclaration("BOOL", (-1,))
OPTIONAL = TensorDeclaration("BOOL", (-1,), optional=True)


def draw(rng: random.Random) -> GraphSpec:
    """Nodes in order, each with an output y, and mostly a condition on what comes before."""
    nodes: dict[str, NodeSpec] = {}
    for index in range(rng.randint(1, 12)):
        asked = rng.choice(["x", "o", *(f"{name}.y" for name in nodes)])
        when = rng.choice([None, asked, f"{asked} == true", f"{asked} == false", f"{asked}  ==  0.0"])
        otherwise = {"y": rng.random() < 0.5} if when is not None and rng.random() < 0.3 else None
        nodes[f"n{index}"] = NodeSpec("f", when=when, otherwise=otherwise)
    return GraphSpec({"x": FLAG, "o": OPTIONAL}, nodes, {})


def simulate(graph: GraphSpec, rng: random.Random) -> tuple[dict[str, bool], set[str]]:
    """The tensors that are there, with their values, and the nodes that ran."""
    values = {"x": rng.random() < 0.5}
    if rng.random() < 0.5:
        values["o"] = rng.random() < 0.5
    ran = set()
    for name, node in graph.nodes.items():
        reference, _, operand = (node.when or "").partition("==")
        value = values.get(reference.strip())
        wanted = operand.strip() not in ("false", "0.0")
        if node.when is None or (value is not None and value == wanted):
            ran.add(name)
            values[f"{name}.y"] = rng.random() < 0.5
        elif node.otherwise is not None:
            values[f"{name}.y"] = bool(node.otherwise["y"])
    return values, ran


@pytest.mark.parametrize("seed", range(40))
def test_what_is_sure_to_be_there_is_there_in_every_run(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    graph = draw(rng)
    presence = Presence(graph)
    tensors = ["x", "o", *(f"{name}.y" for name in graph.nodes)]
    sure = [each for each in tensors if presence.is_sure([each])]
    under = {
        name: [each for each in tensors if presence.is_sure([each], presence.of_node(name))] for name in graph.nodes
    }
    for _ in range(200):
        values, ran = simulate(graph, rng)
        assert values.keys() >= set(sure)
        for name in ran:
            assert values.keys() >= set(under[name]), name
    always = {
        "x",
        *(f"{name}.y" for name, node in graph.nodes.items() if node.when is None or node.otherwise is not None),
    }
    assert set(sure) == always


def test_paths_and_cycles_are_found_in_edges() -> None:
    edges = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    assert in_order(edges) == ["a", "b", "c", "d"]
    assert cycle_in(edges) is None
    assert cycle_in({"a": ("c",), "b": ("a",), "c": ("b",)}) == ["a", "b", "c", "a"]
    assert reached(edges, ["b"]) == {"a", "b"}
    assert heaviest_path(edges, {"a": 1.0, "b": 0.0, "c": 2.0, "d": 4.0}.__getitem__) == (7.0, ["a", "c", "d"])
    assert heaviest_path({}, lambda _: 1.0) == (0.0, [])


@pytest.mark.parametrize("seed", range(20))
def test_heaviest_path_is_that_of_all_paths(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    names = [f"n{index}" for index in range(9)]
    edges = {name: tuple(each for each in names[:index] if rng.random() < 0.4) for index, name in enumerate(names)}
    weights = {name: float(rng.randint(0, 9)) for name in names}

    def every(name: str) -> list[list[str]]:
        return [[name]] + [[*path, name] for each in edges[name] for path in every(each)]

    best = max(sum(weights[each] for each in path) for name in names for path in every(name))
    total, path = heaviest_path(edges, weights.__getitem__)
    assert total == best == sum(weights[each] for each in path)
