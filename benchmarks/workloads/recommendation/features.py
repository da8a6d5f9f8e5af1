"""The columns that the models are told, as they were at a moment: nothing of an event is known before it is over.

Raw values, float32, none below 0; what is missing is 0. Logarithms and scales belong to the models (`Scale`), so that who serves
them hands over what views and collections hold.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.workloads.recommendation.catalogue import Interactions, Items, Longs, Singles, Users
from benchmarks.workloads.recommendation.movielens import GENRES, PROFILE

HOUR_S, DAY_S = 3_600, 86_400
COUNTED_S = {"count_1h": HOUR_S, "count_1d": DAY_S, "count_30d": 30 * DAY_S, "count": None}
RATED_S = {"rating_30d": 30 * DAY_S, "rating": None}
ACTIVITY = (*COUNTED_S, *RATED_S)
"""Of a user as of an item: how many events in the window, None being all time; the mean rating of them."""

FACTS = (*GENRES, "price", "year")
USER_COLUMNS = (*PROFILE, *ACTIVITY)
HISTORY = 50
"""How many items of a history the user tower is told of, the latest first; 0 fills the rest."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Events by key and time, with running sums; `marks` ascending: key << 32 | seconds."""

    marks: Longs
    ratings: Singles

    def rows(self, keys: Longs, times_s: Longs) -> Singles:
        """ACTIVITY of each key before its moment: float32 [n, ACTIVITY]."""
        keys, ends = keys << 32, np.searchsorted(self.marks, (keys << 32) + times_s)
        found = np.zeros((len(keys), len(ACTIVITY)), np.float32)
        for at, name in enumerate(ACTIVITY):
            window_s = (COUNTED_S | RATED_S)[name]
            since = keys if window_s is None else keys + np.maximum(times_s - window_s, 0)
            starts = np.searchsorted(self.marks, since)
            count = ends - starts
            total = self.ratings[ends] - self.ratings[starts]
            found[:, at] = count if name in COUNTED_S else total / np.maximum(count, 1)
        return found


def activity_of(keys: Longs, events: Interactions) -> Activity:
    """`keys`: the user or the item of each event."""
    order = np.lexsort([events.time_s, keys])
    ratings = np.concatenate([[0.0], np.cumsum(events.rating[order], dtype=np.float64)])
    return Activity((keys[order] << 32) + events.time_s[order], ratings)


@dataclass(frozen=True, slots=True)
class Features:
    """What is known of users and items at any moment."""

    users: Users
    items: Items
    of_users: Activity
    of_items: Activity

    def user_rows(self, users: Longs, times_s: Longs) -> Singles:
        """float32 [n, USER_COLUMNS]."""
        return np.hstack([self.users.profile[users], self.of_users.rows(users, times_s)])

    def item_activity(self, items: Longs, time_s: int) -> Singles:
        """float32 [n, ACTIVITY] of items at one moment."""
        return self.of_items.rows(items, np.full(len(items), time_s, np.int64))


def features_of(users: Users, items: Items, events: Interactions) -> Features:
    """Over all events: a row takes those before its own moment alone."""
    return Features(users, items, activity_of(events.user, events), activity_of(events.item, events))


def padded(history: Longs) -> Longs:
    """int64 [HISTORY] of a history, the latest first."""
    row = np.zeros(HISTORY, np.int64)
    row[: len(history[:HISTORY])] = history[:HISTORY]
    return row


@dataclass(frozen=True, slots=True)
class Scale:
    """(log(1 + x) - mean) / deviation, by column."""

    mean: Singles
    deviation: Singles


def scale_of(rows: Singles) -> Scale:
    """Learnt from rows of the past; a column that never varies is left at its distance from the mean."""
    logs = np.log1p(rows)
    deviation = logs.std(axis=0)
    return Scale(logs.mean(axis=0), np.where(deviation > 1e-3, deviation, 1).astype(np.float32))
