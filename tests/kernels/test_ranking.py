"""The best are those of a sort, of equals the lower place; fusions and diversity are their formulas."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import ranking
from kernels.reference_vectors import best, bitset_of, diverse, diverse_within, fused_ranks, fused_scores

SIZES = [0, 1, 7, 8, 9, 63, 64, 65, 1000]
COUNTS = [0, 1, 2, 10, 64, 2000]
NO_BITS = np.empty(0, np.uint8)


def coarse(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Scores of which many are equal."""
    return (rng.integers(-4, 5, size) / 4).astype(np.float32)


@pytest.mark.parametrize("k", COUNTS)
@pytest.mark.parametrize("size", SIZES)
def test_the_best_are_those_of_a_sort_and_equals_go_by_place(size: int, k: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(5):
        scores, places = coarse(rng, size), rng.permutation(3 * size)[:size] - size // 4
        scores[rng.random(size) < 0.05] = np.nan
        scores.flags.writeable = places.flags.writeable = False
        pairs = zip(scores.tolist(), places.tolist(), strict=True)
        wanted = best([each for each in pairs if each[1] >= 0 and each[0] == each[0]], k)
        best_scores, best_places = np.empty(k, np.float32), np.empty(k, np.int64)
        found = ranking.top_k(scores, places, best_scores, best_places)
        assert list(zip(best_scores[:found].tolist(), best_places[:found].tolist(), strict=True)) == wanted


@pytest.mark.parametrize("k", COUNTS)
@pytest.mark.parametrize("size", SIZES)
def test_parts_merge_to_the_best_of_all_without_the_dead(size: int, k: int) -> None:
    rng = np.random.default_rng(size + k)
    best_scores, best_locations, held = np.empty(k, np.float32), np.empty(k, np.int64), 0
    everything: list[tuple[float, int]] = []
    for part in (3, 0, 7):
        scores, rows = coarse(rng, size), rng.permutation(size)
        rows[rng.random(size) < 0.1] = -1
        living = set(np.flatnonzero(rng.random(size) < 0.7).tolist()) if part else set(range(size))
        alive = bitset_of(living, size) if part else NO_BITS
        held = ranking.offer_part(scores, rows, part, alive, best_scores, best_locations, held)
        pairs = zip(scores.tolist(), rows.tolist(), strict=True)
        everything += [(score, (part << 32) | row) for score, row in pairs if row in living]
    ranking.settle(best_scores, best_locations, held)
    merged = list(zip(best_scores[:held].tolist(), best_locations[:held].tolist(), strict=True))
    assert merged == best(everything, k)


def test_ids_are_those_of_the_places_whatever_part_they_are_of() -> None:
    rng = np.random.default_rng(2)
    parts = [rng.integers(0, 2**63, rows, np.uint64) << np.uint64(1) for rows in (5, 1, 70)]
    places = np.array([(at << 32) | row for at, ids in enumerate(parts) for row in range(len(ids))], np.int64)
    rng.shuffle(places)
    ids = np.empty(len(places), np.uint64)
    ranking.ids_of(places, np.array([each.ctypes.data for each in parts], np.int64), ids)
    assert ids.tolist() == [int(parts[place >> 32][place & 0xFFFFFFFF]) for place in places.tolist()]


def test_places_of_one_part_are_told_from_those_of_several() -> None:
    rows, room = np.array([7, 0, 2**32 - 1, 7], np.int64), np.empty(4, np.int64)
    for part in (0, 5, -1):
        assert ranking.rows_of_one_part((part << 32) | rows, room)
        assert room.tolist() == rows.tolist()
        for at in range(1, 4):
            places = (part << 32) | rows
            places[at] ^= 1 << 32
            assert not ranking.rows_of_one_part(places, room)
    assert ranking.rows_of_one_part(rows[:0], room[:0])


def legs_of(rng: np.random.Generator, size: int) -> tuple[list[list[int]], list[float]]:
    """Three legs of different keys, of which some are in several, one leg empty; and weights."""
    legs = [(rng.permutation(2 * size)[: rng.integers(0, size + 1)] - size // 2).tolist() for _ in range(3)]
    return [*legs, []], rng.uniform(0, 2, 4).tolist()


def starts_of(legs: list[list[int]]) -> NDArray[np.int64]:
    """Where each leg begins, and the end."""
    return np.concatenate([[0], np.cumsum([len(leg) for leg in legs])]).astype(np.int64)


def agree(found: int, scores: NDArray[np.float64], keys: NDArray[np.int64], every: dict[int, float]) -> None:
    """The best are the twin's, but for what double precision cannot tell apart."""
    wanted = best([(score, key) for key, score in every.items()], len(keys))
    assert found == len(wanted) == len(set(keys[:found].tolist()))
    assert np.allclose(scores[:found], [score for score, _ in wanted], rtol=1e-12, atol=1e-12)
    assert np.allclose(scores[:found], [every[key] for key in keys[:found].tolist()], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", COUNTS)
@pytest.mark.parametrize("size", SIZES)
def test_fusion_by_rank_and_by_score_is_the_formula(size: int, k: int) -> None:
    rng = np.random.default_rng(size + k)
    legs, weights = legs_of(rng, size)
    keys = np.array([key for leg in legs for key in leg], np.int64)
    scores, keys_found = np.empty(k, np.float64), np.empty(k, np.int64)
    found = ranking.fuse_ranks(keys, starts_of(legs), np.array(weights), 10.0, scores, keys_found)
    agree(found, scores, keys_found, fused_ranks(legs, weights, 10.0))
    values = coarse(rng, len(keys))
    pairs = iter(zip(keys.tolist(), values.tolist(), strict=True))
    scored = [[next(pairs) for _ in leg] for leg in legs]
    found = ranking.fuse_scores(keys, values, starts_of(legs), np.array(weights), scores, keys_found)
    agree(found, scores, keys_found, fused_scores(scored, weights))


def test_a_key_that_a_leg_names_twice_counts_by_its_better_rank() -> None:
    keys, starts = np.array([5, 6, 5], np.int64), np.array([0, 3], np.int64)
    scores, found = np.empty(3, np.float64), np.empty(3, np.int64)
    assert ranking.fuse_ranks(keys, starts, np.ones(1), 0.0, scores, found) == 2
    assert (found[:2].tolist(), scores[:2].tolist()) == ([5, 6], [1.0, 0.5])


def test_a_leg_of_equal_scores_counts_in_full() -> None:
    keys, starts = np.array([5, 6], np.int64), np.array([0, 2], np.int64)
    scores, found = np.empty(2, np.float64), np.empty(2, np.int64)
    assert ranking.fuse_scores(keys, np.full(2, 0.3, np.float32), starts, np.ones(1), scores, found) == 2
    assert (found.tolist(), scores.tolist()) == ([5, 6], [1.0, 1.0])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", SIZES[:-1])
def test_diversity_is_the_greedy_formula(size: int, weight: float) -> None:
    rng = np.random.default_rng(size)
    vectors, relevance = rng.normal(size=(size, 12)).astype(np.float32), rng.random(size).astype(np.float32)
    vectors[: size // 8] = 0
    for k in (0, 1, 5, 100):
        chosen = np.empty(k, np.int64)
        found = ranking.diverse(vectors, relevance, weight, chosen)
        assert chosen[:found].tolist() == diverse(vectors, relevance, weight, k)


@pytest.mark.parametrize("seed", range(20))
def test_diversity_among_many_that_are_alike_is_the_greedy_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(6, 16))
    vectors = (kinds[rng.integers(0, 6, 300)] + rng.normal(0, 0.3, (300, 16))).astype(np.float32)
    relevance = (rng.random(300) ** 3).astype(np.float32)
    groups = rng.integers(0, 12, (300, 1))
    chosen = np.empty(20, np.int64)
    table = np.hstack([rng.normal(size=(300, 5)), vectors, rng.normal(size=(300, 2))]).astype(np.float32)
    found = ranking.diverse_within(table, 5, 16, relevance, 0.7, groups, np.array([4]), chosen)
    assert chosen[:found].tolist() == diverse_within(vectors, relevance, 0.7, groups, (4,), 20)


def test_of_equals_the_first_is_chosen_however_late_it_is_looked_at() -> None:
    vectors = np.tile(np.eye(4, dtype=np.float32), (5, 1))
    relevance = np.tile(np.array([0.5, 0.5, 0.25, 0.5], np.float32), 5)
    for k in (3, 12, 20):
        chosen = np.empty(k, np.int64)
        found = ranking.diverse(vectors, relevance, 0.5, chosen)
        assert chosen[:found].tolist() == diverse(vectors, relevance, 0.5, k)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_numbers_are_told_from_others_in_their_columns_alone(bad: float) -> None:
    rows = np.random.default_rng(1).normal(size=(33, 21)).astype(np.float32)
    rows[:2, 3] = np.finfo(np.float32).max, np.finfo(np.float32).tiny / 4
    assert ranking.all_finite(rows, 0, 21)
    rows[17, 5] = bad
    assert not ranking.all_finite(rows, 0, 21)
    assert not ranking.all_finite(rows, 5, 1)
    assert ranking.all_finite(rows, 6, 15)
    assert ranking.all_finite(rows, 0, 5)


@pytest.mark.parametrize("caps", [[], [1], [3], [2, 4]])
@pytest.mark.parametrize("width", [0, 6])
@pytest.mark.parametrize("size", [0, 1, 8, 60])
def test_caps_leave_out_what_there_is_enough_of(size: int, width: int, caps: list[int]) -> None:
    rng = np.random.default_rng(size + width)
    vectors, relevance = rng.normal(size=(size, width)).astype(np.float32), rng.random(size).astype(np.float32)
    groups = rng.integers(-1, 5, (size, len(caps)))
    for k in (0, 1, 10, 100):
        chosen = np.empty(k, np.int64)
        found = ranking.diverse_within(vectors, 0, width, relevance, 0.6, groups, np.array(caps, np.int64), chosen)
        assert chosen[:found].tolist() == diverse_within(vectors, relevance, 0.6, groups, caps, k)
