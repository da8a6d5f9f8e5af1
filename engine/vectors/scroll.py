"""Points by ascending id, page by page; text ids in the order of their code points. A page is of the newest view."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from engine.vectors.filter import Filter
from engine.vectors.matching import chosen
from engine.vectors.places import SHIFT, among
from engine.vectors.values import PointId
from engine.vectors.view import Living, Longs, Part, View, ids_at

_AT_ONCE: Final = 256


def page(view: View, filter_: Filter | None, limit: int, after: PointId | None) -> tuple[Longs, PointId | None]:
    """At most `limit` places (see engine/vectors/places.py) of ids past `after`, and the last id if there are
    more."""
    heads = [_places(each, at, filter_, after) for at, each in enumerate(view.parts)]
    found: list[tuple[PointId, int]] = []
    for id_, place in heapq.merge(*heads):
        if len(found) == limit:
            return np.array([each for _, each in found], np.int64), found[-1][0] if found else None
        found.append((id_, place))
    return np.array([each for _, each in found], np.int64), None


def _places(living: Living, at: int, filter_: Filter | None, after: PointId | None) -> Iterator[tuple[PointId, int]]:
    order = living.part.id_order
    begin = 0 if after is None else _past(living.part, order, after)
    bits = chosen(living, filter_)
    for start in range(begin, len(order), _AT_ONCE):
        rows = order[start : start + _AT_ONCE]
        if bits is not None:
            rows = rows[among(bits, rows)]
        yield from zip(ids_at(living.part, rows), ((at << SHIFT) | rows).tolist(), strict=True)


def _past(part: Part, order: Longs, after: PointId) -> int:
    """The first place in `order` of an id past `after`."""
    ids = part.ids
    low, high = 0, len(order)
    wanted = after.encode() if isinstance(after, str) else after
    while low < high:
        middle = (low + high) >> 1
        row = int(order[middle])
        here: Any = int(ids[row]) if isinstance(ids, np.ndarray) else ids[row].as_py().encode()
        if here <= wanted:
            low = middle + 1
        else:
            high = middle
    return low
