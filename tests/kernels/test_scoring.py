"""Scores of stored vectors are what their definition says in double precision, however they are kept and reached."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import scoring
from kernels.ranking import PART_SHIFT, settle
from kernels.reference_vectors import best, bitset_of, decoded, maxsim, scores_of
from kernels.scoring import DOT, HAMMING, L2

SIZES = [0, 1, 7, 8, 9, 63, 64, 65, 1000]
DIMENSIONS = [1, 3, 8, 15, 16, 17, 24, 100]
CASES = [
    ("float32", DOT),
    ("float32", L2),
    ("float16", DOT),
    ("float16", L2),
    ("int8", DOT),
    ("int8", L2),
    ("signs", DOT),
]
CASES += [("signs", HAMMING)]
NO_BITS = np.empty(0, np.uint8)


def kept(rng: np.random.Generator, kind: str, rows: int, dimensions: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Stored vectors, read-only as a mapped file is, and scales."""
    vectors = rng.normal(size=(rows, dimensions)).astype(np.float32)
    scales = rng.uniform(0.01, 0.03, dimensions).astype(np.float32)
    kinds: dict[str, Callable[[], NDArray[Any]]] = {
        "float32": lambda: vectors,
        "float16": lambda: vectors.astype(np.float16).view(np.uint16),
        "int8": lambda: (vectors / scales).clip(-127, 127).astype(np.int8),
        "signs": lambda: np.packbits(vectors >= 0, axis=1, bitorder="little"),
    }
    data = kinds[kind]()
    data.flags.writeable = False
    return data, scales


def query_of(rng: np.random.Generator, dimensions: int) -> NDArray[np.float32]:
    """A query, with a zero among its numbers, whose sign is that of 0."""
    query = rng.normal(size=dimensions).astype(np.float32)
    query[rng.integers(dimensions)] = 0
    return query


def agree(scores: NDArray[np.float32], rows: NDArray[np.int64], every: NDArray[np.float64], among: list[int]) -> None:
    """The best k are those of the twin, but for what single precision cannot tell apart."""
    wanted = best([(float(every[row]), row) for row in among], len(rows))
    assert len(set(rows.tolist())) == len(rows) == len(wanted)
    assert set(rows.tolist()) <= set(among)
    assert np.allclose(scores, [score for score, _ in wanted], rtol=1e-5, atol=1e-4)
    assert np.allclose(scores, every[rows], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("kind", "metric"), CASES)
@pytest.mark.parametrize("size", SIZES)
def test_scores_are_the_definitions(kind: str, metric: int, size: int) -> None:
    rng = np.random.default_rng(size)
    for dimensions in DIMENSIONS:
        data, scales = kept(rng, kind, size, dimensions)
        query = query_of(rng, dimensions)
        every = scores_of(decoded(data, dimensions, scales), query, metric)
        out = np.empty(size, np.float32)
        scoring.score_range(data, query, scales, metric, 0, size, out)
        assert np.allclose(out, every, rtol=1e-5, atol=1e-4), dimensions
        begin, end = sorted(rng.integers(0, size + 1, 2).tolist())
        part = np.empty(end - begin, np.float32)
        scoring.score_range(data, query, scales, metric, begin, end, part)
        assert np.array_equal(part, out[begin:end])
        rows = np.append(rng.integers(0, size, 2 * size) if size else np.empty(0, np.int64), [-1, -1])
        chosen = np.empty(len(rows), np.float32)
        scoring.score_rows(data, query, scales, metric, rows, chosen)
        assert np.allclose(chosen, np.append(out, -np.inf)[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "metric"), CASES)
@pytest.mark.parametrize("size", SIZES)
def test_the_best_of_a_set_and_of_rows_are_those_of_a_sort(kind: str, metric: int, size: int) -> None:
    rng = np.random.default_rng(size)
    for share, k in itertools.product((0.0, 0.1, 1.0), (0, 1, 10, 2000)):
        data, scales = kept(rng, kind, size, 19)
        query = query_of(rng, 19)
        every = scores_of(decoded(data, 19, scales), query, metric)
        members = np.flatnonzero(rng.random(size) < share).tolist()
        alive = bitset_of(members, size)
        stored = (data, query, scales, metric)
        found, scores, rows = heap_of(k, scoring.offer_set, *stored, 0, size, alive, 0)
        assert found == min(k, len(members))
        agree(scores, rows, every, members)
        begin, end = sorted(rng.integers(0, size + 1, 2).tolist())
        _, scores, rows = heap_of(k, scoring.offer_set, *stored, begin, end, alive, 0)
        agree(scores, rows, every, [row for row in members if begin <= row < end])
        asked = np.append(rng.permutation(size)[: size // 2 + 1], -1)
        _, scores, rows = heap_of(k, scoring.offer_rows, *stored, asked, alive, 0, 0)
        agree(scores, rows, every, [row for row in asked.tolist() if row in set(members)])
        _, scores, rows = heap_of(k, scoring.offer_rows, *stored, asked, NO_BITS, 0, 0)
        agree(scores, rows, every, [row for row in asked.tolist() if row >= 0])


def heap_of(k: int, offer: Callable[..., int], *given: object) -> tuple[int, NDArray[np.float32], NDArray[np.int64]]:
    """What is on a heap of k afterwards: how many, and their scores and places, best first."""
    scores, places = np.empty(k, np.float32), np.empty(k, np.int64)
    found = offer(*given, scores, places, 0)
    settle(scores, places, found)
    return found, scores[:found], places[:found]


def test_parts_are_put_on_one_heap_and_too_few_of_one_are_none() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.normal(size=(50, 5)).astype(np.float32) for _ in range(3)]
    query, scales, rows = rng.normal(size=5).astype(np.float32), np.empty(0, np.float32), np.arange(-1, 50)
    scores, places, size = np.empty(20, np.float32), np.empty(20, np.int64), 0
    for at, data in enumerate(parts):
        alive = bitset_of(range(0, 50, 2), 50)
        before = scores[:size].copy(), places[:size].copy()
        assert scoring.offer_rows(data, query, scales, DOT, rows, alive, 26, at, scores, places, size) == -1
        assert np.array_equal(scores[:size], before[0])
        assert np.array_equal(places[:size], before[1])
        size = scoring.offer_rows(data, query, scales, DOT, rows, alive, 25, at, scores, places, size)
    settle(scores, places, size)
    every = [
        (float(score), at << PART_SHIFT | row)
        for at, data in enumerate(parts)
        for row, score in enumerate(scores_of(data.astype(np.float64), query, DOT))
        if row % 2 == 0
    ]
    assert places.tolist() == [place for _, place in best(every, 20)]


def test_of_equal_scores_the_lower_row_is_the_better_whatever_the_order() -> None:
    rng = np.random.default_rng(1)
    data, scales = np.repeat(rng.normal(size=(3, 4)).astype(np.float32), 30, axis=0), np.empty(0, np.float32)
    query = data[0].copy()
    every = np.empty(90, np.float32)
    scoring.score_range(data, query, scales, L2, 0, 90, every)
    wanted = [row for _, row in best(zip(every.tolist(), range(90), strict=True), 40)]
    for _ in range(5):
        asked = rng.permutation(90)
        _, _, rows = heap_of(40, scoring.offer_rows, data, query, scales, L2, asked, NO_BITS, 0, 0)
        assert rows.tolist() == wanted


def test_a_vector_that_is_not_a_number_is_never_among_the_best() -> None:
    data = np.array([[1, 2], [np.nan, 1], [3, 4]], np.float32)
    query, alive = np.ones(2, np.float32), bitset_of([0, 1, 2], 3)
    stored = (data, query, query, DOT)
    _, _, rows = heap_of(3, scoring.offer_set, *stored, 0, 3, alive, 0)
    assert rows.tolist() == [2, 0]
    _, _, rows = heap_of(3, scoring.offer_rows, *stored, np.arange(3), alive, 2, 0)
    assert rows.tolist() == [2, 0]
    scores, places = np.empty(3, np.float32), np.empty(3, np.int64)
    assert scoring.offer_rows(*stored, np.arange(3), alive, 3, 0, scores, places, 0) == -1


def test_every_half_float_is_decoded_as_numpy_does() -> None:
    halves = np.arange(65536, dtype=np.uint16)
    halves = halves[np.isfinite(halves.view(np.float16))]
    out = np.empty(len(halves), np.float32)
    one = np.ones(1, np.float32)
    scoring.score_range(halves.reshape(-1, 1), one, one, DOT, 0, len(halves), out)
    assert np.array_equal(out, halves.view(np.float16).astype(np.float32))


def test_arguments_of_another_type_are_refused() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(TypeError):
        scoring.score_range(np.ones((1, 1)), one, one, DOT, 0, 1, one)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
@pytest.mark.parametrize("size", SIZES)
def test_late_interaction_is_the_sum_of_the_greatest(kind: str, size: int) -> None:
    rng = np.random.default_rng(size)
    data, scales = kept(rng, kind, size, 17)
    cuts = np.sort(rng.integers(0, size + 1, 12))
    offsets = np.concatenate([[0], cuts, [size]]).astype(np.int64)
    for tokens in (0, 1, 5):
        query = rng.normal(size=(tokens, 17)).astype(np.float32)
        rows = np.append(rng.permutation(13), [-1, 3])
        out = np.empty(len(rows), np.float32)
        scoring.maxsim(data, query, scales, offsets, rows, out)
        every = np.append(maxsim(decoded(data, 17, scales), query, offsets), -np.inf)
        assert np.allclose(out, every[rows], rtol=1e-5, atol=1e-4)
