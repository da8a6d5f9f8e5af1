"""What is drawn of a graph, as text or as SVG: boxes for the request, each node and the answer, and their links. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from engine import GraphOutline, NodeOutline
from serving.graph_layout import Link

_TENSORS_MOST = 5


@dataclass(frozen=True, slots=True)
class Item:
    """One box. `notes` are told where there is room."""

    title: str
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    critical: bool = False
    conditional: bool = False
    stood_in_for: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """`items` are the request, the nodes in plan order, and the answer. A link is `dashed` where it is only followed under a
    condition or by a fallback, `critical` on the path that is expected to take longest."""

    items: tuple[Item, ...]
    links: tuple[Link, ...]
    dashed: frozenset[Link]
    critical: frozenset[Link]


def picture_of(graph: GraphOutline) -> Picture:
    """What is to be drawn of it."""
    last = len(graph.nodes) + 1
    items = [
        Item("request", _named([each.name for each in graph.signature.inputs])),
        *(_item(each, critical=index in graph.critical) for index, each in enumerate(graph.nodes)),
        Item("answer", _named([name for name, _ in graph.outputs])),
    ]
    dashed: set[Link] = set()
    links: list[Link] = []
    for number, node in enumerate(graph.nodes, 1):
        sources = [0] if node.from_request or not node.needs else []
        sources += [each + 1 for each in node.needs]
        links += [(each, number) for each in sources]
        dashed |= {(each, number) for each in sources if node.conditional or each - 1 in node.seldom}
        if node.to_answer:
            links.append((number, last))
            dashed |= {(number, last)} if node.conditional else set()
    if not any(target == last for _, target in links):
        links.append((0, last))
    path = [0, *(each + 1 for each in graph.critical), last]
    critical = set(pairwise(path)) if graph.critical else set()
    return Picture(tuple(items), tuple(links), frozenset(dashed), frozenset(critical & set(links)))


def _named(tensors: list[str]) -> tuple[str, ...]:
    """Their names, of many only the first."""
    if len(tensors) <= _TENSORS_MOST:
        return tuple(tensors)
    return (*tensors[: _TENSORS_MOST - 1], f"and {len(tensors) - _TENSORS_MOST + 1} more")


def _item(node: NodeOutline, *, critical: bool) -> Item:
    calls = f"{node.calls} v{node.version}"
    expected = f"{duration(node.expected_ns)}" if node.expected_ns else "not measured"
    return Item(node.name, (calls, expected), node.notes, critical, node.conditional, node.stood_in_for)


def duration(nanoseconds: int) -> str:
    """For people: 12 us, 3.4 ms."""
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1e3:.3g} us"
    return f"{nanoseconds / 1e6:.3g} ms" if nanoseconds < 1_000_000_000 else f"{nanoseconds / 1e9:.3g} s"


def shown(text: str, columns: int) -> str:
    """`text` in at most so many columns, what cannot be printed escaped: nothing in a name moves the cursor or turns the line."""
    safe = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    if width(safe) <= columns:
        return safe
    kept = ""
    for each in safe:
        if width(kept + each) > columns - 2:
            break
        kept += each
    return f"{kept}.."


def width(text: str) -> int:
    """Columns of a terminal that it takes."""
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
