"""Metrics by hand, baselines on data whose answer is known, features against brute force."""

import numpy as np
import pytest

from benchmarks.workloads.recommendation.baselines import Popularity, item_neighbours
from benchmarks.workloads.recommendation.features import (
    ACTIVITY,
    DAY_S,
    HISTORY,
    HOUR_S,
    USER_COLUMNS,
    features_of,
    padded,
    scale_of,
)  # fmt: skip
from benchmarks.workloads.recommendation.judged import cases_of, quality_of, top
from benchmarks.workloads.recommendation.metrics import ndcg_at, recall_at
from benchmarks.workloads.recommendation.split import queries, split_by_time
from tests.benchmarks.workloads.recommendation.built import ITEMS, small


def test_recall_and_ndcg_by_hand() -> None:
    ranked, targets = np.array([5, 3, 9, 1]), np.array([3, 1, 7])
    assert recall_at(2, ranked, targets) == 1 / 2
    assert recall_at(4, ranked, targets) == 2 / 3
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    assert ndcg_at(4, ranked, targets) == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / ideal)
    assert ndcg_at(3, np.array([7, 1, 3, 2]), targets) == 1
    assert ndcg_at(10, np.array([7]), targets) == pytest.approx(1 / ideal)


def test_of_equal_scores_the_lower_number_comes_first() -> None:
    scores = np.array([9, 1, 2, 2, 3, 2], np.float32)
    assert top(scores, np.array([1, 2, 3, 5]), 3).tolist() == [2, 3, 5]


def test_candidates_are_offered_where_the_user_is_and_new_to_them() -> None:
    data = small()
    split = split_by_time(data.interactions)
    for case in cases_of(data, queries(split.before_test, split.test)):
        region = data.users.region[case.query.user]
        assert data.items.in_stock[case.candidates].all()
        assert data.items.regions[case.candidates, region].all()
        assert not np.isin(case.candidates, [0, *case.query.history]).any()
        assert np.isin(case.targets, case.candidates).all()


def test_what_goes_together_beats_what_is_popular_where_tastes_differ() -> None:
    data = small()
    split = split_by_time(data.interactions)
    cases = cases_of(data, queries(split.before_test, split.test))
    popular = quality_of(Popularity(data.interactions, ITEMS + 1).scores, cases)
    alike = quality_of(item_neighbours(split.before_test, ITEMS + 1, nearest=20, damping=1).scores, cases)
    assert alike.ndcg[10] > 1.3 * popular.ndcg[10]
    assert alike.queries == len(cases)


def test_popularity_counts_no_event_of_the_moment_or_before_its_window() -> None:
    events = small().interactions
    (query, *_) = queries(events.take(slice(0, 2_000)), events.take(slice(2_000, 2_400)))
    within = (events.time_s < query.time_s) & (events.time_s >= query.time_s - DAY_S)
    counts = np.bincount(events.item[within], minlength=ITEMS + 1)
    assert np.array_equal(Popularity(events, ITEMS + 1, days=1).scores(query), counts)


def test_activity_is_what_a_scan_of_all_earlier_events_finds() -> None:
    data = small()
    events = data.interactions
    made = features_of(data.users, data.items, events)
    users, times = events.user[::97], events.time_s[::97]
    rows = made.user_rows(users, times)
    assert rows.shape == (len(users), len(USER_COLUMNS))
    for user, moment, row in zip(users, times, rows, strict=True):
        own = events.take(np.flatnonzero((events.user == user) & (events.time_s < moment)))
        since = {name: own.time_s >= moment - window for name, window in (("1h", HOUR_S), ("1d", DAY_S))}
        want = [since["1h"].sum(), since["1d"].sum(), len(own), len(own), *[own.rating.mean() if len(own) else 0] * 2]
        assert row[-len(ACTIVITY) :] == pytest.approx(want, rel=1e-6)
        assert np.array_equal(row[: -len(ACTIVITY)], data.users.profile[user])


def test_a_history_is_cut_or_filled_with_none() -> None:
    assert padded(np.arange(1, 99)).tolist() == list(range(1, HISTORY + 1))
    assert padded(np.array([4, 2]))[:3].tolist() == [4, 2, 0]


def test_a_column_that_never_varies_is_not_divided_by_nothing() -> None:
    scale = scale_of(np.array([[1, 7], [3, 7]], np.float32))
    assert scale.deviation[1] == 1
    assert scale.deviation[0] == pytest.approx(np.log1p([1, 3]).std())
