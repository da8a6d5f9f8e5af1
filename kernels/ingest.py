"""Folds a batch of events, straight from Arrow buffers, into a state: judge, encode, find, fold.

Events go in blocks, because at a million entities nearly all of the time would otherwise be spent waiting for memory. While one
is judged its index line is fetched. Then all records of the block are found and touched, in a loop so short that the processor
translates the addresses of many at once: walks through page tables, one after another, would cost more than all of the folding.
Then the lines of one event's tiles are fetched while another, some events before it, is folded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types, uint32, uint64

from kernels.compiled import kernel
from kernels.entities import find, fold, index_address, insert, is_hot, record_of
from kernels.fold import place, seen_at
from kernels.memory import (
    bit,
    load_constant,
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
    B_RING,
    B_STRIDE,
    BITS,
    BUNDLES,
    C_AT,
    C_KIND,
    CHECK,
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
    KEY,
    LATE,
    M_ENTITIES,
    M_ENTITIES_MAX,
    M_IDS,
    M_INDEXED,
    MEMORY_ID_TIMES,
    MEMORY_ID_WORDS,
    MEMORY_IDS,
    MEMORY_INDEX,
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
    PLACE_BYTES,
    RINGS,
    ROW_BYTES,
    S_EVENT_BYTES,
    S_FUTURE_US,
    S_HOT_BYTES,
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
)  # fmt: skip
from kernels.signed import fills, signed
from kernels.tables import cell, control, control_add, part, row_of, rows, size, source_field

_I64 = types.int64

BLOCK = 128
AHEAD = 16

# A block's slot: key u64, the index entry found u64, its position i64, check u32, the event's number in its batch u32, the event
# as in `record`, then where it lies in the rings.
SLOT_KEY, SLOT_ENTRY, SLOT_POSITION, SLOT_CHECK, SLOT_INDEX, SLOT_EVENT = 0, 8, 16, 24, 28, 32

NO_WATERMARK = -(1 << 62)


@kernel(inline="always")
def _present(sources: int, source: int, index: int) -> bool:
    return bit(source_field(sources, source, P_VALID), source_field(sources, source, P_FIRST) + index)


@kernel()
def _number(at: int, kind: int, index: int) -> float:
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


@kernel(inline="always")
def _plain(plan: int, sources: int, watermark_us: int, index: int) -> bool:
    """Whether an event that has a key and a time is applied whatever else it has: an event like nearly all."""
    time_us = load_i64(source_field(sources, SOURCE_TIME, P_ADDRESS) + 8 * index)
    return (
        time_us >= max(watermark_us - size(plan, S_LATENESS_US), 0)
        and time_us <= load_i64(source_field(sources, SOURCE_ARRIVAL, P_ADDRESS) + 8 * index) + size(plan, S_FUTURE_US)
        and time_us <= TIME_MAX_US
    )


@kernel(inline="always")
def _plain(plan: int, sources: int, watermark_us: int, index: int) -> bool:
    """Whether an event with a key and a time, of a batch without ids and a filter, is applied: nearly all are."""
    time_us = np.int64(_word(sources, SOURCE_TIME, index))
    return (
        time_us >= max(watermark_us - size(plan, S_LATENESS_US), 0)
        and time_us <= TIME_MAX_US
        and time_us <= np.int64(_word(sources, SOURCE_ARRIVAL, index)) + size(plan, S_FUTURE_US)
    )


@kernel(inline="always")
def _encode_column(plan: int, sources: int, column: int, block: int, end: int, stride: int) -> None:
    source, at, kind = SOURCE_COLUMNS + column, cell(plan, COLUMNS, column, C_AT), cell(plan, COLUMNS, column, C_KIND)
    values, valid = source_field(sources, source, P_ADDRESS), source_field(sources, source, P_VALID)
    first, what = source_field(sources, source, P_FIRST), source_field(sources, source, P_TYPE)
    one = uint32(1) << uint32(column)
    for slot in range(block, end, stride):
        event, index = slot + SLOT_EVENT, first + np.int64(load_u32(slot + SLOT_INDEX))
        present = bit(valid, index)
        if kind == NUMBER:
            value = 0.0
            if present:
                value = load_f64(values + 8 * index) if what == F64 else _number(values, what, index)
                present = value == value
            store_f64(event + at, value)
        elif kind == HASH:
            store_u32(event + at, load_u32(values + 8 * index + 4))
        else:
            store_i64(event + at, _whole(values, what, index) if present else 0)
        store_u32(event + EVENT_BITS, load_u32(event + EVENT_BITS) | (one if present else uint32(0)))


@kernel()
def _encode(plan: int, sources: int, block: int, end: int, stride: int) -> None:
    """Writes the columns of a block's events, whose times are there already, in the small format of `record`."""
    columns = rows(plan, COLUMNS)
    for column in range(columns):
        _encode_column(plan, sources, column, block, end, stride)
    for mask in range(size(plan, S_MASKS)):
        one = uint32(1) << uint32(columns + mask)
        for slot in range(block, end, stride):
            if _true(sources, SOURCE_COLUMNS + columns + mask, np.int64(load_u32(slot + SLOT_INDEX))):
                bits = slot + SLOT_EVENT + EVENT_BITS
                store_u32(bits, load_u32(bits) | one)


@kernel(inline="always")
def _seek(plan: int, memory: int, slot: int) -> None:
    """Finds an event's record, as far as the index tells, and asks for its first and last line, which may be on two pages."""
    key = load_u64(slot + SLOT_KEY)
    mask = part(memory, MEMORY_INDEX_WORDS) - 1
    position, tag = np.int64(key & uint64(mask)), key >> uint64(32)
    entry = load_u64(index_address(memory, position))
    while entry != 0 and entry >> uint64(32) != tag:
        position = (position + 1) & mask
        entry = load_u64(index_address(memory, position))
    record = record_of(plan, memory, entry) if entry != 0 else part(memory, MEMORY_INDEX)
    prefetch(record)
    if is_hot(entry):
        prefetch(record + size(plan, S_HOT_BYTES) - 1)
    store_i64(slot + SLOT_POSITION, position)
    store_u64(slot + SLOT_ENTRY, entry)


@kernel()
def _fetch(plan: int, memory: int, slot: int, places: int) -> None:
    """Asks for the cache lines that folding an event will touch."""
    entry = load_u64(slot + SLOT_ENTRY)
    place(plan, load_i64(slot + SLOT_EVENT), places)
    if entry == 0:
        return
    record = record_of(plan, memory, entry)
    prefetch(record + 64)
    if is_hot(entry):
        _fetch_tiles(plan, record, slot + SLOT_EVENT, places)
    else:
        prefetch(record + 128)
        prefetch(record + 192)


@kernel(inline="always")
def _fetch_tiles(plan: int, record: int, event: int, places: int) -> None:
    bundle = row_of(plan, BUNDLES, 0)
    for _ in range(rows(plan, BUNDLES)):
        position = np.int64(load_u32(places + PLACE_BYTES * load_constant(bundle + B_RING) + 4))
        stride = load_constant(bundle + B_STRIDE)
        tile = record + load_constant(bundle + B_AT) + position * stride
        prefetch(tile)
        prefetch(tile + stride - 1)
        bundle += ROW_BYTES
    distinct = row_of(plan, DISTINCTS, 0)
    for _ in range(rows(plan, DISTINCTS)):
        prefetch(record + seen_at(distinct, event))
        distinct += ROW_BYTES


@kernel(inline="always")
def _room(memory: int) -> int:
    """How many new entities there is room for before something must grow."""
    return min(
        control(memory, M_ENTITIES_MAX) - control(memory, M_ENTITIES),
        part(memory, MEMORY_INDEX_WORDS) * 3 // 4 - control(memory, M_INDEXED),
    )


@kernel()
def _fitting(plan: int, memory: int, sources: int, start: int, stop: int) -> int:
    """Where the events from `start` on that surely fit end, at most `stop`: any of known entities, others as there is room."""
    room = _room(memory)
    if source_field(sources, SOURCE_ID, P_ADDRESS) != 0:
        stop = min(stop, start + part(memory, MEMORY_ID_WORDS) * 3 // 4 - control(memory, M_IDS))
    if room >= stop - start:
        return stop
    checks = source_field(sources, SOURCE_CHECK, P_ADDRESS)
    for index in range(start, stop):
        check = load_u32(checks + 4 * index) if checks != 0 else uint32(0)
        if find(plan, memory, _word(sources, SOURCE_KEY, index), check) < 0:
            room -= 1
            if room < 0:
                return index
    return stop


@kernel(inline="always")
def _choose(memory: int, sources: int, index: int, slot: int) -> None:
    """Gives an event that is applied a slot of the block."""
    key = _word(sources, SOURCE_KEY, index)
    prefetch(index_address(memory, np.int64(key & uint64(part(memory, MEMORY_INDEX_WORDS) - 1))))
    checks = source_field(sources, SOURCE_CHECK, P_ADDRESS)
    store_u64(slot + SLOT_KEY, key)
    store_u32(slot + SLOT_CHECK, load_u32(checks + 4 * index) if checks != 0 else uint32(0))
    store_u32(slot + SLOT_INDEX, uint32(index))
    store_u64(slot + SLOT_EVENT, _word(sources, SOURCE_TIME, index))
    store_u32(slot + SLOT_EVENT + EVENT_BITS, uint32(0))


@signed(_I64(_I64, _I64, _I64, fills(types.uint8), fills(_I64), _I64))
def ingest(
    plan: int, memory: int, sources: int, verdicts: npt.NDArray[np.uint8], watermark: npt.NDArray[np.int64], start: int
) -> int:
    """Folds events `start` to n - 1 (n: the length of `verdicts`, uint8, which is filled); the number of the first one that
    was not looked at, because the index, the set of ids or the pools must grow before, or n.

    `watermark` (int64 [1], us) is that of the events' partition. `sources`: see `record`.
    """
    places = SLOT_EVENT + (size(plan, S_EVENT_BYTES) + 7) // 8 * 8
    stride = places + PLACE_BYTES * rows(plan, RINGS)
    area = np.empty(BLOCK * (stride // 8), np.uint64)
    block, total = np.int64(area.ctypes.data), verdicts.shape[0]
    with_ids, filtered = (
        source_field(sources, SOURCE_ID, P_ADDRESS) != 0,
        source_field(sources, SOURCE_WHERE, P_ADDRESS) != 0,
    )
    nulls = source_field(sources, SOURCE_KEY, P_VALID) != 0 or source_field(sources, SOURCE_TIME, P_VALID) != 0
    plain = not (with_ids or filtered or nulls)
    while start < total:
        stop, end = _fitting(plan, memory, sources, start, min(start + BLOCK, total)), block
        if stop <= start:
            break
        for index in range(start, stop):
            if plain and _plain(plan, sources, watermark[0], index):
                watermark[0] = max(watermark[0], np.int64(_word(sources, SOURCE_TIME, index)))
                verdict = APPLIED
            else:
                verdict = _judge(plan, memory, sources, watermark, index)
            verdicts[index] = verdict
            if verdict == APPLIED:
                _choose(memory, sources, index, end)
                end += stride
        _encode(plan, sources, block, end, stride)
        _fold_block(plan, memory, block, end, stride, places)
        start = stop
    area[0] = uint64(0)  # numba lets go of an array after its last use, whoever has its address
    return start


@kernel(inline="always")
def _fold_block(plan: int, memory: int, block: int, end: int, stride: int, places: int) -> None:
    for slot in range(block, end, stride):
        _seek(plan, memory, slot)
    ahead = min(block + AHEAD * stride, end)
    for slot in range(block, ahead, stride):
        _fetch(plan, memory, slot, slot + places)
    for slot in range(block, end, stride):
        if ahead < end:
            _fetch(plan, memory, ahead, ahead + places)
            ahead += stride
        _apply(plan, memory, slot, slot + places)


@kernel(inline="always")
def _apply(plan: int, memory: int, slot: int, places: int) -> None:
    """Folds a block's event. What `_seek` found still holds unless an event before it made the entity hot."""
    key, check, event = load_u64(slot + SLOT_KEY), load_u32(slot + SLOT_CHECK), slot + SLOT_EVENT
    position, entry = load_i64(slot + SLOT_POSITION), load_u64(slot + SLOT_ENTRY)
    known = entry != 0 and load_u64(index_address(memory, position)) == entry
    record = record_of(plan, memory, entry)
    if not known or load_u64(record + KEY) != key or load_u32(record + CHECK) != check:
        position = find(plan, memory, key, check)
        if position < 0:
            insert(plan, memory, -1 - position, key, check, event, places)
            return
        entry = load_u64(index_address(memory, position))
        record = record_of(plan, memory, entry)
    fold(plan, memory, position, entry, record, event, places)


@signed(_I64(_I64, fills(types.uint64), fills(_I64), _I64))
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
