"""Which rows of a part a filter is about, as bits: bit i of byte i // 8, counted from the least; past the rows 0."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.vectors.field_columns import FieldColumn, Keywords, Mask, Places, field_column, validity
from engine.vectors.filter import Condition, Filter, Group, HasId, HasWords, IsEmpty, IsNull, MinShould, ValuesCount
from engine.vectors.rows import field_column as column_name
from engine.vectors.words import Terms
from kernels.bitsets import clear_rows, set_rows

Bits = npt.NDArray[np.uint8]
Ids = Any
"""npt.NDArray[np.uint64] or pa.StringArray."""

CACHE_BYTES_MAX: Final = 8 << 20
"""Bitsets one segment keeps: 570 of 117,000 rows, 67 of a million."""
_VALUE_BYTES: Final = 64
"""What a value of a condition takes, roughly."""


class FieldColumns:
    """The payload of one part, whose rows never change: columns are encoded when first asked for, bitsets of filters and of their
    conditions are kept, the least recently used go first. Any thread; two that ask for a column first wait for one.

    With `encode` false, for rows that are asked once or twice, columns are looked at as they are and nothing is kept.
    """

    def __init__(
        self, payload: pa.RecordBatch, ids: Ids, rows: int, *, terms: Mapping[str, Terms] | None = None,
        encode: bool = True, cache_bytes: int = CACHE_BYTES_MAX,
    ) -> None:  # fmt: skip
        """`payload` of `payload_schema`, `ids` uint64 [rows] or strings; `terms` of text fields that are cut up already."""
        self.rows = rows
        self._payload = payload
        self._ids = ids
        self._terms = terms or {}
        self._encode = encode
        self._columns: dict[tuple[str, bool], _Column] = {}
        self._building = threading.Lock()
        self._kept = _Kept(cache_bytes if encode else 0)

    def evaluate(self, filter_: Filter) -> Bits:
        """The rows that `filter_` is about, uint8 [ceil(rows / 8)], not to be written to."""
        return self._bits(filter_.root)

    def keywords(self, name: str) -> Keywords:
        """Of a keyword field that is no array, encoded: to group and to count by."""
        found = self._column(name, text=False).values
        assert isinstance(found, Keywords), name
        return found

    @property
    def kept_bytes(self) -> int:
        """What the bitsets take that are kept."""
        return self._kept.size_bytes

    def _bits(self, condition: Condition) -> Bits:
        if isinstance(condition, Group) and (ids := [each for each in condition.must_not if isinstance(each, HasId)]):
            # They come with a request, such as what its user has seen, and only the rest is kept: of a million rows keeping what
            # is never asked again took 100 µs, for pages of memory that nobody had used before.
            rest = tuple(each for each in condition.must_not if not isinstance(each, HasId))
            return self._without(self._bits(replace(condition, must_not=rest)).copy(), ids)
        found = self._kept.get(condition)
        if found is None:
            found = self._group(condition) if isinstance(condition, Group) else self._leaf(condition)
            found.setflags(write=False)
            self._kept.put(condition, found)
        return found

    def _group(self, group: Group) -> Bits:
        found = self._every_row() if not group.must else self._bits(group.must[0]).copy()
        for each in group.must[1:]:
            found &= self._bits(each)
        if group.should:
            found &= self._any_of(group.should)
        if group.min_should is not None:
            found &= self._at_least(group.min_should)
        for each in group.must_not:
            found &= ~self._bits(each)
        return found

    def _without(self, bits: Bits, conditions: Iterable[HasId]) -> Bits:
        for each in conditions:
            found = self._rows_of_ids(each.ids)
            if found.dtype == np.bool_:
                bits &= ~_packed(found, self.rows)
            else:
                clear_rows(bits, found.astype(np.int64))
        return bits

    def _any_of(self, conditions: Iterable[Condition]) -> Bits:
        found = np.zeros((self.rows + 7) // 8, np.uint8)
        for each in conditions:
            found |= self._bits(each)
        return found

    def _at_least(self, least: MinShould) -> Bits:
        counts = np.zeros(self.rows, np.uint16)
        for each in least.conditions:
            counts += np.unpackbits(self._bits(each), count=self.rows, bitorder="little")
        return np.packbits(counts >= least.min_count, bitorder="little")

    def _every_row(self) -> Bits:
        return np.packbits(np.ones(self.rows, bool), bitorder="little")

    def _leaf(self, condition: Condition) -> Bits:
        if isinstance(condition, HasId):
            return _packed(self._rows_of_ids(condition.ids), self.rows)
        assert not isinstance(condition, Group)
        column = self._column(condition.field, text=isinstance(condition, HasWords))
        if isinstance(condition, IsNull | IsEmpty | ValuesCount):
            return _packed(column.counted(condition), self.rows)
        return _packed(column.holds(condition), self.rows)

    def _column(self, name: str, *, text: bool) -> _Column:
        found = self._columns.get((name, text))
        if found is None:
            with self._building:
                found = self._columns.get((name, text))
                if found is None:
                    array = self._payload.column(column_name(name))
                    found = _Column(array, self._terms.get(name), text=text, encode=self._encode)
                    self._columns[name, text] = found
        return found

    def _rows_of_ids(self, ids: tuple[int | str, ...]) -> Mask | Places:
        if isinstance(self._ids, pa.Array):
            found: Mask = pc.is_in(self._ids, pa.array(ids, pa.string())).to_numpy(zero_copy_only=False)
            return found
        wanted = np.array(ids, np.uint64)
        if not self._encode:
            return np.isin(self._ids, wanted)
        known, rows, alone = self._sorted_ids
        if not len(known) or not len(wanted):
            return rows[:0]
        wanted.sort()  # of a million each search is some twenty places in memory, of which neighbours share most
        at = np.searchsorted(known, wanted)
        places: list[Places] = []
        while len(at):  # once, and again where several rows have an id: versions of one point
            here = (at < len(known)) & (known.take(at, mode="clip") == wanted)
            at, wanted = at[here], wanted[here]
            places.append(rows[at])
            if alone:
                break
            at = at + 1
        return places[0] if len(places) == 1 else np.concatenate(places)

    @cached_property
    def _sorted_ids(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32], bool]:
        """Ids ascending, whose rows they are, and whether each is of one row alone."""
        order = np.argsort(self._ids, kind="stable")
        known = self._ids[order]
        return known, order.astype(np.int32), not bool((known[1:] == known[:-1]).any())


def evaluate(
    filter_: Filter, payload: pa.RecordBatch, ids: Ids, rows: int, terms: Mapping[str, Terms] | None = None
) -> Bits:
    """As `FieldColumns.evaluate`, of rows that are asked once, such as growing ones."""
    return FieldColumns(payload, ids, rows, terms=terms, encode=False).evaluate(filter_)


class _Column:
    """One column of the payload: its values, and of an array whose they are."""

    def __init__(self, array: pa.Array, terms: Terms | None, *, text: bool, encode: bool) -> None:
        self.rows = len(array)
        self.valid = validity(array)
        self.counts: npt.NDArray[np.int64] | None = None
        self._array = array
        self._terms = terms
        self._encode = encode
        self._text = text
        if pa.types.is_list(array.type):
            self.counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)

    @cached_property
    def values(self) -> FieldColumn:
        """The values, of an array those of all rows."""
        flat = self._array if self.counts is None else self._array.flatten()
        return field_column(flat, self._terms, text=self._text, encode=self._encode)

    @cached_property
    def _row_of(self) -> npt.NDArray[np.int32]:
        assert self.counts is not None
        return np.repeat(np.arange(self.rows, dtype=np.int32), self.counts)

    def holds(self, condition: Condition) -> Mask | Places:
        """Where a condition on values holds."""
        found = self.values.holds(condition)
        return found if self.counts is None else self._row_of[found]

    def counted(self, condition: IsNull | IsEmpty | ValuesCount) -> Mask:
        """Where a condition holds that asks no values."""
        valid = np.ones(self.rows, bool) if self.valid is None else self.valid
        if isinstance(condition, ValuesCount):
            counts = np.ones(self.rows, np.int64) if self.counts is None else self.counts
            assert condition.gte is not None
            assert condition.lte is not None
            return valid & (counts >= condition.gte) & (counts <= condition.lte)
        if isinstance(condition, IsNull) or self.counts is None:
            return ~valid
        found: Mask = self.counts == 0
        return found


def _packed(found: Mask | Places, rows: int) -> Bits:
    if found.dtype == np.bool_:
        return np.packbits(found, bitorder="little")
    bits = np.zeros((rows + 7) // 8, np.uint8)
    set_rows(bits, found.astype(np.int64))
    return bits


class _Kept:
    """Bitsets by condition, bounded in bytes. Any thread."""

    def __init__(self, bytes_max: int) -> None:
        self.size_bytes = 0
        self._bytes_max = bytes_max
        self._kept: OrderedDict[Condition, Bits] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, condition: Condition) -> Bits | None:
        if not self._bytes_max:
            return None
        with self._lock:
            found = self._kept.get(condition)
            if found is not None:
                self._kept.move_to_end(condition)
        return found

    def put(self, condition: Condition, bits: Bits) -> None:
        size = _size_bytes(condition, bits)
        if size > self._bytes_max:
            return
        with self._lock:
            if condition not in self._kept:
                self._kept[condition] = bits
                self.size_bytes += size
            while self.size_bytes > self._bytes_max:
                self.size_bytes -= _size_bytes(*self._kept.popitem(last=False))


def _size_bytes(condition: Condition, bits: Bits) -> int:
    values: tuple[object, ...] = getattr(condition, "values", getattr(condition, "ids", ()))
    return bits.nbytes + _VALUE_BYTES * (8 + len(values))
