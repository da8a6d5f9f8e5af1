"""Folds a batch of events, straight from Arrow buffers, into a state: judge, encode, find, fold.

Events go in blocks: while one is judged its index line is fetched, and before a block is folded the lines of its records are.
At a million entities nearly all of the time would otherwise be spent waiting for memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import uint32, uint64

from kernels.compiled import kernel
from kernels.entities import find, fold, index_address, insert, is_hot, record_of
from kernels.fold import position_of, second_of, tile_of
from kernels.memory import (
    bit,
    load_f32,
    load_f64,
    load_i8,
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    load_u64,
    prefetch,
    store_f64,
    store_i64,
    store_u32,
    store_u64,
)
from kernels.record import (
    APPLIED,
    B_AT,
    B_STRIDE,
    BITS,
    BUNDLES,
    C_AT,
    C_KIND,
    COLUMNS,
    DISTINCTS,
    DUPLICATE,
    EVENT_BITS,
    F32,
    F64,
    FILTERED,
    FUTURE,
    HASH,
    I8,
    I16,
    I32,
    I64,
    LATE,
    M_ENTITIES,
    M_ENTITIES_MAX,
    M_IDS,
    M_INDEXED,
    MEMORY_ID_TIMES,
    MEMORY_ID_WORDS,
    MEMORY_IDS,
    MEMORY_INDEX_WORDS,
    NO_ID,
    NO_KEY,
    NO_TIME,
    NUMBER,
    OUT_OF_TIME,
    P_ADDRESS,
    P_FIRST,
    P_TYPE,
    P_VALID,
    RING_BUNDLE,
    RING_BUNDLE_END,
    RING_TILE_S,
    RING_TILES,
    RINGS,
    S_EVENT_BYTES,
    S_FUTURE_US,
    S_LATENESS_US,
    S_MASKS,
    SOURCE_ARRIVAL,
    SOURCE_CHECK,
    SOURCE_COLUMNS,
    SOURCE_ID,
    SOURCE_KEY,
    SOURCE_TIME,
    SOURCE_WHERE,
    TIME_MAX_US,
    U8,
    U16,
    U32,
    U64,
    X_AT,
    X_COLUMN,
    X_LOG2,
)
from kernels.tables import cell, control, control_add, part, rows, size, source_field

BLOCK = 32
NO_WATERMARK = -(1 << 62)


@kernel(inline="always")
def _present(sources: int, source: int, index: int) -> bool:
    return bit(source_field(sources, source, P_VALID), source_field(sources, source, P_FIRST) + index)


@kernel()
def _number(sources: int, source: int, index: int) -> float:
    at, kind, index = (
        source_field(sources, source, P_ADDRESS),
        source_field(sources, source, P_TYPE),
        source_field(sources, source, P_FIRST) + index,
    )
    if kind == F64:
        return load_f64(at + 8 * index)
    if kind == F32:
        return np.float64(load_f32(at + 4 * index))
    if kind == U64:
        return np.float64(load_u64(at + 8 * index))
    if kind == BITS:
        return 1.0 if bit(at, index) else 0.0
    return np.float64(_whole(at, kind, index))


@kernel()
def _whole(at: int, kind: int, index: int) -> int:  # noqa: PLR0911  one line a type
    if kind == I64:
        return load_i64(at + 8 * index)
    if kind == I32:
        return np.int64(load_i32(at + 4 * index))
    if kind == I16:
        return np.int64(load_i16(at + 2 * index))
    if kind == I8:
        return np.int64(load_i8(at + index))
    if kind == U64:
        return np.int64(load_u64(at + 8 * index))
    if kind == U32:
        return np.int64(load_u32(at + 4 * index))
    if kind == U16:
        return np.int64(load_u16(at + 2 * index))
    if kind == U8:
        return np.int64(load_u8(at + index))
    return np.int64(1) if bit(at, index) else np.int64(0)


@kernel(inline="always")
def _word(sources: int, source: int, index: int) -> int:
    return load_u64(source_field(sources, source, P_ADDRESS) + 8 * (source_field(sources, source, P_FIRST) + index))


@kernel()
def _judge(plan: int, memory: int, sources: int, watermark: npt.NDArray[np.int64], index: int) -> int:  # noqa: PLR0911
    """What becomes of an event; moves the watermark and remembers its id. The reference has this very table."""
    if not _present(sources, SOURCE_KEY, index):
        return NO_KEY
    if not _present(sources, SOURCE_TIME, index):
        return NO_TIME
    has_ids = source_field(sources, SOURCE_ID, P_ADDRESS) != 0
    if has_ids and not _present(sources, SOURCE_ID, index):
        return NO_ID
    time_us = np.int64(_word(sources, SOURCE_TIME, index))
    if time_us < 0 or time_us > TIME_MAX_US:
        return OUT_OF_TIME
    if time_us > np.int64(_word(sources, SOURCE_ARRIVAL, index)) + size(plan, S_FUTURE_US):
        return FUTURE
    if time_us < watermark[0] - size(plan, S_LATENESS_US):
        return LATE
    watermark[0] = max(watermark[0], time_us)
    if has_ids:
        oldest_us = watermark[0] - size(plan, S_LATENESS_US)
        if _known(memory, _word(sources, SOURCE_ID, index), time_us, oldest_us):
            return DUPLICATE
    if source_field(sources, SOURCE_WHERE, P_ADDRESS) != 0 and not _true(sources, SOURCE_WHERE, index):
        return FILTERED
    return APPLIED


@kernel(inline="always")
def _true(sources: int, source: int, index: int) -> bool:
    return _present(sources, source, index) and bit(
        source_field(sources, source, P_ADDRESS), source_field(sources, source, P_FIRST) + index
    )


@kernel()
def _known(memory: int, number: int, time_us: int, oldest_us: int) -> bool:
    """Whether an event of this id was accepted whose time is not before `oldest_us`; remembers this one if not."""
    mask = part(memory, MEMORY_ID_WORDS) - 1
    word = number if number != 0 else uint64(1)
    position = np.int64(word & uint64(mask))
    while load_u64(part(memory, MEMORY_IDS) + 8 * position) != 0:
        if load_u64(part(memory, MEMORY_IDS) + 8 * position) == word:
            if load_i64(part(memory, MEMORY_ID_TIMES) + 8 * position) >= oldest_us:
                return True
            store_i64(part(memory, MEMORY_ID_TIMES) + 8 * position, time_us)
            return False
        position = (position + 1) & mask
    store_u64(part(memory, MEMORY_IDS) + 8 * position, word)
    store_i64(part(memory, MEMORY_ID_TIMES) + 8 * position, time_us)
    control_add(memory, M_IDS)
    return False


@kernel()
def _encode(plan: int, sources: int, index: int, event: int) -> None:
    """Writes the event in the small format of `record` at address `event`."""
    store_i64(event, np.int64(_word(sources, SOURCE_TIME, index)))
    bits, columns = uint32(0), rows(plan, COLUMNS)
    for column in range(columns):
        source = SOURCE_COLUMNS + column
        present = _present(sources, source, index)
        at, kind = event + cell(plan, COLUMNS, column, C_AT), cell(plan, COLUMNS, column, C_KIND)
        if kind == NUMBER:
            value = _number(sources, source, index) if present else 0.0
            present = present and value == value
            store_f64(at, value)
        elif kind == HASH:
            store_u32(at, uint32(_word(sources, source, index) >> uint64(32)))
        else:
            first = source_field(sources, source, P_FIRST)
            store_i64(
                at,
                _whole(source_field(sources, source, P_ADDRESS), source_field(sources, source, P_TYPE), first + index)
                if present
                else 0,
            )
        if present:
            bits |= uint32(1) << uint32(column)
    for mask in range(size(plan, S_MASKS)):
        if _true(sources, SOURCE_COLUMNS + columns + mask, index):
            bits |= uint32(1) << uint32(columns + mask)
    store_u32(event + EVENT_BITS, bits)


@kernel()
def _fetch(plan: int, memory: int, key: int, event: int) -> None:
    """Asks for the cache lines that folding the event will touch, as far as one look at the index tells."""
    mask = part(memory, MEMORY_INDEX_WORDS) - 1
    position, tag = np.int64(key & uint64(mask)), key >> uint64(32)
    entry = load_u64(index_address(memory, position))
    while entry != 0 and entry >> uint64(32) != tag:
        position = (position + 1) & mask
        entry = load_u64(index_address(memory, position))
    if entry == 0:
        return
    record = record_of(plan, memory, entry)
    prefetch(record)
    prefetch(record + 64)
    if not is_hot(entry):
        prefetch(record + 128)
        prefetch(record + 192)
        return
    second = second_of(load_i64(event))
    for ring in range(rows(plan, RINGS)):
        tile = tile_of(second, cell(plan, RINGS, ring, RING_TILE_S))
        position = position_of(tile, cell(plan, RINGS, ring, RING_TILES))
        for bundle in range(cell(plan, RINGS, ring, RING_BUNDLE), cell(plan, RINGS, ring, RING_BUNDLE_END)):
            tile = record + cell(plan, BUNDLES, bundle, B_AT) + position * cell(plan, BUNDLES, bundle, B_STRIDE)
            prefetch(tile)
            prefetch(tile + cell(plan, BUNDLES, bundle, B_STRIDE) - 1)
    for distinct in range(rows(plan, DISTINCTS)):
        half = load_u32(event + cell(plan, COLUMNS, cell(plan, DISTINCTS, distinct, X_COLUMN), C_AT))
        prefetch(
            record
            + cell(plan, DISTINCTS, distinct, X_AT)
            + 4 * np.int64(half >> uint32(32 - cell(plan, DISTINCTS, distinct, X_LOG2)))
        )


@kernel(inline="always")
def _room(memory: int, with_ids: bool) -> int:
    """How many events can be folded before something must grow: each may be a new entity with a new id."""
    room = min(
        control(memory, M_ENTITIES_MAX) - control(memory, M_ENTITIES),
        part(memory, MEMORY_INDEX_WORDS) * 3 // 4 - control(memory, M_INDEXED),
    )
    return min(room, part(memory, MEMORY_ID_WORDS) * 3 // 4 - control(memory, M_IDS)) if with_ids else room


@kernel(nogil=True, cache=True)
def ingest(
    plan: int, memory: int, sources: int, verdicts: npt.NDArray[np.uint8], watermark: npt.NDArray[np.int64], start: int
) -> int:
    """Folds events `start` to n - 1 (n: the length of `verdicts`, uint8, which is filled); the number of the first one that
    was not looked at, because the index, the set of ids or the pools must grow before, or n.

    `watermark` (int64 [1], us) is that of the events' partition. `sources`: see `record`.
    """
    stride = size(plan, S_EVENT_BYTES)
    block = np.empty(BLOCK * (stride // 4), np.uint32)
    keys, checks = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint32)
    events, with_ids, total = block.ctypes.data, source_field(sources, SOURCE_ID, P_ADDRESS) != 0, verdicts.shape[0]
    mask, has_checks = uint64(part(memory, MEMORY_INDEX_WORDS) - 1), source_field(sources, SOURCE_CHECK, P_ADDRESS) != 0
    while start < total:
        room = _room(memory, with_ids)
        if room <= 0:
            break
        end, chosen = min(start + BLOCK, start + room, total), 0
        for index in range(start, end):
            verdicts[index] = _judge(plan, memory, sources, watermark, index)
            if verdicts[index] == APPLIED:
                key = _word(sources, SOURCE_KEY, index)
                prefetch(index_address(memory, np.int64(key & mask)))
                keys[chosen] = key
                checks[chosen] = (
                    load_u32(source_field(sources, SOURCE_CHECK, P_ADDRESS) + 4 * index) if has_checks else uint32(0)
                )
                _encode(plan, sources, index, events + chosen * stride)
                chosen += 1
        for number in range(chosen):
            _fetch(plan, memory, keys[number], events + number * stride)
        for number in range(chosen):
            _apply(plan, memory, keys[number], checks[number], events + number * stride)
        start = end
    return start


@kernel()
def _apply(plan: int, memory: int, key: int, check: int, event: int) -> None:
    position = find(plan, memory, key, check)
    if position >= 0:
        fold(plan, memory, position, event)
    else:
        insert(plan, memory, -1 - position, key, check, event)


@kernel(nogil=True, cache=True)
def keep_ids(memory: int, ids: npt.NDArray[np.uint64], times: npt.NDArray[np.int64], oldest_us: int) -> int:
    """Fills the empty set `ids` and `times` with those of `memory` that are not before `oldest_us`; how many."""
    mask, kept = ids.shape[0] - 1, 0
    for old in range(part(memory, MEMORY_ID_WORDS)):
        word = load_u64(part(memory, MEMORY_IDS) + 8 * old)
        if word == 0 or load_i64(part(memory, MEMORY_ID_TIMES) + 8 * old) < oldest_us:
            continue
        position = np.int64(word & uint64(mask))
        while ids[position] != 0:
            position = (position + 1) & mask
        ids[position] = word
        times[position] = load_i64(part(memory, MEMORY_ID_TIMES) + 8 * old)
        kept += 1
    return kept
