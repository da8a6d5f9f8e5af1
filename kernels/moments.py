"""Count, sum, spread, extremes and first value of the events in a window, from tiles or from a cold record's events.

Merging of tiles by Chan, Golub and LeVeque (1979).
"""

from __future__ import annotations

import math

import numpy as np
from numba import uint64

from kernels.compiled import kernel
from kernels.fold import counts, number_of, scalars_of
from kernels.memory import load_constant, load_f64, load_i64, load_u32, load_u64, store_f64
from kernels.reads import (
    COUNT,
    ETERNAL,
    MAX,
    MEAN,
    MIN,
    STDDEV,
    SUM,
    VARIANCE,
    W_BUNDLE,
    W_KIND,
    W_LENGTH_US,
    W_TILE_US,
    cold_count,
    tile_span,
)
from kernels.record import (
    B_AT,
    B_COLUMN,
    B_FIRST,
    B_M2,
    B_MASK,
    B_MAX,
    B_MIN,
    B_RING,
    B_STRIDE,
    B_SUM,
    BUNDLES,
    ETERNALS,
    EVENT_BITS,
    RING_AT,
    RING_TILES,
    RINGS,
    S_EVENT_BYTES,
    S_EVENTS_AT,
    WINDOWS,
)
from kernels.tables import cell, row_of, rows, size

(M_COUNT, M_SUM, M_SQUARE, M_LEAST, M_MOST, M_FIRST_AT, M_FIRST) = range(0, 56, 8)
MOMENTS_BYTES = 56


@kernel(inline="always")
def _nothing(moments: int) -> None:
    store_f64(moments + M_COUNT, 0.0)
    store_f64(moments + M_SUM, 0.0)
    store_f64(moments + M_SQUARE, 0.0)
    store_f64(moments + M_LEAST, math.inf)
    store_f64(moments + M_MOST, -math.inf)
    store_f64(moments + M_FIRST_AT, math.inf)
    store_f64(moments + M_FIRST, math.nan)


@kernel(inline="always")
def _raise_by(moments: int, which: int, value: float) -> None:
    store_f64(moments + which, load_f64(moments + which) + value)


@kernel()
def _merge(bundle: int, tile: int, moments: int) -> None:
    """Adds a tile to moments; `bundle` is the address of its bundle's row."""
    count = np.float64(load_u32(tile))
    if count == 0.0:
        return
    known = load_f64(moments + M_COUNT)
    if load_constant(bundle + B_SUM):
        total = load_f64(tile + load_constant(bundle + B_SUM))
        if load_constant(bundle + B_M2):
            square = load_f64(tile + load_constant(bundle + B_M2))
            if known > 0.0:
                apart = total / count - load_f64(moments + M_SUM) / known
                square += apart * apart * known * count / (known + count)
            _raise_by(moments, M_SQUARE, square)
        _raise_by(moments, M_SUM, total)
    store_f64(moments + M_COUNT, known + count)
    if load_constant(bundle + B_MIN):
        store_f64(moments + M_LEAST, min(load_f64(moments + M_LEAST), load_f64(tile + load_constant(bundle + B_MIN))))
    if load_constant(bundle + B_MAX):
        store_f64(moments + M_MOST, max(load_f64(moments + M_MOST), load_f64(tile + load_constant(bundle + B_MAX))))
    if load_constant(bundle + B_FIRST):
        first = tile + load_constant(bundle + B_FIRST)
        _first(moments, np.float64(load_i64(first)), load_f64(first + 8))


@kernel(inline="always")
def _first(moments: int, time_us: float, value: float) -> None:
    if time_us < load_f64(moments + M_FIRST_AT):
        store_f64(moments + M_FIRST_AT, time_us)
        store_f64(moments + M_FIRST, value)


@kernel()
def _add(time_us: int, value: float, moments: int) -> None:
    """Adds one value to moments."""
    known = load_f64(moments + M_COUNT)
    if known > 0.0:
        apart = value - load_f64(moments + M_SUM) / known
        _raise_by(moments, M_SQUARE, apart * apart * known / (known + 1.0))
    store_f64(moments + M_COUNT, known + 1.0)
    _raise_by(moments, M_SUM, value)
    store_f64(moments + M_LEAST, min(load_f64(moments + M_LEAST), value))
    store_f64(moments + M_MOST, max(load_f64(moments + M_MOST), value))
    _first(moments, np.float64(time_us), value)


@kernel()
def _hot_moments(plan: int, reads: int, window: int, record: int, as_of_us: int, moments: int) -> None:
    bundle = cell(reads, WINDOWS, window, W_BUNDLE)
    ring = cell(plan, BUNDLES, bundle, B_RING)
    tiles = cell(plan, RINGS, ring, RING_TILES)
    at = record + cell(plan, RINGS, ring, RING_AT)
    newest, alive = np.int64(load_u32(at)), load_u64(at + 4)
    first, last = tile_span(cell(reads, WINDOWS, window, W_KIND), cell(reads, WINDOWS, window, W_LENGTH_US),
                            cell(reads, WINDOWS, window, W_TILE_US), as_of_us)  # fmt: skip
    first, last = max(first, newest - tiles + 1), min(last, newest)
    if alive == 0 or last < first or first < 0:
        first = max(first, 0)
        if alive == 0 or last < first:
            return
    position = first % tiles
    for _ in range(last - first + 1):
        if alive >> uint64(position) & uint64(1):
            _merge(
                row_of(plan, BUNDLES, bundle),
                record + cell(plan, BUNDLES, bundle, B_AT) + position * cell(plan, BUNDLES, bundle, B_STRIDE),
                moments,
            )
        position += 1
        if position == tiles:
            position = 0


@kernel()
def _cold_moments(plan: int, reads: int, window: int, record: int, as_of_us: int, moments: int) -> None:
    bundle = cell(reads, WINDOWS, window, W_BUNDLE)
    column, mask = cell(plan, BUNDLES, bundle, B_COLUMN), cell(plan, BUNDLES, bundle, B_MASK)
    tile_us = cell(reads, WINDOWS, window, W_TILE_US)
    first, last = tile_span(
        cell(reads, WINDOWS, window, W_KIND), cell(reads, WINDOWS, window, W_LENGTH_US), tile_us, as_of_us
    )
    for number in range(cold_count(plan, record)):
        event = record + size(plan, S_EVENTS_AT) + number * size(plan, S_EVENT_BYTES)
        time_us = load_i64(event)
        if first <= time_us // tile_us <= last and counts(plan, load_u32(event + EVENT_BITS), column, mask):
            _add(time_us, number_of(plan, event, column), moments)


@kernel()
def read_moments(plan: int, reads: int, record: int, hot: bool, as_of_us: int, moments: int) -> None:
    """Fills `MOMENTS_BYTES` at address `moments` for each of the windows that are read."""
    for window in range(rows(reads, WINDOWS)):
        _nothing(moments + MOMENTS_BYTES * window)
        if cell(reads, WINDOWS, window, W_KIND) == ETERNAL:
            bundle = cell(reads, WINDOWS, window, W_BUNDLE)
            _merge(
                row_of(plan, ETERNALS, bundle),
                scalars_of(plan, record, hot) + cell(plan, ETERNALS, bundle, B_AT),
                moments + MOMENTS_BYTES * window,
            )
        elif hot:
            _hot_moments(plan, reads, window, record, as_of_us, moments + MOMENTS_BYTES * window)
        else:
            _cold_moments(plan, reads, window, record, as_of_us, moments + MOMENTS_BYTES * window)


@kernel()
def of_moments(operation: int, moments: int) -> float:  # noqa: PLR0911  one line an operation
    """COUNT, SUM and so on, or the first value; NaN where there is none."""
    count = load_f64(moments + M_COUNT)
    if operation == COUNT:
        return count
    if operation == SUM:
        return load_f64(moments + M_SUM)
    if count == 0.0:
        return math.nan
    if operation == MEAN:
        return load_f64(moments + M_SUM) / count
    if operation == MIN:
        return load_f64(moments + M_LEAST)
    if operation == MAX:
        return load_f64(moments + M_MOST)
    if operation == VARIANCE:
        return load_f64(moments + M_SQUARE) / count
    if operation == STDDEV:
        return math.sqrt(load_f64(moments + M_SQUARE) / count)
    return load_f64(moments + M_FIRST)
