"""What the recommendation graph does between its servables: arrays in, arrays out.

It is copied beside the spec and knows nothing of this package. Of 500 candidates none of it takes more than some microseconds.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUPS = {
    "genres": slice(0, 18), "year": slice(18, 19), "price": slice(19, 20), "popularity": slice(20, 21),
    "rating": slice(21, 22), "taste": slice(22, 102),
}  # fmt: skip
"""Columns of the ranker's `items` that are explained together; in each zero says nothing."""

REASONS = 2
NAMES = np.array([each.encode() for each in GROUPS], object)
EXPECTED_STARS, PRIOR = 3.5, 5.0

Singles = NDArray[np.float32]
Longs = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]


def user_row(*, profile: Singles, ratings: NDArray[np.float64]) -> Arrays:
    """A user as the models see one: who it is, and what was rated so far; zeros for what is not known.

    `ratings`: how many, the sum of their stars, and of each genre the sum of stars - 3.
    """
    known = np.where(ratings == ratings, ratings, 0)  # NaN differs from itself
    count, stars = known[:, 0], known[:, 1]
    past = np.concatenate(
        [
            (np.log1p(count) / 5)[:, None],
            ((stars - EXPECTED_STARS * count) / (count + PRIOR))[:, None],
            known[:, 2:] / (count + PRIOR)[:, None],
        ],
        axis=1,
    )
    return {"user": np.concatenate([profile, past.astype(np.float32)], axis=1)}


def flatten(*, ids: NDArray[np.uint64], scores: Singles, category: Longs, count: NDArray[np.int32]) -> Arrays:
    """The hits of one query as candidates, one under the other: views of what the search gave."""
    found = int(count[0])
    keys = ids[0, :found]
    return {"key": keys, "item": keys.view(np.int64), "score": scores[0, :found], "category": category[0, :found]}


def occlude(*, items: Singles, item: Longs, category: Longs, chosen: Longs) -> Arrays:
    """The chosen candidates once for each group, without it (occlusion: Zeiler and Fergus, ECCV 2014)."""
    rows = np.repeat(items[chosen], len(GROUPS), axis=0)
    for at, columns in enumerate(GROUPS.values()):
        rows[at :: len(GROUPS), columns] = 0
    repeated = np.repeat(chosen, len(GROUPS))
    return {"items": rows, "item": item[repeated], "category": category[repeated]}


def answer(*, chosen: Longs, item: Longs, retrieval: Singles, score: Singles, occluded: Singles) -> Arrays:
    """The list as it is shown; of each item the groups without which its score would fall most, and by how much."""
    effects = score[chosen][:, None] - occluded.reshape(len(chosen), len(GROUPS))
    most = np.argsort(-effects, axis=1, kind="stable")[:, :REASONS]
    return {
        "item": item[chosen],
        "position": np.arange(1, len(chosen) + 1),
        "score": score[chosen],
        "retrieval": retrieval[chosen],
        "reasons": NAMES[most],
        "effects": effects[np.arange(len(chosen))[:, None], most],
    }


def nothing(*, count: NDArray[np.int32]) -> Arrays:
    """A list of no items: what is shown where `count`, the candidates, is 0."""
    none, pairs = np.empty(0, np.float32), np.empty((0, REASONS), np.float32)
    return {
        "item": np.empty(0, np.int64), "score": none, "retrieval": none, "reasons": pairs.astype(object), "effects": pairs
    }  # fmt: skip
