"""How many different values, and which most often: read from a hot record's sketches or a cold record's events.

Linear counting by Whang, Vander-Zanden and Taylor (1990).
"""

from __future__ import annotations

import math

import numpy as np
from numba import uint32, uint64

from kernels.compiled import kernel
from kernels.fold import counts, slot_of
from kernels.memory import load_i64, load_u32, load_u64, store_i64
from kernels.reads import A_KIND, A_LENGTH_US, A_OF, A_TILE_US, ETERNAL, cold_count, tile_span
from kernels.record import (
    AGGREGATES,
    C_AT,
    COLUMNS,
    DISTINCTS,
    EVENT_BITS,
    NONE,
    RING_AT,
    RING_TILES,
    RINGS,
    S_EVENT_BYTES,
    S_EVENTS_AT,
    T_AT,
    T_COLUMN,
    T_MASK,
    T_RING,
    T_SLOTS,
    T_STRIDE,
    TOPS,
    X_AT,
    X_COLUMN,
    X_LOG2,
    X_MASK,
)
from kernels.tables import cell, size


@kernel()
def distinct_count(plan: int, reads: int, aggregate: int, record: int, hot: bool, as_of_us: int) -> float:
    """An estimate of how many different values the aggregate's window has."""
    distinct = cell(reads, AGGREGATES, aggregate, A_OF)
    slots = 1 << cell(plan, DISTINCTS, distinct, X_LOG2)
    kind, tile_us = cell(reads, AGGREGATES, aggregate, A_KIND), cell(reads, AGGREGATES, aggregate, A_TILE_US)
    since_us = np.int64(0)
    if kind != ETERNAL:
        first, _ = tile_span(kind, cell(reads, AGGREGATES, aggregate, A_LENGTH_US), tile_us, as_of_us)
        since_us = max(first * tile_us, 0)
    if hot:
        taken = _taken_slots(record + cell(plan, DISTINCTS, distinct, X_AT), slots, uint32(since_us // 1_000_000 + 1))
    else:
        taken = _cold_slots(plan, distinct, record, since_us)
    if taken == 0:
        return 0.0
    return -slots * math.log(max(slots - taken, 1) / slots)


@kernel()
def _taken_slots(at: int, slots: int, since: int) -> int:
    taken = 0
    for slot in range(slots):
        if load_u32(at + 4 * slot) >= since:
            taken += 1
    return taken


@kernel()
def _cold_slots(plan: int, distinct: int, record: int, since_us: int) -> int:
    """Different slots among a cold record's events; each compared with those before it, which are few."""
    column, mask = cell(plan, DISTINCTS, distinct, X_COLUMN), cell(plan, DISTINCTS, distinct, X_MASK)
    events, stride, taken = record + size(plan, S_EVENTS_AT), size(plan, S_EVENT_BYTES), 0
    for number in range(cold_count(plan, record)):
        event = events + number * stride
        if _seen(plan, event, column, mask, since_us):
            new = True
            for before in range(number):
                other = events + before * stride
                same = slot_of(plan, distinct, other) == slot_of(plan, distinct, event)
                if same and _seen(plan, other, column, mask, since_us):
                    new = False
            if new:
                taken += 1
    return taken


@kernel(inline="always")
def _seen(plan: int, event: int, column: int, mask: int, since_us: int) -> bool:
    return load_i64(event) >= since_us and counts(plan, load_u32(event + EVENT_BITS), column, mask)


@kernel()
def ranked_value(plan: int, reads: int, aggregate: int, record: int, hot: bool, as_of_us: int, rank: int,
            tallies: int, values: int) -> float:  # fmt: skip
    """The value counted `rank`-th most often (0: most) in the aggregate's window; of equal counts the least value."""
    top = cell(reads, AGGREGATES, aggregate, A_OF)
    tile_us = cell(reads, AGGREGATES, aggregate, A_TILE_US)
    first, last = tile_span(
        cell(reads, AGGREGATES, aggregate, A_KIND), cell(reads, AGGREGATES, aggregate, A_LENGTH_US), tile_us, as_of_us
    )
    if hot:
        found = _hot_tallies(plan, top, record, first, last, tallies, values)
    else:
        found = _cold_tallies(plan, top, record, first, last, tile_us, tallies, values)
    value = math.nan
    for _ in range(rank + 1):
        best = _most(found, tallies, values)
        if best == NONE:
            return math.nan
        value = np.float64(load_i64(values + 8 * best))
        store_i64(tallies + 8 * best, 0)
    return value


@kernel()
def _most(found: int, tallies: int, values: int) -> int:
    """Which of the values has the highest tally above 0, the least of several; or NONE."""
    best, most, least = NONE, np.int64(0), np.int64(0)
    for number in range(found):
        tally, value = load_i64(tallies + 8 * number), load_i64(values + 8 * number)
        if tally > most or (tally == most and best != NONE and value < least):
            best, most, least = number, tally, value
    return best


@kernel()
def _hot_tallies(plan: int, top: int, record: int, first: int, last: int, tallies: int, values: int) -> int:
    ring = cell(plan, TOPS, top, T_RING)
    tiles, at = cell(plan, RINGS, ring, RING_TILES), record + cell(plan, RINGS, ring, RING_AT)
    newest = np.int64(load_u32(at))
    first, last = max(first, newest - tiles + 1, 0), min(last, newest)
    slot = record + cell(plan, TOPS, top, T_AT)
    for number in range(cell(plan, TOPS, top, T_SLOTS)):
        alive = load_u64(slot + 8)
        store_i64(values + 8 * number, load_i64(slot))
        total = 0
        for tile in range(first, last + 1):
            position = tile % tiles
            if alive >> uint64(position) & uint64(1):
                total += np.int64(load_u32(slot + 16 + 4 * position))
        store_i64(tallies + 8 * number, total)
        slot += cell(plan, TOPS, top, T_STRIDE)
    return cell(plan, TOPS, top, T_SLOTS)


@kernel()
def _cold_tallies(plan: int, top: int, record: int, first: int, last: int, tile_us: int,
                  tallies: int, values: int) -> int:  # fmt: skip
    column, found = cell(plan, TOPS, top, T_COLUMN), 0
    for number in range(cold_count(plan, record)):
        event = record + size(plan, S_EVENTS_AT) + number * size(plan, S_EVENT_BYTES)
        inside = first <= load_i64(event) // tile_us <= last
        if inside and counts(plan, load_u32(event + EVENT_BITS), column, cell(plan, TOPS, top, T_MASK)):
            value, slot = load_i64(event + cell(plan, COLUMNS, column, C_AT)), 0
            while slot < found and load_i64(values + 8 * slot) != value:
                slot += 1
            if slot == found:
                store_i64(values + 8 * slot, value)
                store_i64(tallies + 8 * slot, 0)
                found += 1
            store_i64(tallies + 8 * slot, load_i64(tallies + 8 * slot) + 1)
    return found
