"""What searches of postings need beside them: room for the sums of one thread, and how much a rare term says."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from kernels.postings import new_sums

Longs = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

_ROWS_LEAST = 1 << 12
_OF_THREAD = threading.local()


def sums_room(rows: int) -> tuple[Singles, Longs]:
    """`sums` and `touched` of `kernels.postings` for at least so many rows, of the calling thread until its next call.

    A thread has one room, 12 bytes for each row of the largest segment it has searched: queries leave it as they found it, so
    it serves all segments.
    """
    found: tuple[Singles, Longs] | None = getattr(_OF_THREAD, "room", None)
    if found is None or len(found[0]) < rows:
        found = _OF_THREAD.room = new_sums(max(_ROWS_LEAST, 1 << (rows - 1).bit_length() if rows else 0))
    return found


def best_room(k: int, rows: int) -> tuple[Singles, Longs]:
    """Where a search puts the scores and the rows of its best."""
    size = min(k, rows)
    return np.empty(size, np.float32), np.empty(size, np.int64)


def inverse_frequency(rows: int, counts: Longs) -> Singles:
    """ln(1 + (rows - count + .5) / (count + .5)), float32 [q], never negative: of terms that `counts` of `rows` rows have."""
    bounded = np.minimum(counts, rows).astype(np.float64)
    return np.log1p((rows - bounded + 0.5) / (bounded + 0.5)).astype(np.float32)
