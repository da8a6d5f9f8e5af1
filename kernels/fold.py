"""Folds one event into an entity's record, hot or cold, as `record` lays it out.

An event is handed over by address in its own small format, so that a cold entity's events can be folded again when it
becomes hot. Variance by Youngs and Cramer's updating formulas (1971).
"""

from __future__ import annotations

import math

import numpy as np
from numba import uint32, uint64

from kernels.compiled import kernel
from kernels.memory import (
    load_constant,
    load_f64,
    load_i64,
    load_u32,
    load_u64,
    store_f64,
    store_i64,
    store_u32,
    store_u64,
)
from kernels.record import (
    B_AT,
    B_COLUMN,
    B_FIRST,
    B_M2,
    B_MASK,
    B_MAX,
    B_MIN,
    B_STRIDE,
    B_SUM,
    BUNDLES,
    C_AT,
    C_KIND,
    CODE,
    COLUMNS,
    D_AT,
    D_COLUMN,
    D_HALF_LIFE,
    D_MASK,
    DECAYS,
    DISTINCTS,
    ETERNALS,
    EVENT_BITS,
    HASH,
    L_AT,
    L_COLUMN,
    L_FIRST,
    L_MASK,
    L_VALUE,
    LASTS,
    NEWEST,
    NONE,
    RING_AT,
    RING_BUNDLE,
    RING_BUNDLE_END,
    RING_TILE_S,
    RING_TILES,
    RING_TOP,
    RING_TOP_END,
    RINGS,
    S_SCALARS_AT_COLD,
    S_SCALARS_AT_HOT,
    T_AT,
    T_COLUMN,
    T_MASK,
    T_SLOTS,
    T_STRIDE,
    TOPS,
    X_AT,
    X_COLUMN,
    X_LOG2,
    X_MASK,
)
from kernels.tables import cell, row_of, rows, size

NEVER = -(1 << 63)
"""The time of what has not happened."""

ALWAYS_LATER = (1 << 63) - 1


@kernel(inline="always")
def second_of(time_us: int) -> int:
    """The second since 1970, u32. Divisions by numbers that the compiler does not know are done in 32 bits: half the time."""
    return uint32(uint64(time_us) // uint64(1_000_000))


@kernel(inline="always")
def tile_of(second: int, tile_s: int) -> int:
    """The tile a second lies in."""
    return np.int64(uint32(second) // uint32(tile_s))


@kernel(inline="always")
def position_of(tile: int, tiles: int) -> int:
    """The place of a tile in its ring."""
    return np.int64(uint32(tile) % uint32(tiles))


@kernel(inline="always")
def counts(plan: int, bits: int, column: int, mask: int) -> bool:
    """Whether an event with these bits has the column's value and passes the filter."""
    if mask != NONE and (bits >> uint32(rows(plan, COLUMNS) + mask)) & uint32(1) == 0:
        return False
    return column == NONE or (bits >> uint32(column)) & uint32(1) != 0


@kernel(inline="always")
def number_of(plan: int, event: int, column: int) -> float:
    """The event's value of a column as f64; 1 where there is no column."""
    if column == NONE:
        return 1.0
    at = event + cell(plan, COLUMNS, column, C_AT)
    kind = cell(plan, COLUMNS, column, C_KIND)
    if kind == CODE:
        return np.float64(load_i64(at))
    return np.float64(load_u32(at)) if kind == HASH else load_f64(at)


@kernel(inline="always")
def tile_start(bundle: int, tile: int) -> None:
    """Makes a tile empty. `bundle` is the address of its bundle's row."""
    store_u32(tile, uint32(0))
    if load_constant(bundle + B_SUM):
        store_f64(tile + load_constant(bundle + B_SUM), 0.0)
    if load_constant(bundle + B_M2):
        store_f64(tile + load_constant(bundle + B_M2), 0.0)
    if load_constant(bundle + B_MIN):
        store_f64(tile + load_constant(bundle + B_MIN), math.inf)
    if load_constant(bundle + B_MAX):
        store_f64(tile + load_constant(bundle + B_MAX), -math.inf)
    if load_constant(bundle + B_FIRST):
        store_i64(tile + load_constant(bundle + B_FIRST), ALWAYS_LATER)


@kernel(inline="always")
def tile_set(bundle: int, tile: int, time_us: int, value: float) -> None:
    """Makes a tile that of one value."""
    store_u32(tile, uint32(1))
    if load_constant(bundle + B_SUM):
        store_f64(tile + load_constant(bundle + B_SUM), value)
    if load_constant(bundle + B_M2):
        store_f64(tile + load_constant(bundle + B_M2), 0.0)
    if load_constant(bundle + B_MIN):
        store_f64(tile + load_constant(bundle + B_MIN), value)
    if load_constant(bundle + B_MAX):
        store_f64(tile + load_constant(bundle + B_MAX), value)
    if load_constant(bundle + B_FIRST):
        store_i64(tile + load_constant(bundle + B_FIRST), time_us)
        store_f64(tile + load_constant(bundle + B_FIRST) + 8, value)


@kernel(inline="always")
def tile_add(bundle: int, tile: int, time_us: int, value: float) -> None:
    """One more value in a tile."""
    count = load_u32(tile) + uint32(1)
    store_u32(tile, count)
    if load_constant(bundle + B_SUM):
        total = load_f64(tile + load_constant(bundle + B_SUM)) + value
        store_f64(tile + load_constant(bundle + B_SUM), total)
        if load_constant(bundle + B_M2) and count > 1:
            apart = count * value - total
            square = apart * apart / (np.float64(count) * (np.float64(count) - 1.0))
            store_f64(tile + load_constant(bundle + B_M2), load_f64(tile + load_constant(bundle + B_M2)) + square)
    if load_constant(bundle + B_MIN):  # stored always: whether it is less is a coin toss that branches would pay for
        least = tile + load_constant(bundle + B_MIN)
        store_f64(least, min(load_f64(least), value))
    if load_constant(bundle + B_MAX):
        most = tile + load_constant(bundle + B_MAX)
        store_f64(most, max(load_f64(most), value))
    if load_constant(bundle + B_FIRST) and time_us < load_i64(tile + load_constant(bundle + B_FIRST)):
        store_i64(tile + load_constant(bundle + B_FIRST), time_us)
        store_f64(tile + load_constant(bundle + B_FIRST) + 8, value)


@kernel(inline="always")
def ring_position(plan: int, ring: int, record: int, second: int) -> int:
    """Where in its ring the event's tile lies, twice, plus 1 where that tile is new; NONE where it is too old to be kept.

    Moves the ring on, letting go of tiles that fall out of it.
    """
    tiles = cell(plan, RINGS, ring, RING_TILES)
    at = record + cell(plan, RINGS, ring, RING_AT)
    tile = tile_of(second, cell(plan, RINGS, ring, RING_TILE_S))
    alive = load_u64(at + 4)
    newest = np.int64(load_u32(at))
    if alive == 0:
        newest = tile
    elif newest - tile >= tiles:
        return NONE
    elif tile > newest:
        alive &= _kept(tiles, newest, tile)
        _forget_values(plan, ring, record, alive)
        newest = tile
    position = position_of(tile, tiles)
    one = uint64(1) << uint64(position)
    fresh = alive & one == 0
    store_u32(at, uint32(newest))
    store_u64(at + 4, alive | one)
    return position * 2 + (1 if fresh else 0)


@kernel(inline="always")
def _kept(tiles: int, newest: int, tile: int) -> int:
    """A mask of the positions that stay when the ring moves from `newest` to `tile`."""
    if tile - newest >= tiles:
        return uint64(0)
    gone = uint64(0)
    position = position_of(newest, tiles)
    for _ in range(tile - newest):
        position += 1
        if position == tiles:
            position = 0
        gone |= uint64(1) << uint64(position)
    return ~gone


@kernel()
def _forget_values(plan: int, ring: int, record: int, alive: int) -> None:
    for top in range(cell(plan, RINGS, ring, RING_TOP), cell(plan, RINGS, ring, RING_TOP_END)):
        slot = record + cell(plan, TOPS, top, T_AT)
        for _ in range(cell(plan, TOPS, top, T_SLOTS)):
            store_u64(slot + 8, load_u64(slot + 8) & alive)
            slot += cell(plan, TOPS, top, T_STRIDE)


@kernel(inline="always")
def _fold_bundle(plan: int, bundle: int, record: int, position: int, fresh: int, event: int) -> None:
    tile = record + load_constant(bundle + B_AT) + position * load_constant(bundle + B_STRIDE)
    time_us, bits, column = load_i64(event), load_u32(event + EVENT_BITS), load_constant(bundle + B_COLUMN)
    if not counts(plan, bits, column, load_constant(bundle + B_MASK)):
        if fresh:
            tile_start(bundle, tile)
    elif fresh:
        tile_set(bundle, tile, time_us, number_of(plan, event, column))
    else:
        tile_add(bundle, tile, time_us, number_of(plan, event, column))


@kernel()
def fold_tiles(plan: int, record: int, event: int) -> None:
    """The event's share in everything of a hot record that has a window."""
    time_us, bits = load_i64(event), load_u32(event + EVENT_BITS)
    second = second_of(time_us)
    for ring in range(rows(plan, RINGS)):
        found = ring_position(plan, ring, record, second)
        if found == NONE:
            continue
        position, fresh = found >> 1, found & 1
        for number in range(cell(plan, RINGS, ring, RING_BUNDLE), cell(plan, RINGS, ring, RING_BUNDLE_END)):
            _fold_bundle(plan, row_of(plan, BUNDLES, number), record, position, fresh, event)
        for top in range(cell(plan, RINGS, ring, RING_TOP), cell(plan, RINGS, ring, RING_TOP_END)):
            if counts(plan, bits, cell(plan, TOPS, top, T_COLUMN), cell(plan, TOPS, top, T_MASK)):
                value = load_i64(event + cell(plan, COLUMNS, cell(plan, TOPS, top, T_COLUMN), C_AT))
                _count_value(
                    record + cell(plan, TOPS, top, T_AT),
                    row_of(plan, TOPS, top),
                    cell(plan, RINGS, ring, RING_TILES),
                    position,
                    value,
                )
    for distinct in range(rows(plan, DISTINCTS)):
        if counts(plan, bits, cell(plan, DISTINCTS, distinct, X_COLUMN), cell(plan, DISTINCTS, distinct, X_MASK)):
            _see(plan, distinct, record, event, time_us)


@kernel(inline="always")
def slot_of(plan: int, distinct: int, event: int) -> int:
    """Which slot of a distinct count the event's value falls into."""
    half = load_u32(event + cell(plan, COLUMNS, cell(plan, DISTINCTS, distinct, X_COLUMN), C_AT))
    return np.int64(half >> uint32(32 - cell(plan, DISTINCTS, distinct, X_LOG2)))


@kernel()
def _see(plan: int, distinct: int, record: int, event: int, time_us: int) -> None:
    at = record + cell(plan, DISTINCTS, distinct, X_AT) + 4 * slot_of(plan, distinct, event)
    second = second_of(time_us) + uint32(1)
    if second > load_u32(at):
        store_u32(at, second)


@kernel()
def _count_value(slots: int, top: int, tiles: int, position: int, value: int) -> None:
    """Counts a value in its slot; a new one takes a slot whose tiles are all gone, or that of the rarest value."""
    one = uint64(1) << uint64(position)
    chosen, rarest = NONE, np.int64(ALWAYS_LATER)
    for number in range(load_constant(top + T_SLOTS)):
        slot = slots + number * load_constant(top + T_STRIDE)
        alive = load_u64(slot + 8)
        if alive != 0 and load_i64(slot) == value:
            count = load_u32(slot + 16 + 4 * position) if alive & one else uint32(0)
            store_u64(slot + 8, alive | one)
            store_u32(slot + 16 + 4 * position, count + uint32(1))
            return
        total = _total(slot, alive, tiles)
        if total < rarest:
            chosen, rarest = number, total
    slot = slots + chosen * load_constant(top + T_STRIDE)
    store_i64(slot, value)
    store_u64(slot + 8, one)
    store_u32(slot + 16 + 4 * position, uint32(1))


@kernel()
def _total(slot: int, alive: int, tiles: int) -> int:
    total = np.int64(0)
    if alive != 0:
        for position in range(tiles):
            if alive >> uint64(position) & uint64(1):
                total += np.int64(load_u32(slot + 16 + 4 * position))
    return total


@kernel()
def fold_scalars(plan: int, record: int, scalars: int, event: int) -> None:
    """The event's share in what has no window; `scalars` is where they begin. Moves the record's newest time."""
    time_us, bits = load_i64(event), load_u32(event + EVENT_BITS)
    newest = load_i64(record + NEWEST)
    ahead = time_us - newest
    for decay in range(rows(plan, DECAYS)):
        _decay(plan, decay, scalars, event, bits, ahead)
    if ahead > 0:
        store_i64(record + NEWEST, time_us)
    for last in range(rows(plan, LASTS)):
        if counts(plan, bits, cell(plan, LASTS, last, L_COLUMN), cell(plan, LASTS, last, L_MASK)):
            _remember(plan, last, scalars, event, time_us)
    for bundle in range(rows(plan, ETERNALS)):
        column = cell(plan, ETERNALS, bundle, B_COLUMN)
        if counts(plan, bits, column, cell(plan, ETERNALS, bundle, B_MASK)):
            tile = scalars + cell(plan, ETERNALS, bundle, B_AT)
            tile_add(row_of(plan, ETERNALS, bundle), tile, time_us, number_of(plan, event, column))


@kernel()
def _decay(plan: int, decay: int, scalars: int, event: int, bits: int, ahead: int) -> None:
    at = scalars + cell(plan, DECAYS, decay, D_AT)
    total, weight = load_f64(at), 1.0
    if ahead > 0:
        total *= np.exp2(-np.float64(ahead) / load_f64(row_of(plan, DECAYS, decay) + D_HALF_LIFE))
    elif ahead < 0:
        weight = np.exp2(np.float64(ahead) / load_f64(row_of(plan, DECAYS, decay) + D_HALF_LIFE))
    column = cell(plan, DECAYS, decay, D_COLUMN)
    if counts(plan, bits, column, cell(plan, DECAYS, decay, D_MASK)):
        total += weight * number_of(plan, event, column)
    store_f64(at, total)


@kernel()
def _remember(plan: int, last: int, scalars: int, event: int, time_us: int) -> None:
    at = scalars + cell(plan, LASTS, last, L_AT)
    known = load_i64(at)
    if cell(plan, LASTS, last, L_FIRST):
        if time_us >= known:
            return
    elif time_us < known:
        return
    store_i64(at, time_us)
    if cell(plan, LASTS, last, L_VALUE):
        store_u64(at + 8, load_u64(event + cell(plan, COLUMNS, cell(plan, LASTS, last, L_COLUMN), C_AT)))


@kernel()
def scalars_start(plan: int, scalars: int) -> None:
    """Makes the scalars those of an entity without events."""
    for decay in range(rows(plan, DECAYS)):
        store_f64(scalars + cell(plan, DECAYS, decay, D_AT), 0.0)
    for last in range(rows(plan, LASTS)):
        store_i64(scalars + cell(plan, LASTS, last, L_AT), ALWAYS_LATER if cell(plan, LASTS, last, L_FIRST) else NEVER)
    for bundle in range(rows(plan, ETERNALS)):
        tile_start(row_of(plan, ETERNALS, bundle), scalars + cell(plan, ETERNALS, bundle, B_AT))


@kernel()
def tiles_start(plan: int, record: int) -> None:
    """Makes a hot record's windows those of an entity without events."""
    for ring in range(rows(plan, RINGS)):
        store_u64(record + cell(plan, RINGS, ring, RING_AT) + 4, uint64(0))
    for distinct in range(rows(plan, DISTINCTS)):
        at = record + cell(plan, DISTINCTS, distinct, X_AT)
        for slot in range(1 << cell(plan, DISTINCTS, distinct, X_LOG2)):
            store_u32(at + 4 * slot, uint32(0))
    for top in range(rows(plan, TOPS)):
        slot = record + cell(plan, TOPS, top, T_AT)
        for _ in range(cell(plan, TOPS, top, T_SLOTS)):
            store_u64(slot + 8, uint64(0))
            slot += cell(plan, TOPS, top, T_STRIDE)


@kernel(inline="always")
def scalars_of(plan: int, record: int, hot: bool) -> int:
    """Where a record's scalars begin."""
    return record + (size(plan, S_SCALARS_AT_HOT) if hot else size(plan, S_SCALARS_AT_COLD))
