"""Where a row is, as one number: a part << SHIFT | the row within it. In a location the part is its key, in a place its
position in a view. And which rows a bitset has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from kernels.ranking import PART_SHIFT, rows_of_one_part

Bits = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

SHIFT: Final = PART_SHIFT
ROW_MASK: Final = (1 << SHIFT) - 1


def parts_of(places: Longs) -> Iterator[tuple[int, Longs, Longs]]:
    """Of each part among some places, ascending: the part, where in `places` it is, and its rows."""
    rows = np.empty(len(places), np.int64)
    if len(places) and rows_of_one_part(places, rows):  # mostly; finding out which there are takes longer
        yield places.item(0) >> SHIFT, np.arange(len(places)), rows
        return
    parts = places >> SHIFT
    for part in np.unique(parts).tolist():
        here = np.flatnonzero(parts == part)
        yield part, here, places[here] & ROW_MASK


def rows_of(bits: Bits | None, rows: int) -> Longs:
    """The rows, ascending, of a bitset of so many; None is all of them."""
    if bits is None:
        return np.arange(rows, dtype=np.int64)
    return np.flatnonzero(np.unpackbits(bits, count=rows, bitorder="little"))


def among(bits: Bits, rows: Longs) -> npt.NDArray[np.bool_]:
    """Which of some rows a bitset has."""
    found: npt.NDArray[np.bool_] = ((bits[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1).astype(bool)
    return found
