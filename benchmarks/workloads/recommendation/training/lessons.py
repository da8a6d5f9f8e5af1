"""What the models are shown: users at moments of the training period, what they had by then and what they met later."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.workloads.recommendation.application import HISTORY
from benchmarks.workloads.recommendation.catalogue import Dataset, Interactions, Longs, Singles
from benchmarks.workloads.recommendation.export import Weights
from benchmarks.workloads.recommendation.features import Ratings, ratings_of, user_rows


@dataclass(frozen=True, slots=True)
class Batch:
    """`users` [n, USER] and `history` [n, HISTORY] as of a moment before `item` [n] was met; `liked` [n]: whether it was."""

    users: Singles
    history: Longs
    item: Longs
    liked: Longs


@dataclass(frozen=True, slots=True)
class Lessons:
    """Events of the training period by user and time; `first`: where those of an event's user begin. `items` [n, FEATURES]."""

    dataset: Dataset
    events: Interactions
    first: Longs
    ratings: Ratings
    items: Singles
    categories: Longs
    counts: Longs

    def batch(self, rows: Longs, rng: np.random.Generator) -> Batch:
        """Events as what was met later, each seen from a moment drawn among the user's earlier ones: some have no history yet."""
        first, events = self.first[rows], self.events
        moment = first + (rng.random(len(rows)) * (rows - first + 1)).astype(np.int64)
        moment = np.searchsorted(self._marks, self._marks[moment])  # events of one second come together
        before = moment[:, None] - 1 - np.arange(HISTORY)
        history = np.where(before >= first[:, None], events.item[before], 0)
        users = user_rows(self.dataset.users, self.ratings, events.user[rows], events.time_s[moment])
        return Batch(users, history, events.item[rows], events.rating[rows].astype(np.int64))

    @property
    def _marks(self) -> Longs:
        return self.ratings.marks


def lessons_of(dataset: Dataset, train: Interactions, items: Singles) -> Lessons:
    """Of the training period alone; `items`: rows of it."""
    events = train.take(np.lexsort([train.time_s, train.user]))
    first = np.searchsorted(events.user, events.user)
    return Lessons(
        dataset,
        events,
        first,
        ratings_of(train, dataset.items),
        items,
        dataset.items.category,
        np.bincount(train.item, minlength=len(dataset.items)),
    )


@dataclass(slots=True)
class Best:
    """What did best so far."""

    judge: Callable[[Weights], float]
    weights: Weights | None = None
    quality: float = -1.0

    def offer(self, weights: Weights) -> float:
        """Keep it if it is the best; how good it is."""
        quality = self.judge(weights)
        if quality > self.quality:
            self.weights, self.quality = weights, quality
        return quality
