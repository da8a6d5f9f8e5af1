"""Finds, makes, moves and frees the records of entities: an open-addressing index over two pools.

One thread writes. A record that readers may hold is only changed between `write_begin` and `write_end`; a record is complete
before the index names it, and named no longer before it is freed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types, uint32, uint64

from kernels.compiled import kernel
from kernels.fold import fold_scalars, fold_tiles, place, scalars_of, scalars_start, tiles_start
from kernels.memory import (
    load_i64,
    load_u32,
    load_u64,
    load_u64_acquire,
    store_i64,
    store_u32,
    store_u64,
    store_u64_release,
    write_begin,
    write_end,
)
from kernels.record import (
    CHECK,
    FREE_CHECK,
    K_TILE_US,
    K_TILES,
    KEEPS,
    KEY,
    M_COLD_FREE,
    M_COLD_USED,
    M_ENTITIES,
    M_HOT_FREE,
    M_HOT_LIVE,
    M_HOT_USED,
    M_INDEXED,
    MEMORY_COLD,
    MEMORY_HOT,
    MEMORY_INDEX,
    MEMORY_INDEX_WORDS,
    NEWEST,
    S_COLD_BYTES,
    S_COLD_COUNT_AT,
    S_COLD_EVENTS,
    S_EVENT_BYTES,
    S_EVENTS_AT,
    S_HOT_BYTES,
    S_KEEP_ALL,
    S_SCALARS_BYTES,
    S_TTL_US,
)
from kernels.signed import fills, signed
from kernels.tables import cell, control, control_add, control_set, part, rows, size

_I64 = types.int64

_TAG = np.uint64(32)
_HOT_BIT = np.uint64(1 << 31)
_SLOT = np.uint64((1 << 31) - 1)


@kernel(inline="always")
def is_hot(entry: int) -> bool:
    """Whether an index entry names a hot record."""
    return entry & _HOT_BIT != 0


@kernel(inline="always")
def record_of(plan: int, memory: int, entry: int) -> int:
    """The address of the record an index entry names."""
    slot = np.int64(entry & _SLOT) - 1
    if is_hot(entry):
        return part(memory, MEMORY_HOT) + slot * size(plan, S_HOT_BYTES)
    return part(memory, MEMORY_COLD) + slot * size(plan, S_COLD_BYTES)


@kernel(inline="always")
def index_address(memory: int, position: int) -> int:
    """Where the index keeps an entry."""
    return part(memory, MEMORY_INDEX) + 8 * position


@kernel()
def find(plan: int, memory: int, key: int, check: int) -> int:
    """The position of an entity's entry in the index, or -1 - the position where it would be put. For the writer."""
    mask = part(memory, MEMORY_INDEX_WORDS) - 1
    position = np.int64(key & uint64(mask))
    tag = key >> _TAG
    while True:
        entry = load_u64(index_address(memory, position))
        if entry == 0:
            return -1 - position
        if entry >> _TAG == tag:
            record = record_of(plan, memory, entry)
            if load_u64(record + KEY) == key and load_u32(record + CHECK) == check:
                return position
        position = (position + 1) & mask


@kernel()
def _take(memory: int, used: int, free: int, pool: int, bytes_: int) -> int:
    """A slot of a pool: one given back, or the next."""
    head = control(memory, free)
    if head == 0:
        control_add(memory, used)
        return control(memory, used) - 1
    control_set(memory, free, np.int64(load_u64(pool + (head - 1) * bytes_ + KEY)))
    return head - 1


@kernel()
def _give_back(memory: int, free: int, record: int, slot: int) -> None:
    """The record must be between `write_begin` and `write_end`."""
    store_u32(record + CHECK, uint32(FREE_CHECK))
    store_u64(record + KEY, uint64(control(memory, free)))
    control_set(memory, free, slot + 1)


@kernel()
def insert(plan: int, memory: int, position: int, key: int, check: int, event: int, places: int) -> None:
    """A new entity with its first event, at a free position of the index."""
    hot = size(plan, S_COLD_EVENTS) == 0
    if hot:
        slot = _take(memory, M_HOT_USED, M_HOT_FREE, part(memory, MEMORY_HOT), size(plan, S_HOT_BYTES))
        control_add(memory, M_HOT_LIVE)
        record = part(memory, MEMORY_HOT) + slot * size(plan, S_HOT_BYTES)
    else:
        slot = _take(memory, M_COLD_USED, M_COLD_FREE, part(memory, MEMORY_COLD), size(plan, S_COLD_BYTES))
        record = part(memory, MEMORY_COLD) + slot * size(plan, S_COLD_BYTES)
    write_begin(record)
    store_u32(record + CHECK, uint32(check))
    store_u64(record + KEY, key)
    _start(plan, record, hot, event)
    fold_scalars(plan, record, scalars_of(plan, record, hot), event)
    if hot:
        fold_tiles(plan, record, event, places)
    else:
        _append(plan, record, event)
    write_end(record)
    entry = ((key >> _TAG) << _TAG) | uint64(slot + 1) | (_HOT_BIT if hot else uint64(0))
    store_u64_release(index_address(memory, position), entry)
    control_add(memory, M_ENTITIES)
    control_add(memory, M_INDEXED)


@kernel()
def _start(plan: int, record: int, hot: bool, event: int) -> None:
    """Makes the record that of an entity without events, whose newest time is the event's."""
    store_i64(record + NEWEST, load_i64(event))
    scalars_start(plan, scalars_of(plan, record, hot))
    if hot:
        tiles_start(plan, record)
    else:
        store_u32(record + size(plan, S_COLD_COUNT_AT), uint32(0))


@kernel()
def fold(plan: int, memory: int, position: int, entry: int, record: int, event: int, places: int) -> None:
    """One more event of a known entity. A cold record that has no room for it becomes hot.

    `places` is where `place` wrote those of the event; those of older ones may be written over them.
    """
    hot = is_hot(entry)
    write_begin(record)
    if load_i64(event) - load_i64(record + NEWEST) > size(plan, S_TTL_US):
        _start(plan, record, hot, event)
    fold_scalars(plan, record, scalars_of(plan, record, hot), event)
    if hot:
        fold_tiles(plan, record, event, places)
    elif _has_room(plan, record):
        _append(plan, record, event)
    else:
        _heat(plan, memory, position, record, event, places)
    write_end(record)


@kernel()
def _append(plan: int, record: int, event: int) -> None:
    count_at = record + size(plan, S_COLD_COUNT_AT)
    count = load_u32(count_at)
    stride = size(plan, S_EVENT_BYTES)
    _copy(event, record + size(plan, S_EVENTS_AT) + np.int64(count) * stride, stride)
    store_u32(count_at, count + uint32(1))


@kernel(inline="always")
def _copy(source: int, target: int, length: int) -> None:
    """`length` is a multiple of 4."""
    at = 0
    while at + 8 <= length:
        store_u64(target + at, load_u64(source + at))
        at += 8
    if at < length:
        store_u32(target + at, load_u32(source + at))


@kernel()
def _has_room(plan: int, record: int) -> bool:
    """Whether a cold record can take an event, after events that no window can reach any more are let go of, in order."""
    count_at = record + size(plan, S_COLD_COUNT_AT)
    count = np.int64(load_u32(count_at))
    if count < size(plan, S_COLD_EVENTS):
        return True
    if size(plan, S_KEEP_ALL):
        return False
    stride, events = size(plan, S_EVENT_BYTES), record + size(plan, S_EVENTS_AT)
    newest, kept = load_i64(record + NEWEST), 0
    for number in range(count):
        event = events + number * stride
        if _within_reach(plan, newest, load_i64(event)):
            if kept != number:
                _copy(event, events + kept * stride, stride)
            kept += 1
    store_u32(count_at, uint32(kept))
    return kept < count


@kernel()
def _within_reach(plan: int, newest_us: int, time_us: int) -> bool:
    for window in range(rows(plan, KEEPS)):
        tile_us = cell(plan, KEEPS, window, K_TILE_US)
        if newest_us // tile_us - time_us // tile_us < cell(plan, KEEPS, window, K_TILES):
            return True
    return False


@kernel()
def _heat(plan: int, memory: int, position: int, cold: int, event: int, places: int) -> None:
    """Makes a cold entity hot: a new record with all its events and the present one; the cold one is given back."""
    slot = _take(memory, M_HOT_USED, M_HOT_FREE, part(memory, MEMORY_HOT), size(plan, S_HOT_BYTES))
    hot = part(memory, MEMORY_HOT) + slot * size(plan, S_HOT_BYTES)
    control_add(memory, M_HOT_LIVE)
    write_begin(hot)
    store_u32(hot + CHECK, load_u32(cold + CHECK))
    store_u64(hot + KEY, load_u64(cold + KEY))
    store_i64(hot + NEWEST, load_i64(cold + NEWEST))
    _copy(scalars_of(plan, cold, False), scalars_of(plan, hot, True), size(plan, S_SCALARS_BYTES))
    tiles_start(plan, hot)
    old = cold + size(plan, S_EVENTS_AT)
    for _ in range(np.int64(load_u32(cold + size(plan, S_COLD_COUNT_AT)))):
        place(plan, load_i64(old), places)
        fold_tiles(plan, hot, old, places)
        old += size(plan, S_EVENT_BYTES)
    place(plan, load_i64(event), places)
    fold_tiles(plan, hot, event, places)
    write_end(hot)
    entry = load_u64(index_address(memory, position))
    moved = ((entry >> _TAG) << _TAG) | uint64(slot + 1) | _HOT_BIT
    store_u64_release(index_address(memory, position), moved)
    _give_back(memory, M_COLD_FREE, cold, np.int64(entry & _SLOT) - 1)


@signed(_I64(_I64, _I64, fills(types.uint64), _I64))
def rebuild_index(plan: int, memory: int, index: npt.NDArray[np.uint64], oldest_us: int) -> int:
    """Fills the empty `index` with those entities whose newest event is not before `oldest_us`; how many."""
    kept = 0
    for old in range(part(memory, MEMORY_INDEX_WORDS)):
        entry = load_u64(index_address(memory, old))
        if entry == 0:
            continue
        record = record_of(plan, memory, entry)
        if load_i64(record + NEWEST) >= oldest_us:
            _put(index.ctypes.data, index.shape[0] - 1, load_u64(record + KEY), entry & (_HOT_BIT | _SLOT))
            kept += 1
    return kept


@kernel(inline="always")
def _put(index: int, mask: int, key: int, reference: int) -> None:
    position = np.int64(key & uint64(mask))
    while load_u64(index + 8 * position) != 0:
        position = (position + 1) & mask
    store_u64(index + 8 * position, ((key >> _TAG) << _TAG) | reference)


@signed(types.void(_I64, _I64, _I64))
def free_older(plan: int, memory: int, oldest_us: int) -> None:
    """Frees the records of the entities that `rebuild_index` left out of the new index; `memory` has the old one."""
    for old in range(part(memory, MEMORY_INDEX_WORDS)):
        entry = load_u64(index_address(memory, old))
        if entry == 0:
            continue
        record = record_of(plan, memory, entry)
        if load_i64(record + NEWEST) < oldest_us:
            write_begin(record)
            pool = M_COLD_FREE
            if is_hot(entry):
                pool = M_HOT_FREE
                control_set(memory, M_HOT_LIVE, control(memory, M_HOT_LIVE) - 1)
            _give_back(memory, pool, record, np.int64(entry & _SLOT) - 1)
            write_end(record)


@signed(_I64(_I64, _I64))
def close_cold_ranks(plan: int, memory: int) -> int:
    """Moves cold records from the end of their pool into the free slots before; how many are in use then, without a gap."""
    stride, base = size(plan, S_COLD_BYTES), part(memory, MEMORY_COLD)
    low, high = 0, control(memory, M_COLD_USED) - 1
    while True:
        while low <= high and load_u32(base + low * stride + CHECK) != uint32(FREE_CHECK):
            low += 1
        while low <= high and load_u32(base + high * stride + CHECK) == uint32(FREE_CHECK):
            high -= 1
        if low >= high:
            break
        _move_cold(plan, memory, base + high * stride, base + low * stride, low)
    control_set(memory, M_COLD_FREE, 0)
    control_set(memory, M_COLD_USED, low)
    return low


@kernel()
def _move_cold(plan: int, memory: int, source: int, target: int, slot: int) -> None:
    position = find(plan, memory, load_u64(source + KEY), load_u32(source + CHECK))
    write_begin(target)
    _copy(source + CHECK, target + CHECK, size(plan, S_COLD_BYTES) - CHECK)
    write_end(target)
    entry = load_u64(index_address(memory, position))
    store_u64_release(index_address(memory, position), ((entry >> _TAG) << _TAG) | uint64(slot + 1))
    write_begin(source)
    store_u32(source + CHECK, uint32(FREE_CHECK))
    write_end(source)


@signed(_I64(_I64, _I64))
def index_pools(plan: int, memory: int) -> int:
    """Fills the empty the index of `memory` with every record of the pools that is somebody's; how many."""
    found = 0
    for pool in range(2):
        hot = pool == 1
        used = control(memory, M_HOT_USED if hot else M_COLD_USED)
        for slot in range(used):
            reference = uint64(slot + 1) | (_HOT_BIT if hot else uint64(0))
            record = record_of(plan, memory, reference)
            if load_u32(record + CHECK) != uint32(FREE_CHECK):
                _put(
                    part(memory, MEMORY_INDEX), part(memory, MEMORY_INDEX_WORDS) - 1, load_u64(record + KEY), reference
                )
                found += 1
    return found


@signed(types.void(_I64, _I64, fills(_I64)))
def newest_times(plan: int, memory: int, times: npt.NDArray[np.int64]) -> None:
    """Fills `times` (int64 [entities]) with the newest event time of every entity."""
    at = 0
    for position in range(part(memory, MEMORY_INDEX_WORDS)):
        entry = load_u64(index_address(memory, position))
        if entry != 0:
            times[at] = load_i64(record_of(plan, memory, entry) + NEWEST)
            at += 1


@kernel(inline="always")
def entry_at(memory: int, position: int) -> int:
    """An index entry as a reader sees it."""
    return load_u64_acquire(index_address(memory, position))
