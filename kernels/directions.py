"""Vectors brought to length 1, and whether their numbers are numbers. `reference_vectors` has the readable twins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from kernels.compiled import kernel
from kernels.signed import fills, reads, signed

Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_F32, _F64 = types.float32, types.float64
_SUMS = {"reassoc", "contract"}
_SAME = 1.2e-7
"""2^-23 and a little: how far the squared length of a vector that was brought to length 1 and rounded to float32 is from 1."""
_LEAST = float(np.finfo(np.float32).tiny) ** 2


@kernel(inline="always")
def _squared(vector: Singles) -> float:
    """Summed as the caller's `fastmath` lets it be."""
    total = 0.0
    for at in range(len(vector)):
        number = np.float64(vector[at])
        total += number * number
    return total


@signed(_F64(reads(_F32)), fastmath=_SUMS, quick=True)
def squared_length(vector: Singles) -> float:
    """Of one vector, as `squared_lengths`: a third of what numpy takes, which would warn of what is not finite."""
    return _squared(vector)


@signed(types.void(reads(_F32, 2), fills(_F64)), fastmath=_SUMS)
def squared_lengths(rows: Singles, squares: Doubles) -> None:
    """`rows` [n, d]; `squares` [n] of each row, summed in float64: finite where and only where all its numbers are."""
    for row in range(len(rows)):
        squares[row] = _squared(rows[row])


@signed(types.void(reads(_F32, 2), fills(_F32, 2), fills(_F64)), fastmath=_SUMS)
def normalise(rows: Singles, out: Singles, squares: Doubles) -> None:
    """`rows` [n, d] divided by their lengths into `out`, and `squares` [n] as `squared_lengths` has them. What has length 1 but
    for rounding stays as it is, so that doing it twice changes nothing; so does what is not finite, or too short to have a
    direction (less than the least normal float32)."""
    for row in range(len(rows)):
        total = _squared(rows[row])
        squares[row] = total
        scale = 1.0
        if _LEAST <= total < np.inf and abs(total - 1.0) > _SAME:
            scale = 1.0 / np.sqrt(total)
        for each in range(rows.shape[1]):
            out[row, each] = np.float32(np.float64(rows[row, each]) * scale)
