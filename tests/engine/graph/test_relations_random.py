"""Random graphs are read; the same graphs with one thing made wrong are refused, and the place is named."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from itertools import pairwise

import pytest

from tests.engine.graph.test_relations import read, refused

ROWS = "{datatype: FP32, shape: [-1]}"
FUNCTIONS = "functions:\n" + "".join(
    "  f{n}: {{call: 'm:f', inputs: {{{inputs}}}, outputs: {{y: {rows}, flag: {{datatype: BOOL, shape: [-1]}}}}}}\n".format(
        n=count, inputs=", ".join(f"i{each}: {ROWS}" for each in range(count)), rows=ROWS
    )
    for count in range(1, 4)
)


@dataclass
class Drawn:
    """Lines of nodes by name, in no order; `uses[name]` are the nodes whose outputs a node takes."""

    lines: dict[str, str]
    uses: dict[str, list[str]]
    ends: list[str]

    def text(self, rng: random.Random) -> str:
        """The spec, its nodes shuffled: what is declared first need not run first."""
        names = list(self.lines)
        rng.shuffle(names)
        nodes = "".join(f"      {name}: {self.lines[name]}\n" for name in names)
        outputs = ", ".join(f"o{number}: {name}.y" for number, name in enumerate(self.ends))
        return f"{FUNCTIONS}graphs:\n  g:\n    inputs: {{x: {ROWS}}}\n    outputs: {{{outputs}}}\n    nodes:\n{nodes}"


def draw(rng: random.Random) -> Drawn:
    """A graph of up to 20 nodes with conditions, constants and fallbacks."""
    names = [f"node{index}" for index in range(rng.randint(2, 20))]
    lines, uses = {}, {}
    for index, name in enumerate(names):
        before = names[:index]
        count = rng.randint(1, 3)
        taken = [rng.choice(before) if before and rng.random() < 0.8 else "" for _ in range(count)]
        wires = [f"{each}.y" if each else rng.choice(("x", "{value: 0.5}", "[x]")) for each in taken]
        line = f"call: f{count}, inputs: {{{', '.join(f'i{at}: {wire}' for at, wire in enumerate(wires))}}}"
        if before and rng.random() < 0.3:
            asked = rng.choice(before)
            line += f", when: {asked}.flag, otherwise: {{y: 0, flag: false}}"
            taken.append(asked)
        if rng.random() < 0.3:
            line += f", {rng.choice(('on_error', 'on_late'))}: {{default: {{y: 1.5, flag: true}}}}"
        if rng.random() < 0.2:
            line += ", timeout_share: 0.01"
        lines[name], uses[name] = f"{{{line}}}", [each for each in taken if each]
    used = {each for taken in uses.values() for each in taken}
    return Drawn(lines, uses, [each for each in names if each not in used])


def reaches(drawn: Drawn, start: str) -> list[str]:
    """The nodes that `start` waits for, directly or not."""
    found: list[str] = []
    left = list(drawn.uses[start])
    while left:
        name = left.pop()
        if name not in found:
            found.append(name)
            left += drawn.uses[name]
    return found


@pytest.mark.parametrize("seed", range(60))
def test_random_graph_is_read_and_refused_with_one_thing_wrong(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    drawn = draw(rng)
    read(drawn.text(rng))

    taken = sorted({each for uses in drawn.uses.values() for each in uses})
    if taken:
        dropped = rng.choice(taken)
        without = Drawn({name: line for name, line in drawn.lines.items() if name != dropped}, drawn.uses, drawn.ends)
        found = refused(without.text(rng))
        assert re.search(
            rf"^s.yaml:\d+: graphs.g.nodes.node\d+.\S+: '{dropped}.\w+': the graph has no node '{dropped}'", found
        )

    later = [name for name in drawn.lines if reaches(drawn, name)]
    if later:
        start = rng.choice(later)
        target = rng.choice(reaches(drawn, start))
        backwards = dict(drawn.lines)
        backwards[target] = re.sub(r"i0: (\[x\]|\{value: 0.5\}|[\w.]+)", f"i0: {start}.y", backwards[target], count=1)
        found = refused(Drawn(backwards, drawn.uses, drawn.ends).text(rng))
        cycle = found.rpartition("circle: ")[2].split(" -> ")
        place = re.match(r"s.yaml:\d+: graphs.g.nodes.(node\d+).(inputs.i\d|when): ", found)
        assert place is not None, found
        assert cycle[0] == cycle[-1] == place[1]
        uses = {**drawn.uses, target: [*drawn.uses[target], start]}
        assert all(one in uses[other] for one, other in pairwise(cycle)), found

    name = rng.choice(list(drawn.lines))
    for right, wrong, message in (
        (r"call: f\d", "call: h", rf"graphs.g.nodes.{name}.call: there is no 'h' to call"),
        (r"i0: ", "j0: ", rf"graphs.g.nodes.{name}.inputs.j0: function 'f\d' has no input 'j0'"),
        (
            r"i0: (\[x\]|\{value: 0.5\}|[\w.]+)",
            "i0: xx",
            rf"graphs.g.nodes.{name}.inputs.i0: the graph has no input 'xx'; nearest: 'x'",
        ),
        (
            r"i0: (\[x\]|\{value: 0.5\}|[\w.]+)",
            "i0: {value: no text}",
            rf"graphs.g.nodes.{name}.inputs.i0: expected a number for FP32",
        ),
    ):
        misspelt = {**drawn.lines, name: re.sub(right, wrong, drawn.lines[name], count=1)}
        found = refused(Drawn(misspelt, drawn.uses, drawn.ends).text(rng))
        assert re.search(rf"^s.yaml:\d+: {message}", found), found
    extra = {**drawn.lines, "extra": f"{{call: f1, inputs: {{i0: {name}.y}}}}"}
    found = refused(Drawn(extra, drawn.uses, drawn.ends).text(rng))
    assert re.search(r"^s.yaml:\d+: graphs.g.nodes.extra: nothing uses node 'extra'", found), found
