"""How the scan is laid out on a GPU: sizes of tiles, what stays on a multiprocessor, how far rows are loaded ahead. Pure."""

from __future__ import annotations

from dataclasses import dataclass

SHARED_BYTES = 227 << 10
"""What programs of a multiprocessor share, of Hopper; where there is less (99 KiB of Ada's) queries may be read for each tile."""
_STEPS_BYTES = (32, 64, 128, 256)
"""Of a row multiplied at once, as many as possible without multiplying much more than there is."""
_PADDED_MAX = 1.15
BLOCKS = (16, 32, 64)
"""How many queries a program may have."""
_REST_BYTES = 3 << 10
_TILE_BYTES = 48 << 10
_AHEAD_MAX = 4
_PROGRAMS_MAX = 3


@dataclass(frozen=True, slots=True)
class Tuning:
    """Rows of a tile, numbers (or bytes of bits) multiplied at once, Triton's warps, stages of the pipeline in which rows are
    loaded, programs a multiprocessor; whether the block of queries stays there, so that tiles are loaded while others are
    multiplied."""

    rows: int = 128
    step: int = 64
    warps: int = 4
    stages: int = 3
    programs: int = 2
    held: bool = False


def block_of(queries: int) -> int:
    """How many queries a program has."""
    return next((each for each in BLOCKS if queries <= each), BLOCKS[-1])


def padded_of(queries: int) -> int:
    """How many queries whole programs have."""
    block = block_of(queries)
    return -(-queries // block) * block


def laid_out(row_bytes: int, number_bytes: int, signs: bool, block: int, shared_bytes: int = SHARED_BYTES) -> Tuning:
    """For rows of `row_bytes`, of numbers of `number_bytes`; `signs`: of bits, against which 8 numbers a byte stand."""
    step = max(
        each for each in _STEPS_BYTES if _padded(row_bytes, each) <= _PADDED_MAX * _padded(row_bytes, _STEPS_BYTES[0])
    )
    padded = _padded(row_bytes, step)
    held = block * padded * (8 if signs else 1)
    rows = 64
    while not signs and rows < 256 and 2 * rows * padded <= _TILE_BYTES // (2 if block == BLOCKS[-1] else 1):
        rows *= 2
    left = shared_bytes - held - _REST_BYTES
    stages = min(_AHEAD_MAX, left // (rows * padded))
    if stages < 2:
        small = shared_bytes < SHARED_BYTES
        return Tuning(
            64 if small or signs else 128, 32 if small else min(step // number_bytes, 64), 4, 2 if small else 3, 2
        )
    programs = (
        1  # one that loads far ahead reads as fast as memory goes; of many queries more, as they look at products
    )
    while (
        block > BLOCKS[0]
        and programs < _PROGRAMS_MAX
        and (programs + 1) * (held + 2 * rows * padded + _REST_BYTES) <= shared_bytes
    ):
        programs += 1
    if programs > 1:
        stages = min(_AHEAD_MAX, (shared_bytes // programs - held - _REST_BYTES) // (rows * padded))
    return Tuning(rows, step // number_bytes, 8 if rows > 64 else 4, stages, programs, held=True)


def _padded(row_bytes: int, step: int) -> int:
    return -(-row_bytes // step) * step
