"""What a recommender has to beat: what is popular, and what goes with what one has had."""

from dataclasses import dataclass

import numpy as np

from benchmarks.workloads.recommendation.catalogue import Interactions, Singles
from benchmarks.workloads.recommendation.split import Query

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Popularity:
    """Counts of the last `days` before the moment of a query, whoever it asks for; None: of all time."""

    events: Interactions
    items: int
    days: float | None = None

    def scores(self, query: Query) -> Singles:
        """Of every item: float32 [items]."""
        end = int(np.searchsorted(self.events.time_s, query.time_s))
        since = 0 if self.days is None else np.searchsorted(self.events.time_s, query.time_s - self.days * DAY_S)
        return np.bincount(self.events.item[int(since) : end], minlength=self.items).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ItemNeighbours:
    """Item-based nearest neighbours (Sarwar et al., WWW 2001): the cosine of the sets of users who had the items, damped.

    `similar` float32 [items, items], each row with its nearest alone.
    """

    similar: Singles

    def scores(self, query: Query) -> Singles:
        """The likenesses of every item with those of the history, summed: float32 [items]."""
        found: Singles = self.similar[query.history].sum(axis=0)
        return found


def item_neighbours(events: Interactions, items: int, *, nearest: int, damping: float) -> ItemNeighbours:
    """`damping`: added to what the common count is divided by; above 0."""
    had = np.zeros((int(events.user.max()) + 1, items), np.float32)
    had[events.user, events.item] = 1
    common, counts = had.T @ had, had.sum(axis=0)
    np.fill_diagonal(common, 0)
    similar = common / (np.sqrt(np.outer(counts, counts)) + damping)
    if nearest < items:
        least = np.partition(similar, -nearest, axis=1)[:, -nearest, None]
        similar = np.where(similar >= least, similar, 0)
    return ItemNeighbours(similar.astype(np.float32))
