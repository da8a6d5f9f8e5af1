"""Postings and scans find what a loop over dictionaries finds, and leave no trace of a query behind."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import postings
from kernels.reference_vectors import best, bitset_of, bm25, inverted, sparse_dot

SIZES = [0, 1, 7, 8, 9, 63, 64, 65, 1000]
NO_BITS = np.empty(0, np.uint8)
K1, B = 1.2, 0.75
SPREAD = 0x9E3779B97F4A7C15
"""Makes small numbers hashes."""


def drawn(rng: np.random.Generator, size: int) -> list[dict[int, int]]:
    """Documents of few and of many terms, of which some are common; some have none."""
    documents = []
    for _ in range(size):
        terms = rng.zipf(1.5, rng.integers(0, 12)) % 300
        documents.append({int(term): int(rng.integers(1, 9)) for term in terms})
    return documents


def forward(documents: list[dict[int, Any]], kind: type, weight: type) -> tuple[NDArray[np.int64], Any, Any]:
    """Starts, terms and weights of a growing segment, read-only."""
    starts = np.concatenate([[0], np.cumsum([len(each) for each in documents])]).astype(np.int64)
    terms = np.array([term for each in documents for term in each], np.uint64)
    weights: NDArray[Any] = np.array([value for each in documents for value in each.values()], weight)
    terms = terms * np.uint64(SPREAD) if kind is np.uint64 else terms.astype(kind)
    for each in (starts, terms, weights):
        each.flags.writeable = False
    return starts, terms, weights


def sealed(starts: NDArray[np.int64], terms: NDArray[Any], weights: NDArray[Any]) -> tuple[Any, Any, Any, Any]:
    """Terms, offsets, rows and weights of a sealed segment of the same."""
    rows = np.repeat(np.arange(len(starts) - 1, dtype=np.uint32), np.diff(starts))
    found, offsets, order = postings.invert(terms.astype(np.uint64))
    return found, offsets, rows[order], weights[order]


def agree(found: int, scores: NDArray[np.float32], rows: NDArray[np.int64], every: dict[int, float]) -> None:
    """The best are the twin's, but for what single precision cannot tell apart."""
    wanted = best([(score, row) for row, score in every.items()], len(rows))
    assert found == len(wanted) == len(set(rows[:found].tolist()))
    assert np.allclose(scores[:found], [score for score, _ in wanted], rtol=1e-5, atol=1e-5)
    assert np.allclose(scores[:found], [every[row] for row in rows[:found].tolist()], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frequency", [np.uint16, np.uint32])
@pytest.mark.parametrize("size", SIZES)
def test_bm25_is_the_formula_by_postings_and_by_scan(size: int, frequency: type) -> None:
    rng = np.random.default_rng(size)
    documents = drawn(rng, size)
    starts, hashes, often = forward(documents, np.uint64, frequency)
    terms, offsets, rows_of, often_of = sealed(starts, hashes, often)
    lengths = np.array([sum(each.values()) for each in documents], np.uint32)
    sums, touched = postings.new_sums(size)
    for k in (0, 1, 5, 2000):
        asked = np.unique(rng.zipf(1.5, 5) % 300)
        idf = rng.uniform(0.1, 5, len(asked)).astype(np.float32)
        wanted, ordinals = asked.astype(np.uint64) * np.uint64(SPREAD), np.empty(len(asked), np.int64)
        postings.find_terms(terms, wanted, ordinals)
        given = dict(zip(asked.tolist(), idf.tolist(), strict=True))
        every = bm25(documents, lengths.tolist(), given, 7.5, K1, B)
        members = set(np.flatnonzero(rng.random(size) < 0.5).tolist())
        for chosen, among in [(NO_BITS, set(range(size))), (bitset_of(members, size), members)]:
            left = {row: score for row, score in every.items() if row in among}
            scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
            found = postings.best_by_bm25(
                offsets, rows_of, often_of, lengths, ordinals, idf, 7.5, K1, B, chosen, sums, touched, scores, rows
            )
            agree(found, scores, rows, left)
            assert (sums == postings.UNTOUCHED).all(), "a query left its sums behind"
            for prefix in (size, size // 2):
                found = postings.scan_by_bm25(
                    starts, hashes, often, lengths, prefix, wanted, idf, 7.5, K1, B, chosen, scores, rows
                )
                agree(found, scores, rows, {row: score for row, score in left.items() if row < prefix})
            counts = np.empty(len(asked), np.int64)
            postings.scan_counts(starts, hashes, size, chosen, wanted, counts)
            assert counts.tolist() == [sum(term in documents[row] for row in among) for term in asked.tolist()]


@pytest.mark.parametrize("size", SIZES)
def test_sparse_vectors_score_by_dot_product_also_where_it_is_nothing_or_less(size: int) -> None:
    rng = np.random.default_rng(size)
    documents = [
        {term: float(np.float32(rng.integers(-2, 3))) for term in sorted(each)} for each in drawn(rng, size)
    ]  # whole numbers, so that sums are exact and many of them 0
    starts, indices, weights = forward(documents, np.uint32, np.float32)
    terms, offsets, rows_of, weights_of = sealed(starts, indices, weights)
    sums, touched = postings.new_sums(size)
    for k in (0, 1, 5, 2000):
        wanted = np.unique(rng.zipf(1.5, 6) % 300).astype(np.uint32)
        query = rng.integers(-2, 3, len(wanted)).astype(np.float32)
        ordinals = np.empty(len(wanted), np.int64)
        postings.find_terms(terms, wanted.astype(np.uint64), ordinals)
        every = sparse_dot(documents, dict(zip(wanted.tolist(), query.tolist(), strict=True)))
        members = set(np.flatnonzero(rng.random(size) < 0.5).tolist())
        for chosen, among in [(NO_BITS, set(range(size))), (bitset_of(members, size), members)]:
            exact = best([(score, row) for row, score in every.items() if row in among], k)
            scores, rows = np.empty(k, np.float32), np.empty(k, np.int64)
            found = postings.best_by_weights(
                offsets, rows_of, weights_of, ordinals, query, chosen, sums, touched, scores, rows
            )
            assert list(zip(scores[:found].tolist(), rows[:found].tolist(), strict=True)) == exact
            assert (sums == postings.UNTOUCHED).all(), "a query left its sums behind"
            found = postings.scan_by_weights(starts, indices, weights, size, wanted, query, chosen, scores, rows)
            assert list(zip(scores[:found].tolist(), rows[:found].tolist(), strict=True)) == exact


@pytest.mark.parametrize("size", [*SIZES, 200_000])
def test_triples_are_inverted_as_a_stable_sort_does(size: int) -> None:
    rng = np.random.default_rng(size)
    hashes = rng.integers(0, max(size // 2, 3), size).astype(np.uint64) * np.uint64(SPREAD)
    for one, other in zip(postings.invert(hashes), inverted(hashes), strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@pytest.mark.parametrize("size", SIZES)
def test_terms_are_found_or_absent(size: int) -> None:
    rng = np.random.default_rng(size)
    terms = np.unique(rng.integers(0, 2**64 - 1, size, dtype=np.uint64))
    wanted = np.concatenate([rng.permutation(terms), rng.integers(0, 2**64 - 1, 9, dtype=np.uint64)])
    wanted = np.append(wanted, np.array([0, 2**64 - 1], np.uint64))
    ordinals = np.empty(len(wanted), np.int64)
    postings.find_terms(terms, wanted, ordinals)
    places = {term: place for place, term in enumerate(terms.tolist())}
    assert ordinals.tolist() == [places.get(each, postings.ABSENT) for each in wanted.tolist()]
