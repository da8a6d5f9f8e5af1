"""Rows of features for many keys, put beside one another straight into the buffer that a model reads.

The buffer, float32 [n, W], is filled block by block: a call writes columns `first` to `first` + d of the rows that it is about
and touches nothing else. `reference` has the readable twins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from kernels.instructions import borrowed, copy_row, prefetch_row
from kernels.lookup import MISSING, scratch_words, settled
from kernels.memory import load_i64
from kernels.record import NONE
from kernels.signed import fills, reads, signed

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Halves = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

NEVER_US = -1
"""The newest event of a row that none of the states asked so far has."""

_AHEAD = 16
"""Rows that are on their way while one is copied: those of a large table are in no cache."""

_I64, _U64, _U32, _U8, _F32 = types.int64, types.uint64, types.uint32, types.uint8, types.float32


@signed(types.void(reads(_F32, 2), reads(_I64), reads(_I64), fills(_F32, 2), _I64), quick=True)
def gather_rows(table: Singles, rows: Longs, places: Longs, buffer: Singles, first: int) -> None:
    """Copies rows `rows` [m] of `table` [t, d] to rows `places` [m] of the buffer."""
    table, rows, places, filled = borrowed(table), borrowed(rows), borrowed(places), borrowed(buffer)
    count = rows.shape[0]
    for index in range(min(_AHEAD, count)):
        prefetch_row(table, rows[index])
    for index in range(count):
        if index + _AHEAD < count:
            prefetch_row(table, rows[index + _AHEAD])
        copy_row(table, rows[index], filled, places[index], first)
    buffer[:0, 0] = 0


@signed(types.void(reads(_I64), reads(_F32), fills(_F32, 2), _I64), quick=True)
def fill_rows(places: Longs, values: Singles, buffer: Singles, first: int) -> None:
    """Writes `values` [d] to each of rows `places` [m] of the buffer."""
    for index in range(places.shape[0]):
        for column in range(values.shape[0]):
            buffer[places[index], first + column] = values[column]


@signed(
    _I64(
        _I64, _I64, _I64, reads(_U64), reads(_U32), reads(_I64), _I64, _I64, _I64, reads(_F32), fills(_F32, 2), _I64, fills(_I64),
        fills(_U8),
    )
)  # fmt: skip
def gather_features(
    plan: int,
    memory: int,
    reads_at: int,
    keys: Words,
    checks: Halves,
    as_of_us: Longs,
    least_us: int,
    generation: int,
    begin: int,
    defaults: Singles,
    buffer: Singles,
    first: int,
    newest_us: Longs,
    status: Bytes,
) -> int:
    """As `lookup.lookup` of entities `begin` to n, but into the buffer, `defaults` [d] where a feature is null.

    A row is written where this state has a newer event of the entity than `newest_us` [n] says, which is then that; also, with
    defaults alone, where neither has any. `status` [n] says what the row is. Returns where to go on once the index has been
    replaced, n where all is done.
    """
    width = defaults.shape[0]
    room, found_row = np.empty(scratch_words(reads_at), np.int64), np.empty(max(1, width), np.float64)
    scratch, row = room.ctypes.data, found_row.ctypes.data
    done = keys.shape[0]
    for number in range(begin, keys.shape[0]):
        asked = as_of_us[number if as_of_us.shape[0] > 1 else 0]
        found = settled(plan, memory, reads_at, keys[number], checks[number], asked, least_us, generation, scratch, row)
        if found == NONE:
            done = number
            break
        newest = NEVER_US if found == MISSING else load_i64(scratch)
        if newest > newest_us[number] or (found == MISSING and newest_us[number] == NEVER_US):
            newest_us[number], status[number] = newest, found
            for column in range(width):
                value = found_row[column]
                buffer[number, first + column] = np.float32(value) if value == value else defaults[column]
    room[0], found_row[0] = 0, 0.0  # numba lets go of an array after its last use, whoever has its address
    return done
