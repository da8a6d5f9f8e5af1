"""What the recommendation graph does between its servables: arrays in, arrays out.

It is copied beside the spec and knows nothing of this package. Of 500 candidates none of it takes more than some microseconds.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUPS = {"content": slice(0, 64), "catalogue": slice(64, 92), "trend": slice(92, 100)}
"""Columns of the ranker's row that are explained together."""
REASONS = 2

Singles = NDArray[np.float32]
Longs = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]


def profile(*, features: NDArray[np.float64], status: NDArray[np.uint8]) -> Arrays:
    """A user's row for the models, zeros where nothing is known, and whether there is a history at all."""
    return {"features": np.nan_to_num(features).astype(np.float32), "known": status == 0}


def flatten(
    *, ids: NDArray[np.uint64], scores: Singles, category: Longs, count: NDArray[np.int32], as_of: Longs
) -> Arrays:
    """The hits of one query as candidates, one under the other: views of what the search gave."""
    found = int(count[0])
    return {
        "item": ids[0, :found], "score": scores[0, :found], "category": category[0, :found],
        "as_of": np.full(found, as_of[0]),
    }  # fmt: skip


def occlude(*, features: Singles, chosen: Longs) -> Arrays:
    """The chosen rows once for each group, without it (occlusion: Zeiler and Fergus, ECCV 2014)."""
    rows = np.repeat(features[chosen], len(GROUPS), axis=0)
    for at, columns in enumerate(GROUPS.values()):
        rows[at :: len(GROUPS), columns] = 0
    return {"features": rows}


def answer(*, chosen: Longs, item: NDArray[np.uint64], retrieval: Singles, score: Singles, occluded: Singles) -> Arrays:
    """The list as it is shown; of each item the groups without which its score would fall most, and by how much."""
    effects = score[chosen][:, None] - occluded.reshape(len(chosen), len(GROUPS))
    most = np.argsort(-effects, axis=1, kind="stable")[:, :REASONS]
    names = np.array([each.encode() for each in GROUPS], object)
    return {
        "item": item[chosen],
        "position": np.arange(1, len(chosen) + 1),
        "score": score[chosen],
        "retrieval": retrieval[chosen],
        "reasons": names[most],
        "effects": np.take_along_axis(effects, most, axis=1),
    }
