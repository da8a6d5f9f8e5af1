"""Stored vectors of points by their ids, copied straight into a buffer that a model reads.

A vector of a collection is a row: of 500 rows of 100 numbers among a million that is 500 places in memory, where columns would be
50,000 (0.1 ms instead of 1.1).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.errors import FailedPrecondition, nearest, quoted
from engine.vectors.locations import ABSENT
from engine.vectors.places import parts_of
from engine.vectors.view import Longs, Singles, View
from kernels.gather import fill_rows, gather_rows


def gather_vectors(
    view: View, locations: Longs, vector: str, defaults: Singles, buffer: Singles, first: int
) -> npt.NDArray[np.bool_]:
    """Row i of `buffer` (float32 [n, W]) gets in columns `first` and on the vector (float32 [d]) of the point at `locations`
    [i], and `defaults` where that is ABSENT; which are there. Locations are of the view, their parts by key.

    Raises FailedPrecondition where the view has no such vector: it was altered since somebody looked."""
    if vector not in view.spec.vectors:
        raise FailedPrecondition(f"no vector {quoted(vector)}{nearest(vector, view.spec.vectors)}")
    for key, places, rows in parts_of(locations):
        living = view.part(key)
        if living is None:
            fill_rows(places, defaults, buffer, first)
            continue
        dense = living.part.dense(vector)
        if dense.stored == "float32" and dense.data.flags.c_contiguous:
            gather_rows(dense.data, rows, places, buffer, first)
        else:
            buffer[places, first : first + dense.size] = dense.float32(rows)
    found: npt.NDArray[np.bool_] = locations != ABSENT
    return found
