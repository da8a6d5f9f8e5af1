"""Reads many entities' features at once, while one writer goes on: every row is what the entity was between two events.

Merging of tiles by Chan, Golub and LeVeque (1979); distinct counts by linear counting (Whang, Vander-Zanden, Taylor 1990).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import types, uint32, uint64

from kernels.compiled import kernel
from kernels.entities import entry_at, is_hot, record_of
from kernels.fold import NEVER, scalars_of
from kernels.hashing import NO_CHECK, mix
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
from kernels.moments import MOMENTS_BYTES, of_moments, read_moments
from kernels.reads import (
    A_KIND,
    A_LENGTH_US,
    A_OF,
    A_OPERATION,
    A_TILE_US,
    DECAYED,
    DISTINCT,
    ELSEWHERE,
    ETERNAL,
    F_FIRST,
    F_OPERATION,
    F_RANK,
    F_SECOND,
    F_THIRD,
    FIRST,
    LAST,
    RANKED,
    RATIO,
    SINCE,
    SINCE_ANY,
    TAKEN,
    tile_span,
)
from kernels.record import (
    AGGREGATES,
    CHECK,
    D_AT,
    D_HALF_LIFE,
    DECAYS,
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
    S_MAX_AGE_US,
    S_TTL_US,
    WINDOWS,
)
from kernels.signed import fills, reads, signed
from kernels.sketches import distinct_count, ranked_value
from kernels.tables import cell, control, part, row_of, rows, size
from kernels.tiles import ALWAYS_LATER

_I64 = types.int64

PRESENT, MISSING, STALE = range(3)

_TRIES_MAX = 1_000_000

# Offsets in a lookup's scratch memory: the newest event's time, tallies and values of sketches, aggregates, then moments.
_TALLIES, _VALUES, _NUMBERS = 8, 8 + 8 * 64, 8 + 16 * 64


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
def _aggregate(plan: int, reads: int, aggregate: int, record: int, hot: bool, as_of_us: int, moments: int) -> float:
    """Any but the most frequent values."""
    operation, of = cell(reads, AGGREGATES, aggregate, A_OPERATION), cell(reads, AGGREGATES, aggregate, A_OF)
    if operation <= FIRST:
        return of_moments(operation, moments + MOMENTS_BYTES * of)
    if operation in (LAST, SINCE):
        return _last(plan, reads, aggregate, scalars_of(plan, record, hot), as_of_us)
    if operation == DISTINCT:
        return distinct_count(plan, reads, aggregate, record, hot, as_of_us)
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
    read_moments(plan, reads, record, hot, as_of_us, moments)
    for aggregate in range(aggregates):
        store_f64(numbers + 8 * aggregate, _aggregate(plan, reads, aggregate, record, hot, as_of_us, moments))
    for number in range(rows(reads, FEATURES)):
        feature, result = row_of(reads, FEATURES, number), math.nan
        operation = load_constant(feature + F_OPERATION)
        if operation == RANKED:
            first, rank = load_constant(feature + F_FIRST), load_constant(feature + F_RANK)
            result = ranked_value(
                plan, reads, first, record, hot, as_of_us, rank, scratch + _TALLIES, scratch + _VALUES
            )
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


@kernel()
def settled(
    plan: int,
    memory: int,
    reads: int,
    key: int,
    check: int,
    as_of_us: int,
    least_us: int,
    generation: int,
    scratch: int,
    row: int,
) -> int:
    """As `_read`, and all of the row and of the scratch's first word is filled; NONE also where the index has been replaced. For
    use in kernels."""
    found = _read(plan, memory, reads, key, check, as_of_us, least_us, scratch, row)
    if found == MISSING:
        store_i64(scratch, 0)
        if control(memory, M_GENERATION) != generation:
            return NONE
    if found != PRESENT:
        for number in range(rows(reads, FEATURES)):
            store_f64(row + 8 * number, math.nan)
    return found


@kernel(inline="always")
def scratch_words(reads: int) -> int:
    """What `settled` needs for its scratch."""
    return _NUMBERS // 8 + rows(reads, AGGREGATES) + rows(reads, WINDOWS) * (MOMENTS_BYTES // 8)


@signed(
    _I64(
        _I64, _I64, _I64, reads(types.uint64), reads(types.uint32), reads(_I64), _I64, _I64,
        fills(types.float64, 2), fills(_I64), fills(types.uint8),
    )
)  # fmt: skip
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
    room = np.empty(scratch_words(reads), np.int64)
    scratch, row_bytes = room.ctypes.data, 8 * values.shape[1]
    done = keys.shape[0]
    for number in range(keys.shape[0]):
        asked = as_of_us[number if as_of_us.shape[0] > 1 else 0]
        row = values.ctypes.data + row_bytes * number
        found = settled(plan, memory, reads, keys[number], checks[number], asked, least_us, generation, scratch, row)
        if found == NONE:
            done = number
            break
        status[number], newest_us[number] = found, load_i64(scratch)
    room[0] = 0  # numba lets go of an array after its last use, whoever has its address
    return done


@signed(
    types.boolean(
        _I64, _I64, _I64, _I64, _I64, _I64, _I64, fills(types.float64, 2), fills(_I64), fills(types.uint8)
    )
)  # fmt: skip
def lookup_one(
    plan: int,
    memory: int,
    reads: int,
    entity: int,
    as_of_us: int,
    least_us: int,
    generation: int,
    values: npt.NDArray[np.float64],
    newest_us: npt.NDArray[np.int64],
    status: npt.NDArray[np.uint8],
) -> bool:
    """As `lookup` of one entity, a whole number; False where it is to be asked again."""
    room = np.empty(scratch_words(reads), np.int64)
    key, check, row = mix(entity), uint32(NO_CHECK), values.ctypes.data
    found = settled(plan, memory, reads, key, check, as_of_us, least_us, generation, room.ctypes.data, row)
    status[0], newest_us[0] = found, room[0]
    return found != NONE
