"""Hits by the values of a field: at most so many of each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.vectors.filter import Filter
from engine.vectors.matching import matching
from engine.vectors.places import parts_of
from engine.vectors.query import GroupBy
from engine.vectors.values import PointId
from engine.vectors.view import Longs, View


class Groups:
    """Takes places, best first; keeps at most `by.size` of each of the first `wanted` values. A point without one is left out."""

    def __init__(self, view: View, by: GroupBy, wanted: int) -> None:
        self._view = view
        self._by = by
        self._wanted = wanted
        self._found: dict[PointId, list[int]] = {}

    def add(self, places: Longs) -> None:
        """All there are: once."""
        for at, value in enumerate(self._values(places)):
            if value is None:
                continue
            group = self._found.get(value)
            if group is None:
                if len(self._found) == self._wanted:
                    continue
                group = self._found[value] = []
            if len(group) < self._by.size:
                group.append(at)

    def _values(self, places: Longs) -> list[PointId | None]:
        found: list[PointId | None] = [None] * len(places)
        for part, here, rows in parts_of(places):
            column = self._view.parts[part].part.column(self._by.field).take(pa.array(rows))
            for at, value in zip(here.tolist(), column.to_pylist(), strict=True):
                found[at] = value
        return found

    @property
    def full(self) -> bool:
        """Whether more places would change nothing."""
        return len(self._found) == self._wanted and all(len(each) == self._by.size for each in self._found.values())

    def lacking(self, most: int, filter_: Filter | None) -> list[PointId] | None:
        """The values that have fewer hits than there may be, if they are at most `most`; where fewer values than wanted were
        found, of all that the points have which a filter is about."""
        short = [value for value, group in self._found.items() if len(group) < self._by.size]
        if len(self._found) < self._wanted:
            every = values_of(self._view, filter_, self._by.field, len(self._found) + most)
            if every is None:
                return None
            short += [each for each in every if each not in self._found]
        return short if len(short) <= most else None

    def after(self, offset: int) -> tuple[Longs, list[PointId]]:
        """Of all groups but the first `offset`: which of the places added, group by group, and the value of each."""
        kept = list(self._found.items())[offset:]
        rows = [row for _, group in kept for row in group]
        return np.array(rows, np.int64), [value for value, group in kept for _ in group]


def values_of(view: View, filter_: Filter | None, field: str, most: int) -> list[PointId] | None:
    """The values of a field that the points have that a filter is about; None where they are more than `most`."""
    found: dict[PointId, None] = {}
    for living, rows in matching(view, filter_):
        column = living.part.column(field)
        some = pc.unique(column if len(rows) == len(column) else column.take(pa.array(rows)))
        if len(some) > most + 1:  # null may be among them
            return None
        found.update(dict.fromkeys(each for each in some.to_pylist() if each is not None))
    return list(found) if len(found) <= most else None
