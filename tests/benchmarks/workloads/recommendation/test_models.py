"""Exported models beside the same in numpy, and the whole list beside each step of it; learning itself where torch is there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.workloads.recommendation import export
from benchmarks.workloads.recommendation.application import FEATURES, HISTORY, SLATE, USER, VECTOR
from benchmarks.workloads.recommendation.artifacts import Trained, make_artifacts, read_shelf, shelf_of
from benchmarks.workloads.recommendation.catalogue import Dataset
from benchmarks.workloads.recommendation.export import ParityError, Weights, check_parity
from benchmarks.workloads.recommendation.features import item_rows, ratings_of
from benchmarks.workloads.recommendation.judged import cases_of
from benchmarks.workloads.recommendation.offline import CATEGORY_CAP, Offline, offline_of, session
from benchmarks.workloads.recommendation.split import queries, split_by_time
from benchmarks.workloads.recommendation.summary import quality_table, read_summary
from tests.benchmarks.workloads.recommendation.built import ITEMS, small
from tests.benchmarks.workloads.recommendation.drawn import ranker, towers


def linear(weights: Weights, name: str, rows: np.ndarray) -> np.ndarray:
    product = rows @ weights[f"{name}.weight"].T
    return product + weights.get(f"{name}.bias", np.float32(0))


def test_the_user_tower_is_the_mean_of_the_history_beside_the_row() -> None:
    rng = np.random.default_rng(1)
    weights, users = towers(rng), rng.standard_normal((3, USER)).astype(np.float32)
    history = np.zeros((3, HISTORY), np.int64)
    history[0, :3], history[1, :2] = (4, 9, ITEMS), (7, ITEMS + 500)  # the last one is not known, nor is a third's past
    past = np.stack(
        [weights["past.weight"][[4, 9, ITEMS]].sum(axis=0) / 4, weights["past.weight"][7] / 2, np.zeros(VECTOR)]
    )
    hidden = np.maximum(linear(weights, "user_hidden", np.hstack([users, past])), 0)
    want = linear(weights, "past_direct", past) + linear(weights, "user_last", hidden)
    found = session(export.user_tower(weights))(user=users, history=history)
    assert np.abs(found - want).max() < 1e-5


def test_an_item_that_was_not_learnt_is_what_its_features_say() -> None:
    rng = np.random.default_rng(2)
    weights, features = towers(rng), rng.standard_normal((3, FEATURES)).astype(np.float32)
    deep = linear(weights, "item_last", np.maximum(linear(weights, "item_hidden", features), 0))
    want = deep + np.stack([weights["number.weight"][5], np.zeros(VECTOR), np.zeros(VECTOR)])
    found = session(export.item_tower(weights))(features=features, item=np.array([5, ITEMS + 1, -3]))
    assert np.abs(found - want).max() < 1e-5


def test_the_ranker_is_pairs_of_fields_under_a_top_network() -> None:
    rng = np.random.default_rng(3)
    weights, count = ranker(rng), 7
    user, vector = rng.standard_normal((1, USER)), rng.standard_normal((1, VECTOR))
    features, vectors = rng.standard_normal((count, FEATURES)), rng.standard_normal((count, VECTOR))
    item, category = np.array([1, 2, 3, 0, 9_999, 4, 5]), np.array([0, 1, 2, 3, 18, 4, 99])
    row = np.maximum(linear(weights, "user", user), 0).repeat(count, axis=0)
    of_features = np.maximum(linear(weights, "features", features), 0)
    fields = [row, linear(weights, "user_vector", vector).repeat(count, axis=0), of_features,
              linear(weights, "item_vector", vectors), weights["number.weight"][np.where(item > ITEMS, 0, item)],
              weights["category.weight"][np.where(category > 18, 0, category)]]  # fmt: skip
    pairs = [(one * other).sum(axis=1) for at, one in enumerate(fields) for other in fields[at + 1 :]]
    near = vectors @ vector[0]
    hidden = np.column_stack([*pairs, near, row, of_features])
    for name in ("top_0", "top_1"):
        hidden = np.maximum(linear(weights, name, hidden), 0)
    logit = (linear(weights, "top_2", hidden) + linear(weights, "near", near[:, None]))[:, 0]
    singles = {"user": user, "user_vector": vector, "items": np.hstack([features, vectors])}
    given = {name: each.astype(np.float32) for name, each in singles.items()}
    found = session(export.ranker(weights))(**given, item=item, category=category)
    assert np.abs(found - 1 / (1 + np.exp(-logit))).max() < 1e-5


def test_a_model_that_says_something_else_is_refused() -> None:
    ones = np.ones(3, np.float32)
    assert check_parity("ranker", ones, ones) == 0
    with pytest.raises(ParityError, match=r"'ranker' is up to 0\.5 from what was trained"):
        check_parity("ranker", ones, np.full(3, 0.5, np.float32))


def offline() -> Offline:
    data, rng = small(), np.random.default_rng(4)
    features = item_rows(data.items, split_by_time(data.interactions).train, seed=1)
    models = Trained(towers(rng), ranker(rng)).models()
    return offline_of(data, ratings_of(data.interactions, data.items), features, models)


def test_a_slate_keeps_to_filters_and_caps_and_begins_with_the_best() -> None:
    made = offline()
    split = split_by_time(made.dataset.interactions)
    for case in cases_of(made.dataset, queries(split.before_test, split.test))[:10]:
        slate = made.slate(case)
        assert np.isin(slate, case.candidates).all()
        assert np.bincount(made.dataset.items.category[slate]).max() <= CATEGORY_CAP
        assert len(np.unique(slate)) == len(slate) <= SLATE
        assert slate[0] == made.reranked(case)[0]
        assert set(made.reranked(case)) == set(case.candidates)


def test_a_shelf_says_where_an_item_is_sold() -> None:
    made = offline()
    items = made.dataset.items
    shelf = shelf_of(items, made.features, made.vectors)
    for region in range(items.regions.shape[1]):
        offered = np.flatnonzero(items.offered(region))
        assert np.array_equal(shelf.number[(shelf.stock > 0) & (shelf.regions >> region & 1 == 1)], offered)


def with_first_visits(data: Dataset) -> Dataset:
    """The same, but that the last two users come in the test period alone; before it others of the same taste were there."""
    known, last = data.interactions, len(data.users) - 3
    early = np.arange(len(known)) < len(known) - len(known) // 10
    user = np.where(early & (known.user > last), known.user - 2, known.user)
    return replace(data, interactions=replace(known, user=user))


def test_all_is_learnt_exported_and_judged(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data = with_first_visits(small())
    said: list[str] = []
    summary = make_artifacts(tmp_path, data, say=said.append)
    assert any(line.startswith("towers: epoch 1 of") for line in said)
    assert max(summary.parity.values()) <= export.PARITY_BOUND
    warm = summary.quality["with a history"]
    assert warm["two towers"].ndcg[20] > 1.2 * warm["popular ever"].ndcg[20]
    assert read_summary(tmp_path) == summary
    assert len(quality_table(summary).rows) == 12
    shelf, profile = read_shelf(tmp_path)
    assert shelf.vector.shape == (ITEMS, VECTOR)
    assert len(profile) == len(data.users)
