"""Where each point is: an open-addressing table from an id, uint64, to a location, a segment's ordinal << 32 | the row within it.

A table is two arrays of 2^n slots: `keys` uint64, and `locations` int64, `ABSENT` where a slot is empty. Linear probing from
`mix` of the id; removal moves what follows back, so there are no tombstones and the same calls make the same table. Nobody
may read while another writes. Kernels hold no count: the caller does, and moves to a table of twice the slots, by `move_all`,
before more than `room_of` ids are in. A dictionary is the twin.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from kernels.compiled import kernel
from kernels.hashing import mix
from kernels.signed import fills, reads, signed

Words = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]

ABSENT = -1
"""The location of what is not there."""

_I64, _U64 = types.int64, types.uint64
_LEAST_SLOTS = 16


def slots_for(ids: int) -> int:
    """The slots of a table in which so many ids may be."""
    slots = _LEAST_SLOTS
    while room_of(slots) < ids:
        slots *= 2
    return slots


def room_of(slots: int) -> int:
    """How many ids may be in a table: five eighths, where a probe looks at 1.8 slots on average, 4.1 for an id not there."""
    return slots // 8 * 5


def new_table(slots: int) -> tuple[Words, Longs]:
    """Empty `keys` and `locations`."""
    assert slots >= 1
    assert slots & (slots - 1) == 0, f"{slots} slots are no power of two"
    return np.zeros(slots, np.uint64), np.full(slots, ABSENT, np.int64)


@kernel(inline="always")
def _home(key: int, mask: int) -> int:
    return np.int64(mix(key)) & mask


@kernel(inline="always")
def _find(keys: Words, locations: Longs, key: int, mask: int) -> int:
    """The slot of `key`, or the empty one in which it belongs."""
    at = _home(key, mask)
    while locations[at] != ABSENT and keys[at] != key:
        at = (at + 1) & mask
    return at


@signed(_I64(fills(_U64), fills(_I64), reads(_U64), reads(_I64), fills(_I64)))
def put(keys: Words, locations: Longs, ids: Words, new: Longs, old: Longs) -> int:
    """Puts each of `ids` [n] at its `new` location [n], in order; returns how many of them were not there before.

    Fills `old` [n] with where each was before, ABSENT where it was not; of an id named twice the later `old` is the earlier
    `new`. The caller sees to it that there is room for all.
    """
    mask, added = keys.shape[0] - 1, 0
    for index in range(ids.shape[0]):
        at = _find(keys, locations, ids[index], mask)
        old[index] = locations[at]
        added += locations[at] == ABSENT
        keys[at], locations[at] = ids[index], new[index]
    return added


@signed(types.void(reads(_U64), reads(_I64), reads(_U64), fills(_I64)))
def get(keys: Words, locations: Longs, ids: Words, found: Longs) -> None:
    """Fills `found` [n] with the location of each of `ids` [n], ABSENT where it is not there."""
    mask = keys.shape[0] - 1
    for index in range(ids.shape[0]):
        found[index] = locations[_find(keys, locations, ids[index], mask)]


@signed(_I64(fills(_U64), fills(_I64), reads(_U64), fills(_I64)))
def remove(keys: Words, locations: Longs, ids: Words, old: Longs) -> int:
    """Takes out each of `ids` [n]; returns how many were there. Fills `old` [n] with where each was, ABSENT where it was not."""
    mask, removed = keys.shape[0] - 1, 0
    for index in range(ids.shape[0]):
        at = _find(keys, locations, ids[index], mask)
        old[index] = locations[at]
        if locations[at] == ABSENT:
            continue
        removed += 1
        after = (at + 1) & mask
        while locations[after] != ABSENT:
            if ((after - _home(keys[after], mask)) & mask) >= ((after - at) & mask):
                keys[at], locations[at] = keys[after], locations[after]
                at = after
            after = (after + 1) & mask
        keys[at], locations[at] = 0, ABSENT
    return removed


@signed(types.void(reads(_U64), reads(_I64), fills(_U64), fills(_I64)))
def move_all(keys: Words, locations: Longs, new_keys: Words, new_locations: Longs) -> None:
    """Puts all that is in one table into another, which is empty and has room."""
    mask = new_keys.shape[0] - 1
    for index in range(keys.shape[0]):
        if locations[index] != ABSENT:
            at = _find(new_keys, new_locations, keys[index], mask)
            new_keys[at], new_locations[at] = keys[index], locations[index]


@signed(_I64(fills(_U64), fills(_I64), reads(_U64), _I64))
def build(keys: Words, locations: Longs, ids: Words, first: int) -> int:
    """Puts `ids` [n] at locations first, first + 1 and so on, as a segment's ids are; returns how many were not there before."""
    mask, added = keys.shape[0] - 1, 0
    for index in range(ids.shape[0]):
        at = _find(keys, locations, ids[index], mask)
        added += locations[at] == ABSENT
        keys[at], locations[at] = ids[index], first + index
    return added
