"""Where points are: both tables agree with a dictionary, and so do they after merges, settled or not."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from engine.vectors.locations import (
    ABSENT,
    Ids,
    IntegerTable,
    KeyedTable,
    Locations,
    Longs,
    Table,
    by_part,
    id_column,
)
from engine.vectors.places import ROW_MASK, SHIFT

KINDS = [(True, False), (False, False), (True, True), (False, True)]


def named(numbers: list[int], *, integer: bool, tenants: bool) -> tuple[Ids, pa.StringArray | None]:
    """Ids and tenants, by number: the same number is the same point."""
    ids = [(each // 2 if tenants else each) * (1 << 50) for each in numbers]
    column = id_column(ids if integer else [f"p{each}" for each in ids], integer=integer)
    return column, pa.array([f"t{each % 2}" for each in numbers]) if tenants else None


def longs(values: list[int]) -> Longs:
    """int64."""
    return np.array(values, np.int64)


class Twin:
    """Locations and a dictionary of them, by number."""

    def __init__(self, *, integer: bool, tenants: bool) -> None:
        self.source = random.Random(f"{integer}{tenants}")
        self.locations = Locations(integer=integer, tenants=tenants)
        self.truth: dict[int, int] = {}
        self.part, self.row = 1, 0
        self._kind = {"integer": integer, "tenants": tenants}

    def column(self, numbers: list[int]) -> tuple[Ids, pa.StringArray | None]:
        return named(numbers, **self._kind)

    def write(self) -> None:
        """Puts some, or removes some."""
        numbers = [self.source.randrange(300) for _ in range(self.source.randrange(1, 40))]
        if self.source.random() < 0.4:
            old = self.locations.remove(*self.column(numbers))
            assert old.tolist() == [self.truth.pop(number, ABSENT) for number in numbers]
            return
        new = [(self.part << SHIFT) | (self.row + at) for at in range(len(numbers))]
        self.row += len(numbers)
        old = self.locations.put(*self.column(numbers), longs(new))
        for number, place, before in zip(numbers, new, old.tolist(), strict=True):
            assert before == self.truth.get(number, ABSENT)
            self.truth[number] = place

    def agree(self) -> None:
        found = self.locations.get(*self.column(list(range(300))))
        assert found.tolist() == [self.truth.get(each, ABSENT) for each in range(300)]

    def merge(self) -> list[int]:
        """Some parts become one; who moved."""
        olds = sorted({place >> SHIFT for place in self.truth.values()})
        olds = olds[: self.source.randrange(len(olds) + 1)]
        merged, base = self.part + 1, 0
        self.part, self.row = self.part + 2, 0
        moved = [number for number, place in self.truth.items() if place >> SHIFT in olds]
        for key in olds:
            rows = sorted(place & ROW_MASK for place in self.truth.values() if place >> SHIFT == key)
            new = np.full(rows[-1] + 1, -1, np.int32)
            new[rows] = np.arange(base, base + len(rows))
            base += len(rows)
            self.locations.move(key, merged, new)
            for number, place in self.truth.items():
                if place >> SHIFT == key:
                    self.truth[number] = (merged << SHIFT) | int(new[place & ROW_MASK])
        return moved


@pytest.mark.parametrize(("integer", "tenants"), KINDS)
def test_locations_agree_with_a_dictionary_through_writes_and_merges(*, integer: bool, tenants: bool) -> None:
    twin = Twin(integer=integer, tenants=tenants)
    for _ in range(25):
        for _ in range(twin.source.randrange(1, 6)):
            twin.write()
        twin.agree()
        moved = twin.merge()
        twin.agree()
        for begin in range(0, len(moved), 10):
            twin.write()  # between slices
            twin.locations.settle(*twin.column(moved[begin : begin + 10]))
            twin.agree()
        twin.locations.settled()
        twin.agree()


TABLES: list[Callable[[], Table]] = [IntegerTable, KeyedTable]


@pytest.mark.parametrize("table", TABLES)
def test_of_an_id_put_twice_the_later_comes_after_the_earlier(table: Callable[[], Table]) -> None:
    found = table()
    ids = np.array([7, 7, 8, 7], np.uint64)
    assert found.put(ids, None, longs([1, 2, 3, 4])).tolist() == [ABSENT, 1, ABSENT, 2]
    assert found.get(ids, None).tolist() == [4, 4, 3, 4]
    assert found.remove(np.array([7, 7], np.uint64), None).tolist() == [4, ABSENT]


@pytest.mark.parametrize("table", TABLES)
def test_the_least_and_the_greatest_id_are_ids_like_others(table: Callable[[], Table]) -> None:
    found = table()
    ids = np.array([0, (1 << 64) - 1, 1 << 63], np.uint64)
    assert found.get(ids, None).tolist() == [ABSENT] * 3
    found.put(ids, None, longs([5, 6, 7]))
    assert found.get(ids, None).tolist() == [5, 6, 7]


def test_a_table_grows_past_the_room_it_was_made_with() -> None:
    table = IntegerTable(10)
    ids = np.random.default_rng(1).permutation(50_000).astype(np.uint64)
    for begin in range(0, len(ids), 777):
        some = ids[begin : begin + 777]
        table.put(some, None, some.astype(np.int64) + 1)
    assert (table.get(ids, None) == ids.astype(np.int64) + 1).all()


def test_nothing_can_be_asked_of_nothing() -> None:
    for integer, tenants in KINDS:
        locations = Locations(integer=integer, tenants=tenants)
        none = named([], integer=integer, tenants=tenants)
        assert len(locations.put(*none, longs([]))) == len(locations.get(*none)) == len(locations.remove(*none)) == 0
        locations.settle(*none)


def test_a_part_moves_once_until_it_is_settled() -> None:
    locations = Locations(integer=True, tenants=False)
    locations.move(1, 3, np.array([0], np.int32))
    with pytest.raises(AssertionError):
        locations.move(1, 4, np.array([0], np.int32))
    with pytest.raises(AssertionError):
        locations.move(2, 1, np.array([0], np.int32))
    locations.settled()
    locations.move(3, 4, np.array([0], np.int32))


def test_locations_are_told_apart_by_part_and_what_is_absent_is_left_out() -> None:
    found = {key: rows.tolist() for key, rows in by_part(longs([5 << SHIFT | 9, ABSENT, 2 << SHIFT, 5 << SHIFT | 1]))}
    assert found == {2: [0], 5: [9, 1]}
    assert list(by_part(longs([ABSENT]))) == list(by_part(longs([]))) == []
