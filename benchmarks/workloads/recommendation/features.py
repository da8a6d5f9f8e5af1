"""The columns that the models are told, as graph.yaml's nodes put them together: nothing of an event is known before it is over.

A user's row is `steps.user_row` of who it is and of sums over what was rated before the moment. An item's row is what the
catalogue says and what the period of training taught of it; an item that was not there then has zeros for the latter.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads.recommendation.application import HISTORY
from benchmarks.workloads.recommendation.catalogue import Interactions, Items, Longs, Singles, Users
from benchmarks.workloads.recommendation.movielens import GENRES, PROFILE
from benchmarks.workloads.recommendation.steps import EXPECTED_STARS, PRIOR, user_row

TASTE = 16
ITEM_COLUMNS = (*GENRES, "year", "price", "popularity", "rating", *(f"taste_{each}" for each in range(TASTE)))
USER_COLUMNS = (*PROFILE, "count", "mean", *(f"likes {each}" for each in GENRES))
AGE_SCALE = 50.0


@dataclass(frozen=True, slots=True)
class Ratings:
    """Events by user and time; `sums` [events + 1, 2 + genres] run over number, stars, and stars - 3 of each genre."""

    marks: Longs
    sums: NDArray[np.float64]

    def before(self, users: Longs, times_s: Longs) -> NDArray[np.float64]:
        """The sums of each user before its moment: [n, 2 + genres]."""
        firsts = np.searchsorted(self.marks, users << 32)
        found: NDArray[np.float64] = self.sums[np.searchsorted(self.marks, (users << 32) + times_s)] - self.sums[firsts]
        return found


def ratings_of(events: Interactions, items: Items) -> Ratings:
    """Over all events; who asks for a moment is told of those before."""
    own = events.take(np.lexsort([events.time_s, events.user]))
    likes = (own.rating - 3)[:, None] * items.genres[own.item]
    columns = np.column_stack([np.ones(len(own)), own.rating, likes]).astype(np.float64)
    sums = np.vstack([np.zeros((1, columns.shape[1])), columns.cumsum(axis=0)])
    return Ratings((own.user << 32) + own.time_s, sums)


def user_rows(users: Users, ratings: Ratings, who: Longs, times_s: Longs) -> Singles:
    """float32 [n, USER_COLUMNS]."""
    found: Singles = user_row(profile=scaled_profile(users)[who], ratings=ratings.before(who, times_s))["user"]
    return found


def scaled_profile(users: Users) -> Singles:
    """PROFILE as the models want it: the age in units of 50 years."""
    profile = users.profile.copy()
    profile[:, 0] /= AGE_SCALE
    return profile


def item_rows(items: Items, train: Interactions, *, seed: int) -> Singles:
    """float32 [items, ITEM_COLUMNS] by what was rated in `train`."""
    counts = np.bincount(train.item, minlength=len(items))
    stars = np.bincount(train.item, weights=train.rating - EXPECTED_STARS, minlength=len(items))
    return item_columns(items, counts, stars / (counts + PRIOR), tastes(train, len(items), seed=seed))


def item_columns(items: Items, counts: Longs, rating: NDArray[np.float64], taste: Singles) -> Singles:
    """float32 [items, ITEM_COLUMNS]. `counts`: ratings; `rating`: their mean less EXPECTED_STARS, shrunk."""
    known = items.year > 0
    learnt = np.column_stack(
        [
            np.where(known, (items.year - 90) / 10, 0),
            np.where(items.price > 0, np.log(np.maximum(items.price, 0.01) / 12) / 0.5, 0),
            np.log1p(counts) / 5,
            rating,
        ]
    )
    return np.hstack([items.genres, learnt, taste]).astype(np.float32)


def tastes(train: Interactions, items: int, *, seed: int) -> Singles:
    """[items, TASTE] of deviation 1: the main directions of who rated what, by a randomised singular value decomposition (Halko,
    Martinsson and Tropp, SIAM Review 2011) of the matrix of users and items, both scaled by the roots of their counts."""
    had = np.zeros((int(train.user.max()) + 1, items), np.float32)
    had[train.user, train.item] = 1
    roots = [np.sqrt(np.maximum(had.sum(axis=axis), 1)) for axis in (1, 0)]
    had /= roots[0][:, None] * roots[1]
    found = np.random.default_rng(seed).standard_normal((items, 2 * TASTE), np.float32)
    for _ in range(6):
        found = np.linalg.qr(had.T @ (had @ found))[0]
    left = np.linalg.svd(found.T @ (had.T @ (had @ found)))[0]
    known = np.bincount(train.item, minlength=items) > 0
    directions = np.where(known[:, None], (found @ left)[:, :TASTE], 0)
    scaled: Singles = (directions / np.maximum(directions.std(axis=0), 1e-9)).astype(np.float32)
    return scaled


def padded(history: Longs) -> Longs:
    """int64 [HISTORY] of a history, the latest first; 0 fills the rest."""
    row = np.zeros(HISTORY, np.int64)
    row[: len(history[:HISTORY])] = history[:HISTORY]
    return row
