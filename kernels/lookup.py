"""Reads many entities' features at once, while one writer goes on: every row is what the entity was between two events.

Merging of tiles by Chan, Golub and LeVeque (1979); distinct counts by linear counting (Whang, Vander-Zanden, Taylor 1990).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import uint32, uint64

from kernels.compiled import kernel
from kernels.entities import entry_at, is_hot, record_of
from kernels.fold import ALWAYS_LATER, NEVER, counts, number_of, scalars_of, slot_of
from kernels.memory import (
    load_constant,
    load_f64,
    load_i64,
    load_u32,
    load_u64,
    read_begin,
    read_valid,
    store_f64,
    store_i64,
)
from kernels.record import (
    AGGREGATES,
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
    C_AT,
    CHECK,
    COLUMNS,
    D_AT,
    D_HALF_LIFE,
    DECAYS,
    DISTINCTS,
    ETERNALS,
    EVENT_BITS,
    FEATURES,
    KEY,
    L_AT,
    L_CODE,
    L_FIRST,
    LASTS,
    M_GENERATION,
    MEMORY_INDEX_WORDS,
    NEWEST,
    NONE,
    RING_AT,
    RING_TILES,
    RINGS,
    S_COLD_BYTES,
    S_COLD_COUNT_AT,
    S_EVENT_BYTES,
    S_EVENTS_AT,
    S_MAX_AGE_US,
    S_TTL_US,
    T_AT,
    T_COLUMN,
    T_MASK,
    T_RING,
    T_SLOTS,
    T_STRIDE,
    TOPS,
    WINDOWS,
    X_AT,
    X_COLUMN,
    X_LOG2,
    X_MASK,
)
from kernels.tables import cell, control, part, row_of, rows, size

# Window kinds.
SAWTOOTH, SLIDING, TUMBLING, ETERNAL = range(4)

# Columns of WINDOWS: moments of one bundle (of ETERNALS where the kind is ETERNAL) in one window.
W_BUNDLE, W_KIND, W_LENGTH_US, W_TILE_US = range(0, 32, 8)

# Columns of AGGREGATES: operation, what of (a window, or an entry of the plan's table), and for those the plan keeps
# outside of tiles, their window.
A_OPERATION, A_OF, A_KIND, A_LENGTH_US, A_TILE_US = range(0, 40, 8)

# Columns of FEATURES: operation, up to three aggregates, and the rank of a most frequent value.
F_OPERATION, F_FIRST, F_SECOND, F_THIRD, F_RANK = range(0, 40, 8)

COUNT, SUM, MEAN, MIN, MAX, VARIANCE, STDDEV, FIRST, LAST, SINCE, SINCE_ANY, DECAYED, DISTINCT, TOP = range(14)
TAKEN, RATIO, Z_SCORE, RANKED, ELSEWHERE = range(5)
"""Of features; ELSEWHERE: not computed here."""

PRESENT, MISSING, STALE = range(3)

(M_COUNT, M_SUM, M_SQUARE, M_LEAST, M_MOST, M_FIRST_AT, M_FIRST) = range(0, 56, 8)
_MOMENTS_BYTES = 56
_TRIES_MAX = 1_000_000

# Offsets in a lookup's scratch memory: the newest event's time, tallies and values of sketches, aggregates, then moments.
_TALLIES, _VALUES, _NUMBERS = 8, 8 + 8 * 64, 8 + 16 * 64


@kernel()
def tile_span(kind: int, length_us: int, tile_us: int, as_of_us: int) -> tuple[int, int]:
    """First and last tile of a window, both included. See `engine.features.window`."""
    if kind == ETERNAL:
        return 0, 0
    head = as_of_us // tile_us
    if kind == TUMBLING:
        return head, head
    if kind == SLIDING:
        return head - length_us // tile_us, head - 1
    return (as_of_us - length_us) // tile_us, head


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
    for number in range(_cold_count(plan, record)):
        event = record + size(plan, S_EVENTS_AT) + number * size(plan, S_EVENT_BYTES)
        time_us = load_i64(event)
        if first <= time_us // tile_us <= last and counts(plan, load_u32(event + EVENT_BITS), column, mask):
            _add(time_us, number_of(plan, event, column), moments)


@kernel(inline="always")
def _cold_count(plan: int, record: int) -> int:
    """Events of a cold record; bounded, because a record that is being written may say anything."""
    room = (size(plan, S_COLD_BYTES) - size(plan, S_EVENTS_AT)) // size(plan, S_EVENT_BYTES)
    return min(np.int64(load_u32(record + size(plan, S_COLD_COUNT_AT))), room)


@kernel()
def _moments(plan: int, reads: int, record: int, hot: bool, as_of_us: int, moments: int) -> None:
    for window in range(rows(reads, WINDOWS)):
        _nothing(moments + _MOMENTS_BYTES * window)
        if cell(reads, WINDOWS, window, W_KIND) == ETERNAL:
            bundle = cell(reads, WINDOWS, window, W_BUNDLE)
            _merge(
                row_of(plan, ETERNALS, bundle),
                scalars_of(plan, record, hot) + cell(plan, ETERNALS, bundle, B_AT),
                moments + _MOMENTS_BYTES * window,
            )
        elif hot:
            _hot_moments(plan, reads, window, record, as_of_us, moments + _MOMENTS_BYTES * window)
        else:
            _cold_moments(plan, reads, window, record, as_of_us, moments + _MOMENTS_BYTES * window)


@kernel()
def _of_moments(operation: int, moments: int) -> float:  # noqa: PLR0911  one line an operation
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


@kernel()
def _last(plan: int, reads: int, aggregate: int, scalars: int, as_of_us: int) -> float:
    """The value (or, of SINCE, its age in seconds) that a LAST keeps, where it lies in the aggregate's window."""
    last = cell(reads, AGGREGATES, aggregate, A_OF)
    at = scalars + cell(plan, LASTS, last, L_AT)
    time_us = load_i64(at)
    if time_us == (ALWAYS_LATER if cell(plan, LASTS, last, L_FIRST) else NEVER) or not _in(
        reads, aggregate, time_us, as_of_us
    ):
        return math.nan
    if cell(reads, AGGREGATES, aggregate, A_OPERATION) == SINCE:
        return np.float64(as_of_us - time_us) / 1e6
    return np.float64(load_i64(at + 8)) if cell(plan, LASTS, last, L_CODE) else load_f64(at + 8)


@kernel()
def _in(reads: int, aggregate: int, time_us: int, as_of_us: int) -> bool:
    """Whether a time is not before the aggregate's window; none is after it."""
    kind, tile_us = cell(reads, AGGREGATES, aggregate, A_KIND), cell(reads, AGGREGATES, aggregate, A_TILE_US)
    if kind == ETERNAL:
        return True
    first, _ = tile_span(kind, cell(reads, AGGREGATES, aggregate, A_LENGTH_US), tile_us, as_of_us)
    return time_us // tile_us >= first


@kernel()
def _distinct(plan: int, reads: int, aggregate: int, record: int, hot: bool, as_of_us: int) -> float:
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
    for number in range(_cold_count(plan, record)):
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
def _ranked(plan: int, reads: int, aggregate: int, record: int, hot: bool, as_of_us: int, rank: int,
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
    for number in range(_cold_count(plan, record)):
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


@kernel()
def _aggregate(plan: int, reads: int, aggregate: int, record: int, hot: bool, as_of_us: int, moments: int) -> float:
    """Any but the most frequent values."""
    operation, of = cell(reads, AGGREGATES, aggregate, A_OPERATION), cell(reads, AGGREGATES, aggregate, A_OF)
    if operation <= FIRST:
        return _of_moments(operation, moments + _MOMENTS_BYTES * of)
    if operation in (LAST, SINCE):
        return _last(plan, reads, aggregate, scalars_of(plan, record, hot), as_of_us)
    if operation == DISTINCT:
        return _distinct(plan, reads, aggregate, record, hot, as_of_us)
    newest = load_i64(record + NEWEST)
    if operation == SINCE_ANY:
        return np.float64(as_of_us - newest) / 1e6 if _in(reads, aggregate, newest, as_of_us) else math.nan
    if operation == DECAYED:
        decay = row_of(plan, DECAYS, of)
        total = load_f64(scalars_of(plan, record, hot) + load_constant(decay + D_AT))
        return total * np.exp2(np.float64(newest - as_of_us) / load_f64(decay + D_HALF_LIFE))
    return math.nan


@kernel()
def _features(plan: int, reads: int, record: int, hot: bool, as_of_us: int, scratch: int, row: int) -> None:
    """Fills the row (f64 [features]) at an address."""
    numbers, aggregates = scratch + _NUMBERS, rows(reads, AGGREGATES)
    moments = numbers + 8 * aggregates
    _moments(plan, reads, record, hot, as_of_us, moments)
    for aggregate in range(aggregates):
        store_f64(numbers + 8 * aggregate, _aggregate(plan, reads, aggregate, record, hot, as_of_us, moments))
    for number in range(rows(reads, FEATURES)):
        feature, result = row_of(reads, FEATURES, number), math.nan
        operation = load_constant(feature + F_OPERATION)
        if operation == RANKED:
            first, rank = load_constant(feature + F_FIRST), load_constant(feature + F_RANK)
            result = _ranked(plan, reads, first, record, hot, as_of_us, rank, scratch + _TALLIES, scratch + _VALUES)
        elif operation != ELSEWHERE:
            result = _combined(operation, feature, numbers)
        store_f64(row + 8 * number, result)


@kernel()
def _combined(operation: int, feature: int, numbers: int) -> float:
    first = load_f64(numbers + 8 * load_constant(feature + F_FIRST))
    if operation == TAKEN:
        return first
    second = load_f64(numbers + 8 * load_constant(feature + F_SECOND))
    if operation == RATIO:
        return _divided(first, second)
    return _divided(first - second, load_f64(numbers + 8 * load_constant(feature + F_THIRD)))


@kernel(inline="always")
def _divided(above: float, below: float) -> float:
    return above / below if below != 0.0 else math.nan


@kernel()
def _read(
    plan: int, memory: int, reads: int, key: int, check: int, as_of_us: int, least_us: int, scratch: int, row: int
) -> int:
    """One entity; its status. The newest event's time goes to the scratch's first word."""
    mask = part(memory, MEMORY_INDEX_WORDS) - 1
    position, tag = np.int64(key & uint64(mask)), key >> uint64(32)
    tries = 0
    while tries < _TRIES_MAX:
        entry = entry_at(memory, position)
        if entry == 0:
            return MISSING
        if entry >> uint64(32) == tag:
            record = record_of(plan, memory, entry)
            sequence, status = read_begin(record), MISSING
            same = load_u64(record + KEY) == key and load_u32(record + CHECK) == check
            if same:
                status = _answer(plan, reads, record, is_hot(entry), max(as_of_us, least_us), scratch, row)
            if read_valid(record, sequence):
                if same:
                    return status
                if entry_at(memory, position) == entry:
                    position = (position + 1) & mask  # another entity of the same tag
            tries += 1
        else:
            position = (position + 1) & mask
    return NONE


@kernel()
def _answer(plan: int, reads: int, record: int, hot: bool, asked_us: int, scratch: int, row: int) -> int:
    newest = load_i64(record + NEWEST)
    as_of_us = max(asked_us, newest + 1)
    store_i64(scratch, newest)
    if as_of_us - newest > size(plan, S_TTL_US):
        return MISSING
    if as_of_us - newest > size(reads, S_MAX_AGE_US):
        return STALE
    _features(plan, reads, record, hot, as_of_us, scratch, row)
    return PRESENT


@kernel(nogil=True, cache=True)
def lookup(
    plan: int,
    memory: int,
    reads: int,
    keys: npt.NDArray[np.uint64],
    checks: npt.NDArray[np.uint32],
    as_of_us: npt.NDArray[np.int64],
    least_us: int,
    generation: int,
    values: npt.NDArray[np.float64],
    newest_us: npt.NDArray[np.int64],
    status: npt.NDArray[np.uint8],
) -> int:
    """Fills `values` (f64 [n, features], NaN: null), `newest_us` (i64 [n]) and `status` (u8 [n]) for n entities by hash
    (`keys` u64, `checks` u32) as of `as_of_us` (i64 [n] or [1]), none earlier than `least_us`.

    How many rows hold; less than n where the index has been replaced (`generation`) or a record was written without end: the
    caller goes on from there with the new index.
    """
    words = _NUMBERS // 8 + rows(reads, AGGREGATES) + rows(reads, WINDOWS) * (_MOMENTS_BYTES // 8)
    room = np.empty(words, np.int64)
    scratch, row_bytes = room.ctypes.data, 8 * values.shape[1]
    for number in range(keys.shape[0]):
        asked = as_of_us[number if as_of_us.shape[0] > 1 else 0]
        row = values.ctypes.data + row_bytes * number
        found = _read(plan, memory, reads, keys[number], checks[number], asked, least_us, scratch, row)
        if found == NONE or (found == MISSING and control(memory, M_GENERATION) != generation):
            return number
        status[number] = found
        newest_us[number] = load_i64(scratch) if found != MISSING else 0
        if found != PRESENT:
            values[number, :] = math.nan
    return keys.shape[0]
