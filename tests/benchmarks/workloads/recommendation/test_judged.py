"""Metrics by hand, baselines on data whose answer is known, features against brute force."""

import numpy as np
import pytest

from benchmarks.workloads.recommendation.application import FEATURES, HISTORY, USER
from benchmarks.workloads.recommendation.baselines import DAY_S, Popularity, item_neighbours
from benchmarks.workloads.recommendation.features import (
    ITEM_COLUMNS,
    USER_COLUMNS,
    item_rows,
    padded,
    ratings_of,
    tastes,
    user_rows,
)
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


def test_a_users_row_is_what_a_scan_of_all_earlier_events_finds() -> None:
    data = small()
    events = data.interactions
    users, times = events.user[::97], events.time_s[::97]
    rows = user_rows(data.users, ratings_of(events, data.items), users, times)
    assert rows.shape == (len(users), len(USER_COLUMNS)) == (len(users), USER)
    for user, moment, row in zip(users, times, rows, strict=True):
        own = events.take(np.flatnonzero((events.user == user) & (events.time_s < moment)))
        likes = ((own.rating - 3)[:, None] * data.items.genres[own.item]).sum(axis=0) / (len(own) + 5)
        past = [np.log1p(len(own)) / 5, (own.rating - 3.5).sum() / (len(own) + 5)]
        assert row == pytest.approx([data.users.profile[user, 0] / 50, *data.users.profile[user, 1:], *past, *likes])


def test_an_item_that_nobody_has_rated_is_known_by_the_catalogue_alone() -> None:
    data = small()
    events = data.interactions.take(np.flatnonzero(data.interactions.item != 7))
    rows = item_rows(data.items, events, seed=1)
    assert rows.shape == (ITEMS + 1, len(ITEM_COLUMNS)) == (ITEMS + 1, FEATURES)
    assert not rows[0].any()
    assert np.array_equal(rows[7, :18], data.items.genres[7])
    assert rows[7, 20:] == pytest.approx(np.zeros(18), abs=1e-6)
    assert rows[8, 20] > 0


def test_tastes_tell_items_apart_that_others_like() -> None:
    data = small()
    rows = tastes(data.interactions, ITEMS + 1, seed=1)[1:]
    odd = np.arange(1, ITEMS + 1) % 2 == 1
    assert max(abs(np.corrcoef(column, odd)[0, 1]) for column in rows.T) > 0.9


def test_a_history_is_cut_or_filled_with_none() -> None:
    assert padded(np.arange(1, 99)).tolist() == list(range(1, HISTORY + 1))
    assert padded(np.array([4, 2]))[:3].tolist() == [4, 2, 0]
