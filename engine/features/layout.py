"""How a view's state lies in memory: the tables that the kernels follow. Pure apart from numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engine.errors import SpecError, quoted
from engine.features.view import Aggregate, AggregateKind, ColumnKind, Feature, FeatureKind, View
from engine.features.window import SECOND_US, Window, WindowKind
from kernels import reads as reading
from kernels.record import (
    CODE,
    ETERNAL_US,
    EVENT_COLUMNS,
    HASH,
    HEADER_BYTES,
    NO_VALUE,
    NONE,
    NUMBER,
    RING_BYTES,
    ROW_BYTES,
    SIZES_BYTES,
    TILE_END,
)

Key = TypeVar("Key", bound=tuple[int, ...])

COLD_BYTES_MAX = 256
COLD_EVENTS_MIN, COLD_EVENTS_MAX = 3, 16
EVENT_FLAGS_MAX = 32
_FOREVER_US = 1 << 62

_MOMENTS = {
    AggregateKind.COUNT: reading.COUNT, AggregateKind.SUM: reading.SUM, AggregateKind.MEAN: reading.MEAN,
    AggregateKind.MIN: reading.MIN, AggregateKind.MAX: reading.MAX, AggregateKind.VARIANCE: reading.VARIANCE,
    AggregateKind.STDDEV: reading.STDDEV,
}  # fmt: skip
_FIELDS: dict[AggregateKind, tuple[str, ...]] = {
    AggregateKind.COUNT: (), AggregateKind.SUM: ("sum",), AggregateKind.MEAN: ("sum",), AggregateKind.MIN: ("min",),
    AggregateKind.MAX: ("max",), AggregateKind.VARIANCE: ("sum", "m2"), AggregateKind.STDDEV: ("sum", "m2"),
    AggregateKind.FIRST: ("first",),
}  # fmt: skip
_KINDS = {
    WindowKind.SAWTOOTH: reading.SAWTOOTH, WindowKind.SLIDING: reading.SLIDING, WindowKind.TUMBLING: reading.TUMBLING,
}  # fmt: skip
_COLUMNS = {ColumnKind.NUMBER: (NUMBER, 8), ColumnKind.HASH: (HASH, 4), ColumnKind.CODE: (CODE, 8)}


Rows = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Block:
    """Sizes and tables as kernels read them, in one run of int64 words. `address` holds as long as `words` does."""

    words: npt.NDArray[np.int64]
    sizes: tuple[int, ...]

    @property
    def address(self) -> int:
        """Where the words begin."""
        return int(self.words.ctypes.data)

    @staticmethod
    def of(sizes: Sequence[int], tables: Sequence[Rows]) -> Block:
        """The block of these, in this order."""
        head, width = SIZES_BYTES // 8, ROW_BYTES // 8
        words = np.zeros(head + 2 * len(tables) + width * sum(map(len, tables)), np.int64)
        words[: len(sizes)] = sizes
        at = head + 2 * len(tables)
        for number, rows in enumerate(tables):
            words[head + 2 * number : head + 2 * number + 2] = words.ctypes.data + 8 * at, len(rows)
            for row in rows:
                words[at : at + len(row)] = row
                at += width
        return Block(words, tuple(sizes))


@dataclass(frozen=True, slots=True)
class Layout:
    """A view's tables. `reads` computes all its features; `reads_of` some of them."""

    view: View
    plan: Block
    reads: Block

    def reads_of(self, features: Sequence[int]) -> Block:
        """What computes these of the view's features, in this order, and nothing that they do not need."""
        return _Reader(self.view).reads(features)


def layout_of(view: View) -> Layout:
    """The layout of a view. Raises SpecError where it has more columns and filters than an event has room for."""
    flags = len(view.columns) + len(view.masks)
    if flags > EVENT_FLAGS_MAX:
        raise SpecError(
            f"feature view {quoted(view.name)}: {len(view.columns)} columns and {len(view.masks)} filters, together at most "
            f"{EVENT_FLAGS_MAX}; split it in two views over the same log"
        )
    plan = _Planner(view).plan()
    return Layout(view, plan, _Reader(view).reads(range(len(view.features))))


def _float_bits(value: float) -> int:
    return int(np.array([value], np.float64).view(np.int64)[0])


def is_moments(aggregate: Aggregate) -> bool:
    """Whether it is computed from the count, sum and so on of a tile."""
    return aggregate.kind in _MOMENTS or (aggregate.kind is AggregateKind.FIRST and aggregate.window is not None)


def _number(index: int | None) -> int:
    return NONE if index is None else index


def _bundle_key(aggregate: Aggregate) -> tuple[int, int, int]:
    """(tile length, column, filter): aggregates with the same key share tiles."""
    tile_us = aggregate.window.tile_us if aggregate.window else ETERNAL_US
    return tile_us, _number(aggregate.column), _number(aggregate.mask)


def _last_key(aggregate: Aggregate) -> tuple[int, int, int]:
    first = aggregate.kind is AggregateKind.FIRST
    return _number(aggregate.column), _number(aggregate.mask), int(first)


def _is_last(aggregate: Aggregate) -> bool:
    """Whether it keeps a time, and perhaps a value, outside of tiles."""
    if aggregate.kind is AggregateKind.SINCE:
        return aggregate.column is not None or aggregate.mask is not None
    return aggregate.kind is AggregateKind.LAST or (aggregate.kind is AggregateKind.FIRST and aggregate.window is None)


def _top_key(aggregate: Aggregate) -> tuple[int, int, int, int]:
    return (*_bundle_key(aggregate), aggregate.slots)


def _distinct_key(aggregate: Aggregate) -> tuple[int, int, int]:
    return _number(aggregate.column), _number(aggregate.mask), aggregate.slots


def _decay_key(aggregate: Aggregate) -> tuple[int, int, int]:
    return _number(aggregate.column), _number(aggregate.mask), aggregate.half_life_us


def _ordered(keys: Iterable[Key]) -> list[Key]:
    """The different ones, in a fixed order."""
    return sorted(set(keys))


class _Keys:
    """What of a view's aggregates is kept, each once, in a fixed order: both the planner and the reader count on it."""

    def __init__(self, view: View) -> None:
        every = view.aggregates
        kinds = AggregateKind
        moments = _ordered(_bundle_key(each) for each in every if is_moments(each))
        self.bundles = [each for each in moments if each[0] != ETERNAL_US]
        self.eternal = [each for each in moments if each[0] == ETERNAL_US]
        self.lasts = _ordered(_last_key(each) for each in every if _is_last(each))
        self.decays = _ordered(_decay_key(each) for each in every if each.kind is kinds.DECAYED)
        self.distincts = _ordered(_distinct_key(each) for each in every if each.kind is kinds.DISTINCT)
        self.tops = _ordered(_top_key(each) for each in every if each.kind is kinds.TOP)
        tiles: dict[int, int] = {}
        for each in every:
            if (is_moments(each) and each.window) or each.kind is kinds.TOP:
                tile_us = _bundle_key(each)[0]
                tiles[tile_us] = max(tiles.get(tile_us, 1), each.window.tiles if each.window else 1)
        self.rings = sorted(tiles.items())

    def ring(self, tile_us: int) -> int:
        """Its number."""
        return [each for each, _ in self.rings].index(tile_us)


class _Planner:
    """Gives everything its place in a record."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._keys = _Keys(view)
        self._at = 0

    def _take(self, size: int) -> int:
        self._at += size
        return self._at - size

    def plan(self) -> Block:
        keys = self._keys
        self._columns, event_bytes = self._event()
        self._at = 0
        lasts = [self._last(key) for key in keys.lasts]
        decays = [(c, m, self._take(8), _float_bits(half_life), *self._value(c, m)) for c, m, half_life in keys.decays]
        eternal = [self._bundle(key, 1, NONE) for key in keys.eternal]
        scalars = -(-self._at // 8) * 8
        self._at = HEADER_BYTES
        ring_at = [self._take(RING_BYTES) for _ in keys.rings]
        scalars_hot = self._take(scalars)
        distincts = [self._distinct(key) for key in keys.distincts]
        tops = [self._top(key) for key in keys.tops]
        bundles = [self._bundle(key, dict(keys.rings)[key[0]], keys.ring(key[0])) for key in keys.bundles]
        hot_bytes = -(-self._at // 8) * 8
        rings = [self._ring(number, at) for number, at in enumerate(ring_at)]
        sizes = self._sizes(hot_bytes, scalars_hot, scalars, event_bytes)
        return Block.of(sizes, [rings, bundles, eternal, lasts, decays, distincts, tops, self._columns, self._keeps()])

    def _event(self) -> tuple[Rows, int]:
        self._at = EVENT_COLUMNS
        rows = [(_COLUMNS[each.kind][0], self._take(_COLUMNS[each.kind][1])) for each in self._view.columns]
        return rows, self._at

    def _value(self, column: int, mask: int) -> tuple[int, int, int]:
        """The bits an event must have, what its value is and where in it."""
        need = 0 if mask == NONE else 1 << (len(self._columns) + mask)
        if column == NONE:
            return need, NO_VALUE, 0
        kind, at = self._columns[column]
        return need | 1 << column, kind, at

    def _distinct(self, key: tuple[int, int, int]) -> tuple[int, ...]:
        column, mask, slots = key
        need, _, at = self._value(column, mask)
        return column, mask, self._take(4 * slots), slots.bit_length() - 1, need, at

    def _last(self, key: tuple[int, int, int]) -> tuple[int, ...]:
        column, mask, first = key
        valued = column != NONE
        coded = valued and self._view.columns[column].kind is ColumnKind.CODE
        need, _, at = self._value(column, mask)
        return column, mask, self._take(16 if valued else 8), int(valued), first, int(coded), need, at

    def _bundle(self, key: tuple[int, int, int], tiles: int, ring: int) -> tuple[int, ...]:
        _, column, mask = key
        wanted = {
            field
            for each in self._view.aggregates
            if is_moments(each) and _bundle_key(each) == key
            for field in _FIELDS[each.kind]
        }
        at, offsets = 4, []
        for field, size in (("sum", 8), ("m2", 8), ("min", 8), ("max", 8), ("first", 16)):
            offsets.append(at if field in wanted else 0)
            at += size if field in wanted else 0
        value = self._value(column, mask)
        whole = at == TILE_END and not offsets[-1] and value[1] == NUMBER
        return column, mask, self._take(at * tiles), at, *offsets, ring, *value, int(whole)

    def _top(self, key: tuple[int, int, int, int]) -> tuple[int, ...]:
        tile_us, column, mask, slots = key
        stride = 16 + 4 * dict(self._keys.rings)[tile_us]
        need, _, at = self._value(column, mask)
        return column, mask, self._take(slots * stride), slots, stride, self._keys.ring(tile_us), need, at

    def _ring(self, number: int, at: int) -> tuple[int, ...]:
        tile_us, tiles = self._keys.rings[number]
        bundles = [i for i, key in enumerate(self._keys.bundles) if key[0] == tile_us]
        tops = [i for i, key in enumerate(self._keys.tops) if key[0] == tile_us]
        tile_s = tile_us // SECOND_US
        return tile_s, tiles, at, *_run(bundles), *_run(tops), reciprocal(tile_s), reciprocal(tiles)

    def _keeps(self) -> Rows:
        return _ordered((w.tile_us, w.tiles) for each in self._view.aggregates if (w := each.window) is not None)

    def _sizes(self, hot_bytes: int, scalars_hot: int, scalars: int, event_bytes: int) -> list[int]:
        view = self._view
        count_at = HEADER_BYTES + scalars
        room = (COLD_BYTES_MAX - count_at - 4) // event_bytes
        events = min(room, COLD_EVENTS_MAX) if room >= COLD_EVENTS_MIN and hot_bytes > COLD_BYTES_MAX else 0
        cold_bytes = -(-(count_at + 4 + events * event_bytes) // 8) * 8
        sketched = (AggregateKind.DISTINCT, AggregateKind.TOP)
        keep_all = any(each.kind in sketched and each.window is None for each in view.aggregates)
        return [
            hot_bytes, cold_bytes, events, count_at, count_at + 4, event_bytes, scalars_hot, HEADER_BYTES, scalars,
            min(view.ttl_us, _FOREVER_US), min(view.lateness_us, _FOREVER_US), min(view.future_us, _FOREVER_US),
            int(keep_all), len(view.masks),
        ]  # fmt: skip


def reciprocal(number: int) -> int:
    """2**63 / number, rounded up, as the bits of an int64: times a u32 it gives the quotient (Lemire, Kaser, Kurz 2019)."""
    bits = -(-(1 << 63) // number)
    return bits - (1 << 64) if bits >= 1 << 63 else bits


def _run(numbers: Sequence[int]) -> tuple[int, int]:
    """First and end of consecutive numbers."""
    return (numbers[0], numbers[-1] + 1) if numbers else (0, 0)


class _Reader:
    """Turns features into what the lookup kernel computes."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._keys = _Keys(view)
        self._windows: list[tuple[int, ...]] = []
        self._rows: list[tuple[int, ...]] = []
        self._places: dict[int, int] = {}

    def reads(self, features: Sequence[int]) -> Block:
        rows = [self._feature(self._view.features[each]) for each in features]
        max_age_us = _FOREVER_US if self._view.max_age_us is None else self._view.max_age_us
        return Block.of([max_age_us], [self._windows, self._rows, rows])

    def _feature(self, feature: Feature) -> tuple[int, ...]:
        if feature.kind is FeatureKind.EXPRESSION:
            return reading.ELSEWHERE, 0, 0, 0, 0
        first, second, third = (*(self._aggregate(each) for each in feature.of), 0, 0)[:3]
        operation = {FeatureKind.RATIO: reading.RATIO, FeatureKind.Z_SCORE: reading.Z_SCORE}.get(
            feature.kind, reading.TAKEN
        )
        if self._view.aggregates[feature.of[0]].kind is AggregateKind.TOP:
            operation = reading.RANKED
        return operation, first, second, third, feature.rank

    def _aggregate(self, number: int) -> int:
        if number not in self._places:
            self._places[number] = len(self._rows)
            self._rows.append(self._row(self._view.aggregates[number]))
        return self._places[number]

    def _row(self, aggregate: Aggregate) -> tuple[int, ...]:
        keys, kinds = self._keys, AggregateKind
        span = _span(aggregate.window)
        if is_moments(aggregate):
            return _MOMENTS.get(aggregate.kind, reading.FIRST), self._window(aggregate), *span
        if _is_last(aggregate):
            operation = reading.SINCE if aggregate.kind is kinds.SINCE else reading.LAST
            return operation, keys.lasts.index(_last_key(aggregate)), *span
        if aggregate.kind is kinds.SINCE:
            return reading.SINCE_ANY, 0, *span
        if aggregate.kind is kinds.DECAYED:
            return reading.DECAYED, keys.decays.index(_decay_key(aggregate)), *span
        if aggregate.kind is kinds.DISTINCT:
            return reading.DISTINCT, keys.distincts.index(_distinct_key(aggregate)), *span
        eternal = (reading.TUMBLING, ETERNAL_US, ETERNAL_US)
        return reading.TOP, keys.tops.index(_top_key(aggregate)), *(span if aggregate.window else eternal)

    def _window(self, aggregate: Aggregate) -> int:
        """The number of the moments it is taken from."""
        key = _bundle_key(aggregate)
        bundles = self._keys.bundles if aggregate.window else self._keys.eternal
        row = (bundles.index(key), *_span(aggregate.window))
        if row not in self._windows:
            self._windows.append(row)
        return self._windows.index(row)


def _span(window: Window | None) -> tuple[int, int, int]:
    """Kind, length and tile, as the kernel reads them."""
    if window is None:
        return reading.ETERNAL, 0, ETERNAL_US
    return _KINDS[window.kind], window.length_us, window.tile_us
