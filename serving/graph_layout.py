"""Where the boxes and the lines of a drawn graph go. Pure, and the same for the same graph.

Boxes lie in layers, each after those it needs (Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System
Structures", 1981): in a layer they are ordered by the middle of what they are linked to, and a link over several layers
gets a place of its own in each of those between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Link = tuple[int, int]
"""Two boxes by number; the first comes before the second."""

_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: its left upper corner and its size."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Where it ends."""
        return self.left + self.width

    @property
    def middle(self) -> int:
        """Half way down."""
        return self.top + self.height // 2


@dataclass(frozen=True, slots=True)
class Layout:
    """A box for each number, and for each link the places it passes, first and last its two boxes."""

    boxes: tuple[Box, ...]
    paths: Mapping[Link, tuple[Box, ...]]
    width: int
    height: int


def layers_of(count: int, links: Sequence[Link], most: int) -> list[list[int]]:
    """The numbers below `count` in layers of at most `most`, each after all it is linked from."""
    after: dict[int, list[int]] = {each: [] for each in range(count)}
    for source, target in links:
        after[target].append(source)
    layer: dict[int, int] = {}
    found: list[list[int]] = []
    for each in _ordered(after):
        at = max((layer[source] + 1 for source in after[each]), default=0)
        while at < len(found) and len(found[at]) >= most:
            at += 1
        while at >= len(found):
            found.append([])
        layer[each] = at
        found[at].append(each)
    return [sorted(each) for each in found if each]


def _ordered(after: Mapping[int, Sequence[int]]) -> list[int]:
    """Each after those it is linked from; the lowest first."""
    order: list[int] = []
    left = sorted(after)
    done: set[int] = set()
    while left:
        each = next(each for each in left if done.issuperset(after[each]))
        left.remove(each)
        done.add(each)
        order.append(each)
    return order


def ordered_layers(count: int, links: Sequence[Link], most: int) -> list[list[int]]:
    """As `layers_of`, and in each layer so ordered that few links cross."""
    layers = layers_of(count, links, most)
    _, segments = _chains(layers, links)
    _order(layers, segments)
    return [[each for each in layer if each < count] for layer in layers]


def place(
    sizes: Sequence[tuple[int, int]], links: Sequence[Link], *, gap: tuple[int, int], most: int, thin: int
) -> Layout:
    """Boxes of `sizes` (width, height) from left to right, `gap` apart (across, down); `thin` is the height of a place that a
    link passes."""
    layers = layers_of(len(sizes), links, most)
    chains, segments = _chains(layers, links)
    _order(layers, segments)
    size_of = dict(enumerate(sizes))
    widths = [max(size_of[each][0] for each in layer if each in size_of) for layer in layers]
    heights = [[size_of[each][1] if each in size_of else thin for each in layer] for layer in layers]
    tall = [sum(each) + gap[1] * (len(each) - 1) for each in heights]
    height = max(tall, default=0)
    boxes: dict[int, Box] = {}
    left = 0
    for layer, width, own, high in zip(layers, widths, heights, tall, strict=True):
        top = (height - high) // 2
        for each, size in zip(layer, own, strict=True):
            wide = size_of[each][0] if each in size_of else width
            boxes[each] = Box(left + (width - wide) // 2, top, wide, size)
            top += size + gap[1]
        left += width + gap[0]
    paths = {link: tuple(boxes[each] for each in chain) for link, chain in chains.items()}
    return Layout(tuple(boxes[each] for each in range(len(sizes))), paths, max(0, left - gap[0]), height)


def _chains(layers: list[list[int]], links: Sequence[Link]) -> tuple[dict[Link, list[int]], list[Link]]:
    """For each link the numbers it passes, new ones where it skips layers; and all links between neighbours."""
    at = {each: index for index, layer in enumerate(layers) for each in layer}
    fresh = len(at)
    chains: dict[Link, list[int]] = {}
    for source, target in links:
        chain = [source]
        for index in range(at[source] + 1, at[target]):
            layers[index].append(fresh)
            chain.append(fresh)
            fresh += 1
        chains[source, target] = [*chain, target]
    return chains, [pair for chain in chains.values() for pair in pairwise(chain)]


def _order(layers: list[list[int]], segments: Sequence[Link]) -> None:
    """Sorts each layer by where its neighbours lie, forth and back, so that few links cross."""
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for source, target in segments:
        before.setdefault(target, []).append(source)
        after.setdefault(source, []).append(target)
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        neighbours = before if forth else after
        for layer in layers if forth else layers[::-1]:
            place_of = {each: index / len(other) for other in layers for index, each in enumerate(other)}
            middle = {
                each: sum(place_of[other] for other in neighbours[each]) / len(neighbours[each])
                if each in neighbours
                else place_of[each]
                for each in layer
            }
            layer.sort(key=lambda each: (middle[each], each))
