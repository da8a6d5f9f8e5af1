"""A graph as one SVG file that needs nothing else: from left to right, the critical path bold, what is seldom taken dashed. Pure.

SVG 1.1 (W3C); names come from callers' files, so whatever XML 1.0 does not allow in a text is shown as an escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from engine import GraphOutline
from serving.graph_drawing import Item, Picture, duration, picture_of, shown, width
from serving.graph_layout import Box, Layout, place

_CHARACTER_PX, _LINE_PX, _PADDING_PX, _MARGIN_PX, _TITLE_PX = 7, 16, 10, 20, 40
_GAP_PX: Final = (56, 18)
_PASSING_PX = 8
_COLUMNS, _LAYER_MOST = 34, 12
_FILE_CHARS = 120
_STYLE: Final = """
    text { font: 12px monospace; fill: #222 }
    .title { font-weight: bold }
    .note { fill: #666 }
    rect { fill: #f7f8fa; stroke: #667; rx: 5px }
    .end rect { fill: #e8eef7 }
    .critical rect { stroke: #b3261e; stroke-width: 2.5 }
    .conditional rect { stroke-dasharray: 5 3 }
    path { fill: none; stroke: #667 }
    path.dashed { stroke-dasharray: 5 4 }
    path.critical { stroke: #b3261e; stroke-width: 3 }
"""
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def draw_svg(graph: GraphOutline) -> str:
    """The whole file."""
    picture = picture_of(graph)
    texts = [_lines(each) for each in picture.items]
    layout = place([_size(each) for each in texts], picture.links, gap=_GAP_PX, most=_LAYER_MOST, thin=_PASSING_PX)
    heading = _heading(graph)
    wide = max(layout.width, _CHARACTER_PX * width(heading)) + 2 * _MARGIN_PX
    high = layout.height + 2 * _MARGIN_PX + _TITLE_PX
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}">',
            f"  <title>{_safe(graph.name)}</title>",
            f"  <style>{_STYLE}  </style>",
            '  <defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
            ' markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L8 4 L0 8 z" style="fill: #667"/></marker></defs>',
            f'  <text class="title" x="{_MARGIN_PX}" y="{_MARGIN_PX + 4}">{_safe(heading)}</text>',
            f'  <g transform="translate({_MARGIN_PX} {_MARGIN_PX + _TITLE_PX - _LINE_PX})">',
            *_links(picture, layout),
            *_boxes(picture, texts, layout.boxes),
            "  </g>",
            "</svg>",
            "",
        )
    )


def file_name(graph: str) -> str:
    """For the drawing of a graph: its name, with what is no letter or digit as URLs write it, cut where it is long."""
    name = quote(graph, safe="", errors="surrogatepass")
    if len(name) > _FILE_CHARS:
        name = f"{name[:_FILE_CHARS]}-{sha256(graph.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return f"{name}.svg"


def _heading(graph: GraphOutline) -> str:
    expected = f", {duration(graph.expected_ns)} expected for one row" if graph.expected_ns else ""
    slo = f", slo {duration(graph.slo_ns)}" if graph.slo_ns is not None else ""
    return f"{shown(graph.name, 80)}{expected}{slo}"


def _lines(item: Item) -> list[str]:
    return [shown(each, _COLUMNS) for each in (item.title, *item.lines, *item.notes)]


def _size(lines: Sequence[str]) -> tuple[int, int]:
    columns = max(map(width, lines))
    return _CHARACTER_PX * columns + 2 * _PADDING_PX + columns // 2, _LINE_PX * len(lines) + _PADDING_PX


def _links(picture: Picture, layout: Layout) -> Iterator[str]:
    for link in picture.links:
        classes = [name for name, some in (("dashed", picture.dashed), ("critical", picture.critical)) if link in some]
        style = f' class="{" ".join(classes)}"' if classes else ""
        yield f'    <path{style} marker-end="url(#head)" d="{_curve(layout.paths[link])}"/>'


def _curve(places: Sequence[Box]) -> str:
    """Out of the first box to the right, level through those it passes, into the last from the left."""
    first, *others = places
    at, parts = (first.right, first.middle), [f"M{first.right} {first.middle}"]
    for each in others:
        half = (at[0] + each.left) // 2
        parts.append(f"C{half} {at[1]} {half} {each.middle} {each.left} {each.middle}")
        if each is not places[-1]:
            parts.append(f"H{each.right}")
        at = each.right, each.middle
    return " ".join(parts)


def _boxes(picture: Picture, texts: Sequence[Sequence[str]], boxes: Sequence[Box]) -> Iterator[str]:
    for number, (item, lines, box) in enumerate(zip(picture.items, texts, boxes, strict=True)):
        end = number in (0, len(boxes) - 1)
        classes = [
            name
            for name, there in (("end", end), ("critical", item.critical), ("conditional", item.conditional))
            if there
        ]
        yield f'    <g class="{" ".join(classes)}">'
        yield f"      <title>{_safe(chr(10).join((item.title, *item.lines, *item.notes)))}</title>"
        yield f'      <rect x="{box.left}" y="{box.top}" width="{box.width}" height="{box.height}"/>'
        for index, line in enumerate(lines):
            kind = "title" if not index else "note" if index > len(item.lines) else "line"
            y = box.top + _LINE_PX * (index + 1)
            yield f'      <text class="{kind}" x="{box.left + _PADDING_PX}" y="{y}">{_safe(line)}</text>'
        yield "    </g>"


def _safe(text: str) -> str:
    """`text` as XML holds it."""
    return escape(_NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text))
