"""One tile: the count, sum, squares, extremes and first value of what happened in it, as `record` lays them out.

Variance by Youngs and Cramer's updating formulas (1971).
"""

from __future__ import annotations

import math

import numpy as np
from numba import uint32

from kernels.compiled import kernel
from kernels.memory import load_constant, load_f64, load_i64, load_u32, store_f64, store_i64, store_u32
from kernels.record import B_FIRST, B_M2, B_MAX, B_MIN, B_SUM, TILE_M2, TILE_MAX, TILE_MIN, TILE_SUM

ALWAYS_LATER = (1 << 63) - 1
"""The time of a first value where there is none."""


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
def whole_add(tile: int, fresh: bool, value: float) -> None:
    """As `tile_set` where fresh, else `tile_add`, of a tile that keeps sum, m2, min and max. Choices instead of branches: whether
    a tile is fresh is a coin toss."""
    count = uint32(1) if fresh else load_u32(tile) + uint32(1)
    total = (0.0 if fresh else load_f64(tile + TILE_SUM)) + value
    m2 = 0.0 if fresh else load_f64(tile + TILE_M2)
    least, most = load_f64(tile + TILE_MIN), load_f64(tile + TILE_MAX)
    store_u32(tile, count)
    store_f64(tile + TILE_SUM, total)
    if count > 1:
        apart = count * value - total
        m2 += apart * apart / (np.float64(count) * (np.float64(count) - 1.0))
    store_f64(tile + TILE_M2, m2)
    store_f64(tile + TILE_MIN, value if fresh else min(least, value))
    store_f64(tile + TILE_MAX, value if fresh else max(most, value))
