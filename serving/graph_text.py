"""A graph in plain characters, from top to bottom. Pure.

Between two layers of boxes lies a channel, in which each source has a row of its own; a link over several layers runs down a lane
at the right, one for each source. Lines leave a box in every fourth column and enter two beside that, or straight, so that no two
of different meaning lie on or beside each other. At a "+" a line turns or divides, at a "v" it goes down, "-|-" is a crossing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine import GraphOutline
from serving.graph_drawing import Item, picture_of, shown, width
from serving.graph_layout import Link, ordered_layers

_COLUMNS, _LAYER_MOST = 108, 12
_TITLE_COLUMNS = 26
_GAP = 3
LEGEND = "* on the path expected to take longest   ? has a condition   ! something may stand in for it"


@dataclass(slots=True)
class _Net:
    """What one source, or its lane, is linked to in one channel: columns at the top and at the bottom."""

    top: int
    bottoms: list[int] = field(default_factory=list)
    row: int = 0

    @property
    def straight(self) -> bool:
        """Whether it needs no row."""
        return self.bottoms == [self.top]

    @property
    def span(self) -> tuple[int, int]:
        """Its first and last column."""
        return min(self.top, *self.bottoms), max(self.top, *self.bottoms)


def draw_text(graph: GraphOutline) -> list[str]:
    """The lines of the drawing; the legend is `LEGEND`."""
    picture = picture_of(graph)
    boxes = [_box(each) for each in picture.items]
    for most in range(_LAYER_MOST, 0, -1):
        layers = ordered_layers(len(boxes), picture.links, most)
        if most == 1 or max(_wide(boxes, layer) for layer in layers) <= _COLUMNS:
            break
    return _Drawing(boxes, layers, picture.links).lines()


def _wide(boxes: Sequence[list[str]], layer: Sequence[int]) -> int:
    return sum(width(boxes[each][0]) + _GAP for each in layer) - _GAP


def _box(item: Item) -> list[str]:
    marks = "".join(
        mark for mark, there in (("*", item.critical), ("?", item.conditional), ("!", item.stood_in_for)) if there
    )
    title = f"{shown(item.title, _TITLE_COLUMNS)}{f' {marks}' if marks else ''}"
    lines = [title, *(shown(each, _TITLE_COLUMNS) for each in item.lines)]
    inner = max(map(width, lines))
    inner += 1 - inner % 2
    edge = "-" * (inner + 2)
    return [f".{edge}.", *(f"| {each}{' ' * (inner - width(each))} |" for each in lines), f"'{edge}'"]


class _Drawing:
    """One use of `draw_text`."""

    def __init__(self, boxes: Sequence[list[str]], layers: Sequence[Sequence[int]], links: Sequence[Link]) -> None:
        self._boxes, self._layers = boxes, layers
        self._layer = {each: index for index, layer in enumerate(layers) for each in layer}
        self._targets: dict[int, list[int]] = {each: [] for each in self._layer}
        for source, target in links:
            self._targets[source].append(target)
        self._left = self._lefts()
        self._exit = {each: self._left[each] + width(boxes[each][0]) // 2 for each in self._layer}
        self._lane = self._lanes()

    def _lefts(self) -> Mapping[int, int]:
        total = max(_wide(self._boxes, layer) for layer in self._layers)
        left: dict[int, int] = {}
        for layer in self._layers:
            at = (total - _wide(self._boxes, layer)) // 2
            for each in layer:
                size = width(self._boxes[each][0])
                left[each] = at + -(at + size // 2) % 4  # its middle is in every fourth column
                at = left[each] + size + _GAP
        return left

    def _lanes(self) -> Mapping[int, int]:
        """A column for each source with links over several layers, used again where it has ended before."""
        first = max(self._left[each] + width(self._boxes[each][0]) for each in self._layer) + 2
        ends: list[int] = []
        lane: dict[int, int] = {}
        for source in sorted(self._layer, key=lambda each: (self._layer[each], each)):
            start, end = self._layer[source], max((self._layer[each] for each in self._targets[source]), default=0)
            if end <= start + 1:
                continue
            free = next((index for index, until in enumerate(ends) if until <= start), len(ends))
            ends[free : free + 1] = [end]
            lane[source] = first + first % 2 + 2 * free
        return lane

    def lines(self) -> list[str]:
        """See `draw_text`."""
        lines: list[str] = []
        for index, layer in enumerate(self._layers):
            lines += self._rows(index, layer)
            if index + 1 < len(self._layers):
                lines += self._channel(index)
        return lines

    def _rows(self, index: int, layer: Sequence[int]) -> list[str]:
        passing = self._passing(index - 1)
        rows = []
        for row in range(max(len(self._boxes[each]) for each in layer)):
            pieces = {self._left[each]: self._piece(each, row) for each in layer}
            rows.append(_joined(pieces | dict.fromkeys(passing, "|")))
        return rows

    def _piece(self, each: int, row: int) -> str:
        box = self._boxes[each]
        if row < len(box):
            return box[row]
        half = width(box[0]) // 2
        return f"{' ' * half}{'|' if self._targets[each] else ' '}"

    def _passing(self, channel: int) -> list[int]:
        """The lanes that go on below a channel."""
        return [
            column
            for source, column in self._lane.items()
            if self._layer[source] <= channel
            and any(self._layer[target] > channel + 1 for target in self._targets[source])
        ]

    def _channel(self, index: int) -> list[str]:
        nets, entries = self._nets(index)
        passing = set(self._passing(index))
        rows = _assign(nets)
        grid = [dict.fromkeys(self._untouched(index, nets), "|") for _ in range(rows)]
        for net in nets:
            if not net.straight:
                low, high = net.span
                grid[net.row] = dict.fromkeys(range(low, high + 1), "-") | grid[net.row]
        for net in nets:
            for row in range(rows):
                columns = [net.top] if row < net.row or net.straight else net.bottoms if row > net.row else []
                grid[row] |= dict.fromkeys(columns, "|")
        for net in nets:
            if not net.straight:
                grid[net.row] |= {each: "v" if _joins(net, each, nets) else "+" for each in (net.top, *net.bottoms)}
        arrows = dict.fromkeys(entries, "v") | dict.fromkeys(passing, "|")
        return [_joined(each) for each in (*grid, arrows)]

    def _untouched(self, index: int, nets: Sequence[_Net]) -> list[int]:
        """Lanes that only pass through a channel."""
        tops = {net.top for net in nets} | {column for net in nets for column in net.bottoms}
        return [each for each in self._passing(index) if each not in tops]

    def _nets(self, index: int) -> tuple[list[_Net], set[int]]:
        below = self._layers[index + 1]
        sources: dict[int, list[int]] = {}
        for source, targets in self._targets.items():
            here = [each for each in targets if each in below]
            far = self._layer[source] == index and any(self._layer[each] > index + 1 for each in targets)
            if self._layer[source] <= index and (here or far):
                sources[source] = here
        entry = {each: self._entry(each, index, sources) for each in below}
        nets = []
        for source, here in sources.items():
            begins = self._layer[source] == index
            net = _Net(self._exit[source] if begins else self._lane[source], [entry[each] for each in here])
            if any(self._layer[each] > index + 1 for each in self._targets[source]):
                net.bottoms.append(self._lane[source])
            nets.append(net)
        return nets, {entry[each] for here in sources.values() for each in here}

    def _entry(self, target: int, index: int, sources: Mapping[int, Sequence[int]]) -> int:
        """The column in which lines enter a box: straight from above where nothing else could be meant by it."""
        column = self._exit[target]
        feeding = [each for each, here in sources.items() if target in here]
        above = [each for each in self._layers[index] if self._exit[each] == column and self._targets[each]]
        if not above or (above[0] in feeding and (len(feeding) == 1 or len(self._targets[above[0]]) == 1)):
            return column
        return column + 2


def _assign(nets: Sequence[_Net]) -> int:
    """Gives each net that is not straight a row in which it meets no other; how many rows there are."""
    taken: list[list[tuple[int, int]]] = []
    for net in sorted(nets, key=lambda each: (each.span[0] - each.span[1], each.span)):
        if net.straight:
            continue
        low, high = net.span
        row = next(
            (row for row, spans in enumerate(taken) if all(high + 1 < start or end + 1 < low for start, end in spans)),
            len(taken),
        )
        if row == len(taken):
            taken.append([])
        taken[row].append((low, high))
        net.row = row
    return len(taken)


def _joins(net: _Net, column: int, nets: Sequence[_Net]) -> bool:
    """Whether it goes down in `column` where another comes from above: what is from there does not turn into its row."""
    return any(
        other is not net and column in other.bottoms and (other.straight or other.row < net.row) for other in nets
    )


def _joined(pieces: Mapping[int, str]) -> str:
    """One line of pieces by the column in which they begin."""
    line, at = "", 0
    for column in sorted(pieces):
        line += " " * (column - at) + pieces[column]
        at = column + width(pieces[column])
    return line.rstrip()
