"""What is learnt from and what is judged by, divided by time: nothing that came later is known to what came before.

A query is one user at one moment. Of a user who comes in a period, what was done there is halved: the earlier half is known when
the list is asked for, as it is to a service that follows the stream, and the later half is what the list ought to have found.
Models learn from what came before the period alone. A cold query asks at the user's first event ever, with no history at all.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.workloads.recommendation.catalogue import Interactions, Longs, joined

TRAIN_SHARE, VALIDATION_SHARE = 0.8, 0.1
LIKED = 4.0
"""The least rating of what counts as found."""


@dataclass(frozen=True, slots=True)
class Split:
    """Three periods, one after the other: `train` < `validation_s` <= `validation` < `test_s` <= `test`."""

    train: Interactions
    validation: Interactions
    test: Interactions

    @property
    def before_test(self) -> Interactions:
        """The first two."""
        return joined(self.train, self.validation)

    @property
    def validation_s(self) -> int:
        """When the first period is over."""
        return int(self.validation.time_s[0])

    @property
    def test_s(self) -> int:
        """When the second is."""
        return int(self.test.time_s[0])


@dataclass(frozen=True, slots=True)
class Query:
    """`history`: items before `time_s`, the latest first, each once. `targets`: those liked from then on, within the period."""

    user: int
    time_s: int
    history: Longs
    targets: Longs


def split_by_time(events: Interactions) -> Split:
    """By shares of the events; events of one second are never divided."""
    bounds = [int(len(events) * share) for share in (TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE)]
    first, second = (int(np.searchsorted(events.time_s, events.time_s[bound])) for bound in bounds)
    return Split(
        events.take(slice(0, first)), events.take(slice(first, second)), events.take(slice(second, len(events)))
    )


def queries(before: Interactions, period: Interactions) -> list[Query]:
    """One for each user of `period` who liked something new in the later half of what was done there."""
    found = []
    for user in np.unique(period.user):
        own = period.take(np.flatnonzero(period.user == user))
        moment = int(own.time_s[len(own) // 2])
        earlier = before.take(np.flatnonzero(before.user == user))
        found.append(_query(user, moment, joined(earlier, own)))
    return [each for each in found if len(each.targets)]


def cold_queries(before: Interactions, period: Interactions) -> list[Query]:
    """One for each user of `period` who was never there before; everything liked is to be found."""
    new = np.setdiff1d(period.user, before.user)
    own = [period.take(np.flatnonzero(period.user == user)) for user in new]
    found = [_query(user, int(each.time_s[0]), each) for user, each in zip(new, own, strict=True)]
    return [each for each in found if len(each.targets)]


def _query(user: int, moment: int, own: Interactions) -> Query:
    known, later = own.time_s < moment, own.time_s >= moment
    history = latest_first(own.item[known])
    liked = np.unique(own.item[later & (own.rating >= LIKED)])
    return Query(int(user), moment, history, np.setdiff1d(liked, history))


def latest_first(items: Longs) -> Longs:
    """The same, the last one first, and none twice."""
    turned = items[::-1]
    firsts = np.unique(turned, return_index=True)[1]
    return turned[np.sort(firsts)]
