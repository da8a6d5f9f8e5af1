"""Graphs of functions that return their input, as they stand in a spec. Pure."""

from typing import Any

NODE, GRAPH, CHAIN, FAN = "same", "one", "chain", "fan"
"""The bare function, a graph of it alone, five of it in a chain, and eight of it side by side with a join."""

CHAIN_NODES, FAN_NODES = 5, 8
JOINED = "abcdefgh"
ROWS = {"datatype": "FP32", "shape": [-1]}
Declared = dict[str, Any]


def empty_spec() -> Declared:
    """All of them."""
    functions = {NODE: function("same", ("x",)), "first": function("first", tuple(JOINED))}
    one = graph({"n0": {"call": NODE, "inputs": {"x": "x"}}}, "n0.y")
    return {"functions": functions, "graphs": {GRAPH: one, CHAIN: chain(), FAN: fan()}}


def function(name: str, inputs: tuple[str, ...]) -> Declared:
    """One of benchmarks.graphs.functions, of FP32 rows."""
    return {
        "call": f"benchmarks.graphs.functions:{name}",
        "batchable": True,
        "inputs": dict.fromkeys(inputs, ROWS),
        "outputs": {"y": ROWS},
    }


def chain() -> Declared:
    """Each takes what the one before gives."""
    nodes = {
        f"n{index}": {"call": NODE, "inputs": {"x": f"n{index - 1}.y" if index else "x"}}
        for index in range(CHAIN_NODES)
    }
    return graph(nodes, f"n{CHAIN_NODES - 1}.y")


def fan() -> Declared:
    """All take the input; a function of eight inputs joins them."""
    nodes: Declared = {f"n{index}": {"call": NODE, "inputs": {"x": "x"}} for index in range(FAN_NODES)}
    nodes["join"] = {"call": "first", "inputs": {name: f"n{index}.y" for index, name in enumerate(JOINED)}}
    return graph(nodes, "join.y")


def graph(nodes: Declared, output: str) -> Declared:
    """From x to y."""
    return {"inputs": {"x": ROWS}, "outputs": {"y": output}, "nodes": nodes}
