"""Folds one event into an entity's record, hot or cold, as `record` lays it out.

An event is handed over by address in its own small format, so that a cold entity's events can be folded again when it
becomes hot."""

from __future__ import annotations

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
    times_63,
)
from kernels.record import (
    B_AT,
    B_KIND,
    B_NEED,
    B_STRIDE,
    B_VALUE_AT,
    B_WHOLE,
    BUNDLES,
    C_AT,
    C_KIND,
    CODE,
    COLUMNS,
    D_AT,
    D_HALF_LIFE,
    D_KIND,
    D_NEED,
    D_VALUE_AT,
    DECAYS,
    DISTINCTS,
    ETERNALS,
    EVENT_BITS,
    HASH,
    L_AT,
    L_FIRST,
    L_NEED,
    L_VALUE,
    L_VALUE_AT,
    LASTS,
    NEWEST,
    NO_VALUE,
    NONE,
    NUMBER,
    PLACE_BYTES,
    RING_AT,
    RING_BUNDLE,
    RING_BUNDLE_END,
    RING_BY_TILE_S,
    RING_BY_TILES,
    RING_TILES,
    RING_TOP,
    RING_TOP_END,
    RINGS,
    ROW_BYTES,
    S_SCALARS_AT_COLD,
    S_SCALARS_AT_HOT,
    T_AT,
    T_NEED,
    T_SLOTS,
    T_STRIDE,
    T_VALUE_AT,
    TOPS,
    X_AT,
    X_COLUMN,
    X_LOG2,
    X_NEED,
    X_VALUE_AT,
)  # fmt: skip
from kernels.tables import cell, row_of, rows, size
from kernels.tiles import ALWAYS_LATER, tile_add, tile_set, tile_start, whole_add

NEVER = -(1 << 63)
"""The time of what has not happened."""


@kernel(inline="always")
def second_of(time_us: int) -> int:
    """The second since 1970, u32."""
    return uint32(uint64(time_us) // uint64(1_000_000))


@kernel(inline="always")
def quotient(number: int, reciprocal: int) -> int:
    """A u32 divided by what has this reciprocal."""
    return np.int64(times_63(uint64(number), uint64(reciprocal)))


@kernel(inline="always")
def place(plan: int, time_us: int, places: int) -> None:
    """Writes to `places` where a time lies in every ring: (its tile u32, the tile's position u32) [rings]."""
    second, ring = second_of(time_us), row_of(plan, RINGS, 0)
    for _ in range(rows(plan, RINGS)):
        tile = quotient(second, load_constant(ring + RING_BY_TILE_S))
        tiles = load_constant(ring + RING_TILES)
        store_u32(places, uint32(tile))
        store_u32(places + 4, uint32(tile - quotient(tile, load_constant(ring + RING_BY_TILES)) * tiles))
        places += PLACE_BYTES
        ring += ROW_BYTES


@kernel(inline="always")
def takes(bits: int, need: int) -> bool:
    """Whether an event with these bits has all that are needed."""
    return np.int64(bits) & need == need


@kernel(inline="always")
def value_of(kind: int, at: int) -> float:
    """The value at an address, of a kind of `record`, as f64; 1 where there is no column."""
    if kind == NUMBER:
        return load_f64(at)
    if kind == NO_VALUE:
        return 1.0
    return np.float64(load_u32(at)) if kind == HASH else np.float64(load_i64(at))


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
def ring_move(plan: int, ring: int, record: int, tile: int, position: int) -> int:
    """Makes an event's tile one of its ring's: 1 where it is new, 0 where not, NONE where it is too old to be kept.

    Moves the ring on, letting go of tiles that fall out of it. `ring` is the address of its row.
    """
    tiles, at = load_constant(ring + RING_TILES), record + load_constant(ring + RING_AT)
    alive, newest = load_u64(at + 4), np.int64(load_u32(at))
    ahead = tile - newest
    if alive == 0:
        ahead = tiles
    elif ahead <= -tiles:
        return NONE
    if ahead > 0:
        alive &= _kept(tiles, ahead, position)
        newest = tile
        if load_constant(ring + RING_TOP_END):
            _forget_values(plan, ring, record, alive)
    one = uint64(1) << uint64(position)
    store_u32(at, uint32(newest))
    store_u64(at + 4, alive | one)
    return 1 if alive & one == 0 else 0


@kernel(inline="always")
def _kept(tiles: int, ahead: int, position: int) -> int:
    """A mask of the positions that stay when the ring moves on by `ahead` tiles, to `position`."""
    if ahead >= tiles:
        return uint64(0)
    gone = (uint64(1) << uint64(ahead)) - uint64(1)
    first = position - ahead + 1
    if first < 0:
        first += tiles
    return ~((gone << uint64(first)) | ((gone >> uint64(1)) >> uint64(tiles - first - 1)))


@kernel()
def _forget_values(plan: int, ring: int, record: int, alive: int) -> None:
    for top in range(load_constant(ring + RING_TOP), load_constant(ring + RING_TOP_END)):
        slot = record + cell(plan, TOPS, top, T_AT)
        for _ in range(cell(plan, TOPS, top, T_SLOTS)):
            store_u64(slot + 8, load_u64(slot + 8) & alive)
            slot += cell(plan, TOPS, top, T_STRIDE)


@kernel(inline="always")
def _fold_bundle(bundle: int, record: int, position: int, fresh: bool, event: int, bits: int) -> None:
    tile = record + load_constant(bundle + B_AT) + position * load_constant(bundle + B_STRIDE)
    at = event + load_constant(bundle + B_VALUE_AT)
    if not takes(bits, load_constant(bundle + B_NEED)):
        if fresh:
            tile_start(bundle, tile)
    elif load_constant(bundle + B_WHOLE):
        whole_add(tile, fresh, load_f64(at))
    elif fresh:
        tile_set(bundle, tile, load_i64(event), value_of(load_constant(bundle + B_KIND), at))
    else:
        tile_add(bundle, tile, load_i64(event), value_of(load_constant(bundle + B_KIND), at))


@kernel()
def fold_tiles(plan: int, record: int, event: int, places: int) -> None:
    """The event's share in everything of a hot record that has a window; `places` is where `place` wrote."""
    bits, ring = load_u32(event + EVENT_BITS), row_of(plan, RINGS, 0)
    for _ in range(rows(plan, RINGS)):
        position = np.int64(load_u32(places + 4))
        found = ring_move(plan, ring, record, np.int64(load_u32(places)), position)
        if found != NONE:
            bundle = row_of(plan, BUNDLES, load_constant(ring + RING_BUNDLE))
            for _ in range(load_constant(ring + RING_BUNDLE_END) - load_constant(ring + RING_BUNDLE)):
                _fold_bundle(bundle, record, position, found == 1, event, bits)
                bundle += ROW_BYTES
            if load_constant(ring + RING_TOP_END):
                _fold_tops(plan, ring, record, position, event)
        places += PLACE_BYTES
        ring += ROW_BYTES
    distinct = row_of(plan, DISTINCTS, 0)
    for _ in range(rows(plan, DISTINCTS)):
        if takes(bits, load_constant(distinct + X_NEED)):
            _see(distinct, record, event)
        distinct += ROW_BYTES


@kernel()
def _fold_tops(plan: int, ring: int, record: int, position: int, event: int) -> None:
    for number in range(load_constant(ring + RING_TOP), load_constant(ring + RING_TOP_END)):
        top = row_of(plan, TOPS, number)
        if takes(load_u32(event + EVENT_BITS), load_constant(top + T_NEED)):
            slots, value = record + load_constant(top + T_AT), load_i64(event + load_constant(top + T_VALUE_AT))
            _count_value(slots, top, load_constant(ring + RING_TILES), position, value)


@kernel(inline="always")
def seen_at(distinct: int, event: int) -> int:
    """Where in a record the slot lies that the event's value falls into; `distinct` is the address of its row."""
    half = load_u32(event + load_constant(distinct + X_VALUE_AT))
    return load_constant(distinct + X_AT) + 4 * np.int64(half >> uint32(32 - load_constant(distinct + X_LOG2)))


@kernel(inline="always")
def slot_of(plan: int, distinct: int, event: int) -> int:
    """Which slot of a distinct count the event's value falls into."""
    half = load_u32(event + cell(plan, COLUMNS, cell(plan, DISTINCTS, distinct, X_COLUMN), C_AT))
    return np.int64(half >> uint32(32 - cell(plan, DISTINCTS, distinct, X_LOG2)))


@kernel(inline="always")
def _see(distinct: int, record: int, event: int) -> None:
    at, second = record + seen_at(distinct, event), second_of(load_i64(event)) + uint32(1)
    store_u32(at, max(load_u32(at), second))


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
    row = row_of(plan, DECAYS, 0)
    for _ in range(rows(plan, DECAYS)):
        _decay(row, scalars, event, bits, time_us - newest)
        row += ROW_BYTES
    store_i64(record + NEWEST, max(time_us, newest))
    row = row_of(plan, LASTS, 0)
    for _ in range(rows(plan, LASTS)):
        if takes(bits, load_constant(row + L_NEED)):
            _remember(row, scalars, event, time_us)
        row += ROW_BYTES
    row = row_of(plan, ETERNALS, 0)
    for _ in range(rows(plan, ETERNALS)):
        _fold_bundle(row, scalars, 0, False, event, bits)
        row += ROW_BYTES


@kernel(inline="always")
def _decay(decay: int, scalars: int, event: int, bits: int, ahead: int) -> None:
    at = scalars + load_constant(decay + D_AT)
    total, weight = load_f64(at), 1.0
    if ahead != 0:
        factor = np.exp2(-np.float64(abs(ahead)) / load_f64(decay + D_HALF_LIFE))
        if ahead > 0:
            total *= factor
        else:
            weight = factor
    if takes(bits, load_constant(decay + D_NEED)):
        total += weight * value_of(load_constant(decay + D_KIND), event + load_constant(decay + D_VALUE_AT))
    store_f64(at, total)


@kernel(inline="always")
def _remember(last: int, scalars: int, event: int, time_us: int) -> None:
    at = scalars + load_constant(last + L_AT)
    known = load_i64(at)
    if (time_us >= known) if load_constant(last + L_FIRST) else (time_us < known):
        return
    store_i64(at, time_us)
    if load_constant(last + L_VALUE):
        store_u64(at + 8, load_u64(event + load_constant(last + L_VALUE_AT)))


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
