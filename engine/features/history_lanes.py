"""What aggregates say of ranges of past events. A lane holds the values one aggregate may see, in the events' order.

It knows of `Events` only where its rows lie and which of them a query may see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.features.history_events import Events, Known
from engine.features.view import Aggregate, AggregateKind, Column, ColumnKind, View
from engine.features.window import Window, WindowKind
from engine.log.columns import flat
from kernels import ranges
from kernels.ranges import Floats, Longs

Bools = npt.NDArray[np.bool_]
Columns = Mapping[str, pa.Array]

_SHAPES = {WindowKind.SAWTOOTH: 0, WindowKind.SLIDING: 1, WindowKind.TUMBLING: 2}


class Values:
    """A column of the view over the events: `data` (float64, uint64 or int64 by kind) where `valid`.

    A text's `data` are codes of `texts`, numbered by first appearance among all rows as they came.
    """

    def __init__(self, column: Column, array: pa.Array, events: Events) -> None:
        array = flat(array)
        self.texts: pa.Array | None = None
        valid = ~np.asarray(array.is_null())
        if pa.types.is_floating(array.type):
            valid &= ~np.asarray(pc.is_nan(array).fill_null(True))
        self.valid: Bools = valid[events.rows]
        if column.kind is ColumnKind.HASH:
            from engine.features.hashing import hash_values

            self.data: npt.NDArray[Any] = hash_values(array)[events.rows]
        elif column.text:
            self._encode(array, events)
        elif column.kind is ColumnKind.CODE:
            self.data = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)[events.rows]
        else:
            self.data = _doubles(array)[events.rows]

    def _encode(self, array: pa.Array, events: Events) -> None:
        came = events.came
        encoded = (array if came is None else array.take(pa.array(came))).dictionary_encode()
        found = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        codes = found if came is None else np.empty_like(found)
        if came is not None:
            codes[came] = found
        self.texts = encoded.dictionary.cast(pa.string())
        self.data = codes[events.rows]


class Lane:
    """The events of one filter that have a value of one column, their values in the events' order.

    `ranks` [events + 1]: how many events of the lane lie before an event; None where every event is of it.
    """

    def __init__(self, events: Events, values: Values | None, mask: Bools | None) -> None:
        self._events, self.values = events, values
        chosen = mask if values is None else values.valid if mask is None else values.valid & mask
        self._at: Longs | slice = slice(None)
        self.ranks: Longs | None = None
        if chosen is not None and not chosen.all():
            self._at = np.flatnonzero(chosen)
            self.ranks = np.concatenate([[0], np.cumsum(chosen)])
        self.times = events.times[self._at]
        self.arrival = events.arrival if not len(events.arrival) else events.arrival[self._at]
        self.data: npt.NDArray[Any] = np.ones(len(self.times)) if values is None else values.data[self._at]
        self._decays: dict[int, Floats] = {}
        self._slots: dict[int, tuple[Longs, int, npt.NDArray[np.uint64]]] = {}

    @property
    def _leaves(self) -> int:
        """Of a tree over the lane: a power of two that holds its full blocks."""
        return 1 << max(0, (len(self.times) // ranges.BLOCK - 1).bit_length())

    @cached_property
    def sums(self) -> ranges.Sums:
        """The tree of moments."""
        tree = ranges.Sums(self._leaves, *(np.zeros(2 * self._leaves) for _ in range(4)))
        ranges.build_sums(self.data, tree)
        return tree

    def decayed(self, half_life_us: int) -> Floats:
        """Of each event the decayed sum of its segment up to it."""
        if half_life_us not in self._decays:
            out = np.empty(len(self.times))
            ranges.decay(self.times, self.data, self._events.segments[self._at], float(half_life_us), out)
            self._decays[half_life_us] = out
        return self._decays[half_life_us]

    def slots(self, count: int) -> tuple[Longs, int, npt.NDArray[np.uint64]]:
        """Of each event the slot of its hash, and the tree of which slots occur where."""
        if count not in self._slots:
            shift = np.uint64(64 - (count.bit_length() - 1))
            slots = (self.data >> shift).astype(np.int64)
            tree = np.zeros((2 * self._leaves, (count + 63) // 64), np.uint64)
            ranges.build_slots(slots, self._leaves, tree)
            self._slots[count] = slots, self._leaves, tree
        return self._slots[count]

    @cached_property
    def kinds(self) -> tuple[npt.NDArray[Any], Longs]:
        """The different values in the order that breaks ties, and of each event the number of its value."""
        different, codes = np.unique(self.data, return_inverse=True)
        return different, codes.astype(np.int64)


class Aggregates:
    """All aggregates of a view over the same events. `arrays` and `masks` are the view's columns and filters, evaluated.

    Everything a query needs is built beforehand; `answer` may be called by many threads at once.
    """

    def __init__(self, view: View, events: Events, arrays: list[pa.Array], masks: list[Bools]) -> None:
        self.view = view
        values = [Values(column, array, events) for column, array in zip(view.columns, arrays, strict=True)]
        kept = [mask[events.rows] for mask in masks]
        self.events = events
        self.lanes: dict[tuple[int | None, int | None], Lane] = {}
        for each in view.aggregates:
            column, mask = each.column, each.mask
            if (column, mask) not in self.lanes:
                chosen = None if mask is None else kept[mask]
                self.lanes[column, mask] = Lane(events, None if column is None else values[column], chosen)
            self._build(each)

    def lane(self, aggregate: Aggregate) -> Lane:
        """The lane that an aggregate reads."""
        return self.lanes[aggregate.column, aggregate.mask]

    def _build(self, aggregate: Aggregate) -> None:
        lane = self.lane(aggregate)
        if aggregate.kind in _MOMENTS:
            _ = lane.sums
        elif aggregate.kind is AggregateKind.DISTINCT:
            lane.slots(aggregate.slots)
        elif aggregate.kind is AggregateKind.TOP:
            _ = lane.kinds
        elif aggregate.kind is AggregateKind.DECAYED:
            lane.decayed(aggregate.half_life_us)

    def empty(self, queries: int) -> list[Floats]:
        """Room for the answers: of each aggregate float64 [k, queries]; what stands for no value is NaN."""
        return [np.empty((each.k, queries)) for each in self.view.aggregates]

    def answer(self, known: Known, rows: Longs, out: list[Floats]) -> None:
        """Answers the queries of `known` into columns `rows` of `out`; a text's number is the code of `Values.texts`."""
        part = _Part(self, known)
        for aggregate, filled in zip(self.view.aggregates, out, strict=True):
            for rank, values in enumerate(part.answer(aggregate)):
                ranges.scatter(values, rows, filled[rank])


class _Part:
    """Some queries answered: what several aggregates need is computed once."""

    def __init__(self, aggregates: Aggregates, known: Known) -> None:
        self._of, self._known = aggregates, known
        self._windows: dict[Window | None, tuple[Longs, Longs, Longs]] = {}
        self._ranges: dict[Any, ranges.Ranges] = {}
        self._moments: dict[Any, ranges.Moments] = {}
        self._variances: dict[Any, Floats] = {}

    def answer(self, aggregate: Aggregate) -> list[Floats]:
        """Its value for each query, or `k` of them."""
        if aggregate.kind is AggregateKind.TOP:
            return self.top(aggregate)
        return [_ANSWERS[aggregate.kind](self, aggregate)]

    def _longs(self) -> Longs:
        return np.empty(len(self._known.as_of), np.int64)

    def _floats(self) -> Floats:
        return np.empty(len(self._known.as_of))

    def _window(self, window: Window | None) -> tuple[Longs, Longs, Longs]:
        """Positions a, c, b among the events."""
        known = self._known
        if window is None:
            return known.begin, known.cut, known.end
        if window not in self._windows:
            a, b = self._longs(), self._longs()
            times, shape = self._of.events.times, _SHAPES[window.kind]
            sizes = (window.length_us, window.tile_us)
            ranges.window_ranges(times, known.begin, known.end, known.as_of, *sizes, shape, a, b)
            self._windows[window] = a, b if known.cut is known.end else np.clip(known.cut, a, b), b
        return self._windows[window]

    def _range(self, aggregate: Aggregate) -> ranges.Ranges:
        """What is asked of the aggregate's lane."""
        key = (aggregate.column, aggregate.mask, aggregate.window)
        if key not in self._ranges:
            lane, (a, c, b) = self._of.lane(aggregate), self._window(aggregate.window)
            if lane.ranks is not None:
                a, c, b = lane.ranks[a], lane.ranks[c], lane.ranks[b]
            self._ranges[key] = ranges.Ranges(a, c, b, self._known.known, lane.arrival)
        return self._ranges[key]

    def count(self, aggregate: Aggregate) -> Floats:
        out = self._floats()
        ranges.range_count(self._range(aggregate), out)
        return out

    def _moment(self, aggregate: Aggregate) -> ranges.Moments:
        key = (aggregate.column, aggregate.mask, aggregate.window)
        if key not in self._moments:
            lane = self._of.lane(aggregate)
            found = ranges.Moments(self._longs(), self._floats(), self._floats(), self._floats())
            ranges.range_moments(lane.data, self._range(aggregate), lane.sums, found)
            self._moments[key] = found
        return self._moments[key]

    def sum(self, aggregate: Aggregate) -> Floats:
        return self._moment(aggregate).total

    def mean(self, aggregate: Aggregate) -> Floats:
        moments = self._moment(aggregate)
        return moments.total / _or_nan(moments.number)

    def least(self, aggregate: Aggregate) -> Floats:
        moments = self._moment(aggregate)
        return np.where(moments.number > 0, moments.low, np.nan)

    def greatest(self, aggregate: Aggregate) -> Floats:
        moments = self._moment(aggregate)
        return np.where(moments.number > 0, moments.high, np.nan)

    def variance(self, aggregate: Aggregate) -> Floats:
        key = (aggregate.column, aggregate.mask, aggregate.window)
        if key not in self._variances:
            lane, moments, out = self._of.lane(aggregate), self._moment(aggregate), self._floats()
            ranges.range_squares(lane.data, self._range(aggregate), lane.sums, moments, out)
            self._variances[key] = out / _or_nan(moments.number)
        return self._variances[key]

    def _ends(self, aggregate: Aggregate) -> tuple[Longs, Longs]:
        ends = self._longs(), self._longs()
        ranges.range_ends(self._range(aggregate), *ends)
        return ends

    def _values(self, aggregate: Aggregate, at: Longs) -> Floats:
        out = np.full(len(at), np.nan)
        out[at >= 0] = self._of.lane(aggregate).data[at[at >= 0]]
        return out

    def first(self, aggregate: Aggregate) -> Floats:
        return self._values(aggregate, self._ends(aggregate)[0])

    def last(self, aggregate: Aggregate) -> Floats:
        return self._values(aggregate, self._ends(aggregate)[1])

    def since(self, aggregate: Aggregate) -> Floats:
        at, out = self._ends(aggregate)[1], np.full(len(self._known.as_of), np.nan)
        there = at >= 0
        out[there] = (self._known.as_of[there] - self._of.lane(aggregate).times[at[there]]) / 1e6
        return out

    def distinct(self, aggregate: Aggregate) -> Floats:
        taken, (slots, leaves, tree) = self._longs(), self._of.lane(aggregate).slots(aggregate.slots)
        ranges.range_slots(slots, self._range(aggregate), leaves, tree, taken)
        empty = np.maximum(aggregate.slots - taken, 1)
        return np.where(taken > 0, -aggregate.slots * np.log(empty / aggregate.slots), 0.0)

    def decayed(self, aggregate: Aggregate) -> Floats:
        lane, half_life, out = self._of.lane(aggregate), float(aggregate.half_life_us), self._floats()
        sums, asked = lane.decayed(aggregate.half_life_us), self._range(aggregate)
        ranges.range_decayed(lane.times, lane.data, sums, half_life, asked, self._known.as_of, out)
        return out

    def top(self, aggregate: Aggregate) -> list[Floats]:
        different, codes = self._of.lane(aggregate).kinds
        found = np.empty((len(self._known.as_of), aggregate.k), np.int64)
        ranges.range_top(codes, len(different), self._range(aggregate), found)
        return [_chosen(different, found[:, rank]) for rank in range(aggregate.k)]


def _chosen(different: npt.NDArray[Any], found: Longs) -> Floats:
    out = np.full(len(found), np.nan)
    out[found >= 0] = different[found[found >= 0]]
    return out


_ANSWERS: dict[AggregateKind, Callable[[_Part, Aggregate], Floats]] = {
    AggregateKind.COUNT: _Part.count,
    AggregateKind.SUM: _Part.sum,
    AggregateKind.MEAN: _Part.mean,
    AggregateKind.MIN: _Part.least,
    AggregateKind.MAX: _Part.greatest,
    AggregateKind.VARIANCE: _Part.variance,
    AggregateKind.STDDEV: lambda part, aggregate: np.sqrt(part.variance(aggregate)),
    AggregateKind.FIRST: _Part.first,
    AggregateKind.LAST: _Part.last,
    AggregateKind.DISTINCT: _Part.distinct,
    AggregateKind.SINCE: _Part.since,
    AggregateKind.DECAYED: _Part.decayed,
}
_MOMENTS = {
    AggregateKind.SUM, AggregateKind.MEAN, AggregateKind.MIN, AggregateKind.MAX, AggregateKind.VARIANCE, AggregateKind.STDDEV,
}  # fmt: skip


def _or_nan(count: Longs) -> Floats:
    return np.where(count > 0, count, np.nan)


def _doubles(array: pa.Array) -> Floats:
    if pa.types.is_temporal(array.type):
        array = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    doubles: Floats = array.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return doubles
