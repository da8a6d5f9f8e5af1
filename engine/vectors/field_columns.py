"""Columns of the payload as filters want them: encoded once for a sealed segment, or looked at as they are.

A column answers which of its values a condition holds for: bool [n], or, where it knows at once, their places, int [m],
ascending within each value asked for. Of an array that is asked of the values of all rows, one after another, then told of rows.
"""

from __future__ import annotations

from functools import cached_property, reduce
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.vectors.filter import (
    AnyOf,
    Condition,
    GeoBox,
    GeoPolygon,
    GeoRadius,
    HasWords,
    Match,
    NoneOf,
    Range,
)
from engine.vectors.values import INTEGER_MAX, INTEGER_MIN
from engine.vectors.words import Terms, term_hashes, terms_of

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.integer[Any]]

RARE_SHARE: Final = 1 / 64
"""A value that fewer rows have is looked up, not looked for: setting a bit costs some 30 times as much as comparing a code."""
EARTH_METRES: Final = 6_371_008.8
"""The mean radius (IUGG)."""
_LOOKED_UP_MAX: Final = 32


class FieldColumn(Protocol):
    """A column of values that are not arrays."""

    valid: Mask | None
    """Which are not null; None is all."""

    def holds(self, condition: Condition) -> Mask | Places:
        """Where a condition that fits the column's type holds; never where it is null."""


def validity(column: pa.Array) -> Mask | None:
    """Which values are not null, None is all."""
    if not column.null_count:
        return None
    found: Mask = column.is_valid().to_numpy(zero_copy_only=False)
    return found


class Keywords:
    """`dictionary`: each value once, sorted; `codes` int8, int16 or int32 [n]: places in it, -1 where null; `counts` int64: how
    many rows have each."""

    def __init__(self, column: pa.StringArray) -> None:
        self.valid = validity(column)
        encoded = column.dictionary_encode()
        order = pc.array_sort_indices(encoded.dictionary)
        self.dictionary: pa.StringArray = encoded.dictionary.take(order)
        known = len(order)
        kind = np.int8 if known < 1 << 7 else np.int16 if known < 1 << 15 else np.int32
        ranks = np.full(known + 1, -1, kind)
        ranks[order.to_numpy()] = np.arange(known, dtype=kind)
        self.codes = ranks[pc.fill_null(encoded.indices, known).to_numpy()]
        self.counts = np.bincount(self.codes[self.codes >= 0], minlength=known)

    @cached_property
    def _postings(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Rows by value, and where each value's begin."""
        nulls = len(self.codes) - int(self.counts.sum())
        return (
            np.argsort(self.codes, kind="stable").astype(np.int32),
            np.concatenate([np.array([nulls]), nulls + np.cumsum(self.counts)]),
        )

    def code(self, value: str) -> int:
        """The place of `value` in `dictionary`, -1 where it is not."""
        low, high = 0, len(self.dictionary)
        while low < high:
            middle = (low + high) >> 1
            if self.dictionary[middle].as_py() < value:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self.dictionary) and self.dictionary[low].as_py() == value else -1

    def _codes_of(self, values: tuple[Any, ...]) -> npt.NDArray[np.int64]:
        if len(values) <= _LOOKED_UP_MAX:
            found = np.array([self.code(each) for each in values], np.int64)
            return found[found >= 0]
        wanted: Mask = pc.is_in(self.dictionary, pa.array(values, pa.string())).to_numpy(zero_copy_only=False)
        return np.flatnonzero(wanted)

    def holds(self, condition: Condition) -> Mask | Places:
        """Of Match, AnyOf, NoneOf."""
        if isinstance(condition, NoneOf):
            return self._among(self._codes_of(condition.values), inverted=True)
        assert isinstance(condition, Match | AnyOf), condition
        codes = self._codes_of((condition.value,) if isinstance(condition, Match) else condition.values)
        if self.counts[codes].sum() <= RARE_SHARE * len(self.codes):
            return self._rows_of(codes)
        found: Mask = self.codes == codes[0] if len(codes) == 1 else self._among(codes)
        return found

    def _among(self, codes: npt.NDArray[np.int64], *, inverted: bool = False) -> Mask:
        chosen = np.full(len(self.dictionary) + 1, inverted)
        chosen[codes] = not inverted
        chosen[-1] = False
        found: Mask = chosen[self.codes]
        return found

    def _rows_of(self, codes: npt.NDArray[np.int64]) -> Places:
        if not self.counts[codes].any():
            return np.empty(0, np.int32)
        rows, starts = self._postings
        return np.concatenate([rows[starts[code] : starts[code + 1]] for code in codes])


class Strings:
    """Keywords as they came: for rows that are asked too seldom to encode them."""

    def __init__(self, column: pa.StringArray) -> None:
        self.valid = validity(column)
        self._column = column

    def holds(self, condition: Condition) -> Mask | Places:
        """Of Match, AnyOf, NoneOf."""
        assert isinstance(condition, Match | AnyOf | NoneOf), condition
        if isinstance(condition, Match):
            found = pc.equal(self._column, condition.value)
        else:
            found = pc.is_in(self._column, pa.array(condition.values, pa.string()))
        mask: Mask = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
        return _valid_only(~mask, self.valid) if isinstance(condition, NoneOf) else mask


class Numbers:
    """Integers, floats, bools, datetimes as microseconds: `values` int64, float64 or int8 [n], anything where null."""

    def __init__(self, column: pa.Array) -> None:
        self.valid = validity(column)
        if pa.types.is_timestamp(column.type):
            column = column.view(pa.int64())
        elif pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        self.values: npt.NDArray[Any] = (pc.fill_null(column, 0) if column.null_count else column).to_numpy()

    def holds(self, condition: Condition) -> Mask | Places:
        """Of Match, AnyOf, NoneOf, Range."""
        values = self.values
        if isinstance(condition, Match):
            mask: Mask = values == condition.value
        elif isinstance(condition, AnyOf):
            mask = _is_in(values, condition.values)
        elif isinstance(condition, NoneOf):
            mask = ~_is_in(values, condition.values)
        else:
            assert isinstance(condition, Range), condition
            mask = self._within(condition)
        return _valid_only(mask, self.valid)

    def _within(self, bounds: Range) -> Mask:
        found = [
            compare(self.values, bound)
            for compare, bound in (
                (np.greater, bounds.gt),
                (np.greater_equal, None if bounds.gte == INTEGER_MIN else bounds.gte),
                (np.less, bounds.lt),
                (np.less_equal, None if bounds.lte == INTEGER_MAX else bounds.lte),
            )
            if bound is not None
        ]
        return reduce(np.logical_and, found) if found else np.ones(len(self.values), bool)


def _is_in(values: npt.NDArray[Any], wanted: tuple[Any, ...]) -> Mask:
    if len(wanted) <= _LOOKED_UP_MAX // 4:
        return reduce(np.logical_or, (values == each for each in wanted), np.zeros(len(values), bool))
    known = np.array(wanted, values.dtype)  # sorted: the filter is canonical
    places = np.searchsorted(known, values)
    places[places == len(known)] = 0
    found: Mask = known[places] == values
    return found


def _valid_only(mask: Mask, valid: Mask | None) -> Mask:
    return mask if valid is None else mask & valid


class Texts:
    """Words of texts. `terms`: of these texts, if somebody has them; else they are cut up when first asked for. `encode`: terms
    are sorted, so that rows of one are looked up."""

    def __init__(self, column: pa.StringArray, terms: Terms | None, *, encode: bool) -> None:
        self.valid = validity(column)
        self._column = column
        self._given = terms
        self._encode = encode

    @cached_property
    def _rows_of_terms(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
        """Terms, and a row that has it for each; sorted where encoded."""
        found = terms_of(self._column) if self._given is None else self._given
        rows = np.repeat(np.arange(len(self._column), dtype=np.int32), np.diff(found.offsets))
        if not self._encode:
            return found.terms, rows
        order = np.argsort(found.terms, kind="stable")
        return found.terms[order], rows[order]

    def _rows_of(self, term: np.uint64) -> npt.NDArray[np.int32]:
        terms, rows = self._rows_of_terms
        if not self._encode:
            found: npt.NDArray[np.int32] = rows[terms == term]
            return found
        first, last = np.searchsorted(terms, term), np.searchsorted(terms, term, "right")
        return rows[int(first) : int(last)]

    def holds(self, condition: Condition) -> Mask | Places:
        """Of HasWords."""
        assert isinstance(condition, HasWords), condition
        words = condition.text.split()
        if not words:
            return np.empty(0, np.int32)
        found = sorted((self._rows_of(each) for each in term_hashes(words)), key=len)
        rows = found[0]
        for other in found[1:]:
            if not len(rows):
                break
            among = np.zeros(len(self._column), bool)
            among[other] = True
            rows = rows[among[rows]]
        return rows


class Locations:
    """Geo points: `latitudes`, `longitudes` float64 [n] in degrees."""

    def __init__(self, column: pa.FixedSizeListArray) -> None:
        self.valid = validity(column)
        begin = 2 * column.offset
        pairs = column.values.slice(begin, 2 * len(column))
        flat = (pc.fill_null(pairs, 0.0) if pairs.null_count else pairs).to_numpy().reshape(-1, 2)
        self.latitudes: npt.NDArray[np.float64] = np.ascontiguousarray(flat[:, 0])
        self.longitudes: npt.NDArray[np.float64] = np.ascontiguousarray(flat[:, 1])

    def holds(self, condition: Condition) -> Mask | Places:
        """Of GeoRadius, GeoBox, GeoPolygon."""
        if isinstance(condition, GeoRadius):
            return self._near(condition)
        if isinstance(condition, GeoBox):
            return _valid_only(self._within(condition), self.valid)
        assert isinstance(condition, GeoPolygon), condition
        return _valid_only(self._inside(condition), self.valid)

    def _near(self, circle: GeoRadius) -> Places:
        """Distances are told of those alone whose latitude is near enough."""
        latitude, longitude = circle.centre
        reach = np.degrees(circle.metres / EARTH_METRES) + 1e-9
        mask = _valid_only(np.abs(self.latitudes - latitude) <= reach, self.valid)
        rows = np.flatnonzero(mask)
        apart = haversine_metres(latitude, longitude, self.latitudes[rows], self.longitudes[rows])
        return rows[apart <= circle.metres]

    def _within(self, box: GeoBox) -> Mask:
        here = (self.latitudes <= box.north) & (self.latitudes >= box.south)
        east, west = self.longitudes <= box.east, self.longitudes >= box.west
        return here & (east & west if box.west <= box.east else east | west)

    def _inside(self, polygon: GeoPolygon) -> Mask:
        """A ray eastwards crosses an odd number of sides."""
        found = np.zeros(len(self.latitudes), bool)
        y, x = self.latitudes, self.longitudes
        for ring in polygon.rings:
            for (y0, x0), (y1, x1) in zip(ring, (*ring[1:], ring[0]), strict=True):
                if y0 != y1:
                    found ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return found


def haversine_metres(
    latitude: float, longitude: float, latitudes: npt.NDArray[np.float64], longitudes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The way along a sphere from one point to others; degrees in, metres out."""
    here, there = np.radians(latitude), np.radians(latitudes)
    half = np.sin((there - here) / 2) ** 2
    half += np.cos(here) * np.cos(there) * np.sin(np.radians(longitudes - longitude) / 2) ** 2
    found: npt.NDArray[np.float64] = 2 * EARTH_METRES * np.arcsin(np.sqrt(np.minimum(half, 1)))
    return found


def field_column(column: pa.Array, terms: Terms | None, *, text: bool, encode: bool) -> FieldColumn:
    """The column of values of one type; strings are keywords, or `text`."""
    if pa.types.is_string(column.type):
        if text:
            return Texts(column, terms, encode=encode)
        return Keywords(column) if encode else Strings(column)
    return Locations(column) if pa.types.is_fixed_size_list(column.type) else Numbers(column)
