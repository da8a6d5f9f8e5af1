"""The arithmetic of tiles: dividing without dividing, and letting go of what falls out of a ring."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from engine.features.layout import reciprocal
from kernels.compiled import kernel
from kernels.fold import _kept, quotient

SECONDS_MAX = (1 << 32) - 2


@kernel()
def divided(number: int, by: int) -> int:
    second: Any = np.uint32(number)
    return quotient(second, by)


@kernel()
def kept(tiles: int, ahead: int, position: int) -> int:
    return _kept(tiles, ahead, position)


def test_every_second_of_132_years_is_divided_exactly_by_every_tile_length() -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    lengths = [1, 2, 3, 60, 3600, 86400, 90 * 86400, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
    lengths += [int(2 ** rng.uniform(0, 31)) for _ in range(300)]
    for length in lengths:
        bits = reciprocal(length)
        near = [length * rng.randrange(1 + SECONDS_MAX // length) + each for each in (-1, 0, 1) for _ in range(20)]
        for second in [0, 1, SECONDS_MAX, *near, *(rng.randrange(SECONDS_MAX) for _ in range(20))]:
            if 0 <= second <= SECONDS_MAX:
                assert divided(second, bits) == second // length, (seed, second, length)


def test_a_ring_that_moves_on_keeps_the_tiles_that_are_still_within_it() -> None:
    for tiles in (1, 2, 7, 24, 63, 64):
        for position in range(tiles):
            for ahead in range(1, tiles + 2):
                gone = {(position - each) % tiles for each in range(min(ahead, tiles))}
                stay = sum(1 << each for each in range(tiles) if each not in gone)
                assert kept(tiles, ahead, position) & ((1 << tiles) - 1) == stay, (tiles, position, ahead)
