"""Which living points of a view a filter is about."""

from __future__ import annotations

from collections.abc import Iterator

from engine.vectors.filter import Filter
from engine.vectors.places import rows_of
from engine.vectors.view import Bits, Living, Longs, View
from kernels.bitsets import count as count_bits
from kernels.bitsets import count_both


def chosen(living: Living, filter_: Filter | None) -> Bits | None:
    """The living rows of a part that a filter is about; None is all of its rows. Not to be written to."""
    if filter_ is None:
        return living.alive
    passing = living.part.passing(filter_)
    return passing if living.alive is None else passing & living.alive


def chosen_rows(living: Living, filter_: Filter | None) -> Longs:
    """The same as rows, ascending."""
    return rows_of(chosen(living, filter_), living.part.rows)


def matching(view: View, filter_: Filter | None) -> Iterator[tuple[Living, Longs]]:
    """Parts that have any, and which rows."""
    for each in view.parts:
        if len(rows := chosen_rows(each, filter_)):
            yield each, rows


def count(view: View, filter_: Filter | None) -> int:
    """How many points."""
    if filter_ is None:
        return view.count
    return sum(_count(each, filter_) for each in view.parts)


def _count(living: Living, filter_: Filter) -> int:
    passing = living.part.passing(filter_)
    return int(count_bits(passing) if living.alive is None else count_both(passing, living.alive))
