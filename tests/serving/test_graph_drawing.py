"""Drawings of graphs: boxes that never overlap, lines that lead where they should, names that do no harm."""

from __future__ import annotations

import random
import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from engine import GraphOutline, NodeOutline, Signature, TensorSpec, datatype_named, outline
from engine.graph.resolution import resolve
from serving.graph_drawing import picture_of, shown, width
from serving.graph_explanation import graph_lines
from serving.graph_layout import Box, Link, layers_of, place
from serving.graph_svg import draw_svg, file_name
from serving.graph_text import draw_text
from tests.engine.graph.signatures import finding, graph, target

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("x")</script>&amp;\x00\x1b[31m\u202e\ud800\n--> ]]>'
GRAPHS = 300


def outlined(
    needs: list[tuple[int, ...]], *, critical: tuple[int, ...] = (), names: list[str] | None = None
) -> GraphOutline:
    """A graph whose nodes need these before them; who nobody needs gives the answer."""
    needed = {each for before in needs for each in before}
    nodes = tuple(
        NodeOutline(
            name=names[index] if names else f"n{index}",
            calls="f",
            version=1,
            inputs=(),
            outputs=("y",),
            needs=before,
            seldom=(),
            from_request=not before,
            to_answer=index not in needed,
            conditional=False,
            stood_in_for=False,
            notes=(),
            expected_ns=1_000,
        )
        for index, before in enumerate(needs)
    )
    numbers = TensorSpec("x", datatype_named("FP32", of="tests"), (-1,))
    return GraphOutline(
        "g", Signature((numbers,), (numbers,), True), (("x", "n.y"),), nodes, critical, 0, None, False, ()
    )


def drawn(rng: random.Random) -> GraphOutline:
    """A random graph of up to 14 nodes."""
    count = rng.randint(1, 14)
    return outlined(
        [tuple(sorted(rng.sample(range(index), min(index, rng.choice((0, 1, 1, 2, 2, 3)))))) for index in range(count)]
    )


# Layout.


def test_each_lies_in_a_layer_after_those_it_is_linked_from() -> None:
    rng = random.Random(3)
    for number in range(GRAPHS):
        links = picture_of(drawn(rng)).links
        count = max(max(each) for each in links) + 1
        most = rng.randint(1, 6)
        layers = layers_of(count, links, most)
        at = {each: index for index, layer in enumerate(layers) for each in layer}
        assert sorted(at) == list(range(count))
        assert all(at[source] < at[into] for source, into in links), f"graph {number} of seed 3"
        assert all(len(each) <= most for each in layers)


def test_boxes_never_overlap_and_links_run_from_left_to_right() -> None:
    rng = random.Random(4)
    for number in range(GRAPHS):
        picture = picture_of(drawn(rng))
        sizes = [(rng.randint(20, 90), rng.randint(10, 60)) for _ in picture.items]
        layout = place(sizes, picture.links, gap=(40, 9), most=5, thin=4)
        assert [(each.width, each.height) for each in layout.boxes] == sizes
        passed = {each for path in layout.paths.values() for each in path[1:-1]}
        for one, other in combinations([*layout.boxes, *passed], 2):
            assert not overlap(one, other), f"graph {number} of seed 4: {one}, {other}"
        assert layout.paths.keys() == set(picture.links)
        for (source, into), path in layout.paths.items():
            assert (path[0], path[-1]) == (layout.boxes[source], layout.boxes[into])
            assert all(one.right < other.left for one, other in zip(path, path[1:], strict=False))  # noqa: RUF007
        for each in layout.boxes:
            assert 0 <= each.left <= each.right <= layout.width
            assert 0 <= each.top <= each.top + each.height <= layout.height


def overlap(one: Box, other: Box) -> bool:
    """Whether two rectangles have a point in common."""
    return (
        one.left < other.right
        and other.left < one.right
        and one.top < other.top + other.height
        and other.top < one.top + one.height
    )


def test_same_graph_is_drawn_alike() -> None:
    for seed in range(20):
        one, other = (drawn(random.Random(seed)) for _ in range(2))
        assert draw_svg(one) == draw_svg(other)
        assert draw_text(one) == draw_text(other)


# Text.


class Walk:
    """Reads a text drawing as its reader would: from below a box, along the lines, to the arrows above others."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._boxes: dict[tuple[int, int], str] = {}
        self._ends: dict[str, tuple[int, int]] = {}
        for row, line in enumerate(lines):
            for found in re.finditer(r"\.-+\.", line):
                title = lines[row + 1][found.start() + 2 : found.end() - 2].split()[0]
                bottom = next(low for low in range(row + 1, len(lines)) if self.at(low, found.start()) == "'")
                self._boxes |= {(row, column): title for column in range(found.start(), found.end())}
                self._ends[title] = (bottom, (found.start() + found.end() - 1) // 2)

    def at(self, row: int, column: int) -> str:
        """The character there."""
        line = self._lines[row] if row < len(self._lines) else ""
        return line[column] if 0 <= column < len(line) else " "

    def links(self) -> set[tuple[str, str]]:
        """Titles of the boxes that are linked."""
        return {(title, into) for title, (row, column) in self._ends.items() for into in self._down(row + 1, column)}

    def _down(self, row: int, column: int) -> set[str]:
        if (row, column) in self._boxes:
            return {self._boxes[row, column]}
        mark = self.at(row, column)
        if mark in "|v":
            return self._down(row + 1, column)
        if mark != "+":
            return set()
        below = self._down(row + 1, column) if self.at(row + 1, column) in "|v" else set()
        return below | self._along(row, column, -1) | self._along(row, column, 1)

    def _along(self, row: int, column: int, step: int) -> set[str]:
        found: set[str] = set()
        while True:
            column += step
            mark = self.at(row, column)
            if mark == "|" and self.at(row, column + step) in "-+v" and self.at(row, column - step) == "-":
                continue
            if mark in "+v":
                found |= self._down(row + 1, column)
            elif mark != "-":
                return found


def titles(links: tuple[Link, ...], count: int) -> set[tuple[str, str]]:
    """The links by what the boxes are called."""
    names = ["request", *(f"n{each}" for each in range(count)), "answer"]
    return {(names[source], names[into]) for source, into in links}


def test_lines_lead_where_the_graph_does() -> None:
    rng = random.Random(7)
    for number in range(GRAPHS):
        each = drawn(rng)
        lines = draw_text(each)
        assert Walk(lines).links() == titles(picture_of(each).links, len(each.nodes)), (
            f"graph {number} of seed 7:\n" + "\n".join(lines)
        )


def test_ten_nodes_fit_a_screen_wide() -> None:
    rng = random.Random(8)
    for _ in range(50):
        count = 10
        each = outlined(
            [tuple(sorted(rng.sample(range(index), min(index, 2)))) for index in range(count)],
            names=[f"a_rather_long_name_{index}" for index in range(count)],
        )
        assert max(map(len, draw_text(each))) <= 140
    wide = outlined([()] * 10 + [tuple(range(10))])
    assert max(map(len, draw_text(wide))) <= 140


def test_chain_is_a_straight_line() -> None:
    lines = draw_text(outlined([(), (0,), (1,)], critical=(0, 1, 2)))
    assert [each.strip() for each in lines if len(each.strip()) == 1] == ["v"] * 4
    assert sum(" * " in each for each in lines) == 3


# Names.


def test_names_do_no_harm() -> None:
    each = outlined([(), (0,)], names=[HOSTILE, "卡\u0301片" * 30])
    text = "\n".join(draw_text(each))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\x00" not in text
    lines = [line for line in draw_text(each) if "|" in line]
    assert len({width(line) for line in lines if line.strip().startswith("|") and "v1" in line}) <= 2
    svg = draw_svg(each)
    assert "<script" not in svg
    root = ElementTree.fromstring(svg.encode("utf-8"))
    assert any('<script>alert("x")' in (found.text or "") for found in root.iter(f"{SVG}title"))


def test_text_is_cut_to_columns() -> None:
    assert shown("score", 5) == "score"
    assert shown("scores", 5) == "sco.."
    assert shown("a\nb", 10) == "a\\nb"
    assert width(shown("卡片" * 20, 9)) <= 9


@pytest.mark.parametrize("name", ["g", "a/b", "../../etc/passwd", "..", ".", "", "a\x00b", "é" * 200, "\ud800"])
def test_file_of_a_drawing_stays_in_its_folder(name: str) -> None:
    file = file_name(name)
    assert re.fullmatch(r"[\w.%~-]{1,140}\.svg|\.svg", file, re.ASCII)
    assert "/" not in file


# The whole, from a spec.


SCORED = """
inputs: {card: {datatype: INT64, shape: [-1]}}
slo_ms: 100
nodes:
  features: {call: view, inputs: {card: card}}
  score: {call: gbdt, inputs: {x: features.x, bias: {value: 0.5}}, on_late: {call: light}, timeout_ms: 5}
  reasons: {call: shap, inputs: {x: features.x}, when: score.p > 0.9, otherwise: {why: nothing}}
outputs: {p: score.p, why: reasons.why}
records: {decision: {log: kept, columns: {id: $id, p: score.p}, durable: true}}
"""


def scored() -> GraphOutline:
    """A graph with all that can be told of one."""
    targets = (
        target("view", "card INT64 -1", "x FP32 -1 26", expected_ns=40_000),
        target("gbdt", "x FP32 -1 26; bias FP32 -1", "p FP32 -1", version=3, expected_ns=400_000, rows_max=64),
        target("light", "x FP32 -1 26", "p FP32 -1"),
        target("shap", "x FP32 -1 26", "why BYTES -1", expected_ns=1_000_000),
    )
    return outline(resolve("fraud", graph(SCORED), finding(*targets)))


def test_everything_declared_of_a_graph_is_told() -> None:
    lines = "\n".join(graph_lines(scored()))
    for text in (
        "graph fraud: READY, 3 node(s), slo 100 ms, 1.44 ms expected for one row, on features -> score -> reasons",
        "in  card: INT64 [any]",
        "out p: FP32 [any], score.p",
        "up to 64",
        "2. score: gbdt version 3, 400 us expected, on the critical path",
        "x <- features.x",
        "bias <- always 0.5",
        "at most 5 ms",
        "if late: light version 1 (x from features.x)",
        "when score.p > 0.9",
        "otherwise why = 'nothing'",
        "record decision: to log kept, before the answer: id = $id, p = score.p",
        "| score *! ",
        "| reasons *? ",
    ):
        assert text in lines


def test_svg_tells_times_and_marks_the_path_and_what_is_seldom() -> None:
    root = ElementTree.fromstring(draw_svg(scored()))
    texts = [found.text for found in root.iter(f"{SVG}text")]
    for text in ("fraud, 1.44 ms expected for one row, slo 100 ms", "score", "gbdt v3", "400 us", "when score.p > 0.9"):
        assert text in texts
    boxes = [found.get("class") for found in root.iter(f"{SVG}g") if found.get("class") is not None]
    assert boxes == ["end", "critical", "critical", "critical conditional", "end"]
    assert len(list(root.iter(f"{SVG}rect"))) == 5
    assert all(found.get("href") is None for found in root.iter())
    styles = [found.get("class") for found in root.iter(f"{SVG}path")][1:]  # the first is the arrow's head
    assert sorted(each or "" for each in styles) == [
        "", "critical", "critical", "dashed", "dashed critical", "dashed critical",
    ]  # fmt: skip


def test_nested_or_unmeasured_nodes_have_no_path() -> None:
    each = outlined([(), (0,)])
    assert not picture_of(each).critical
    assert "expected for one row" not in next(graph_lines(each))
