"""Stored vectors of points by their ids, copied straight into a buffer that a model reads.

A vector of a collection is a row: of 500 rows of 100 numbers among a million that is 500 places in memory, where columns would be
50,000 (0.1 ms instead of 1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.errors import FailedPrecondition, nearest, quoted
from engine.vectors.locations import ABSENT
from engine.vectors.places import parts_of
from engine.vectors.view import Longs, Singles, View
from kernels.gather import fill_rows, gather_rows


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Where a vector of a collection goes in a buffer: to its columns from `first` on, `defaults` (float32 [d]) where there is
    none."""

    vector: str
    defaults: Singles
    first: int


def gather_vectors(
    view: View, locations: Longs, blocks: Sequence[Block], buffer: Singles
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Row i of `buffer` (float32 [n, W]) gets the vectors of the point at `locations` [i], a block each, and the blocks' defaults
    where that is ABSENT; which are there. Locations are of the view, their parts by key.

    Raises FailedPrecondition where the view has no such vector: it was altered since somebody looked."""
    for each in blocks:
        if each.vector not in view.spec.vectors:
            raise FailedPrecondition(f"no vector {quoted(each.vector)}{nearest(each.vector, view.spec.vectors)}")
    for key, places, rows in parts_of(locations):
        living = view.part(key)
        for each in blocks:
            if living is None:
                fill_rows(places, each.defaults, buffer, each.first)
                continue
            dense = living.part.dense(each.vector)
            if dense.stored == "float32" and dense.data.flags.c_contiguous:
                gather_rows(dense.data, rows, places, buffer, each.first)
            else:
                buffer[places, each.first : each.first + dense.size] = dense.float32(rows)
    found: npt.NDArray[np.bool_] = locations != ABSENT
    return found
