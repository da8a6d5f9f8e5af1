"""Windows of places let through as many points as they say, near the query or far from it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.vectors.places import KINDS, PLACES, SHARES, cases, places, truths_of
from benchmarks.workloads.retrieval.vectors import clustered

K = 5


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], ...]:
    return clustered(6_000, 16, 40)


def test_every_case_lets_its_share_of_the_points_through(vectors: tuple[np.ndarray, ...]) -> None:
    points, queries = vectors
    of_points, of_queries = places(points, queries, 1)
    columns = {"place": of_points, "chance": np.random.default_rng(2).permutation(len(points)) % PLACES}
    found = cases(of_queries, 3)
    assert [(each.kind, each.share) for each in found] == [(kind, share) for kind in KINDS for share in SHARES]
    for case in found:
        for low, high in case.bounds.tolist():
            passing = ((columns[case.column] >= low) & (columns[case.column] < high)).mean()
            assert passing == pytest.approx(case.share, abs=1e-9)


def test_what_is_correlated_is_near_and_what_is_opposed_is_far(vectors: tuple[np.ndarray, ...]) -> None:
    points, queries = vectors
    of_points, of_queries = places(points, queries, 1)
    columns = {"place": of_points, "chance": np.random.default_rng(2).permutation(len(points)) % PLACES}
    asked = [each for each in cases(of_queries, 3) if each.share == 0.1]
    near = {
        case.kind: np.mean([queries[at] @ points[rows[0]] for at, rows in enumerate(truth)])
        for case, truth in zip(asked, truths_of(points, queries, columns, asked, K), strict=True)
    }
    assert near["correlated"] > near["uncorrelated"] > near["opposed"]


def test_truths_are_the_best_that_pass_and_say_where_there_are_fewer(vectors: tuple[np.ndarray, ...]) -> None:
    points, queries = vectors
    of_points, of_queries = places(points[:400], queries, 1)
    columns = {"place": of_points, "chance": np.arange(400)}
    asked = cases(of_queries, 3)
    for case, truth in zip(asked, truths_of(points[:400], queries, columns, asked, K, block=7), strict=True):
        for at, (low, high) in enumerate(case.bounds.tolist()):
            column = columns[case.column]
            rows = [row for row in range(400) if low <= column[row] < high]
            best = sorted(rows, key=lambda row: -float(queries[at] @ points[row]))[:K]
            assert truth[at][: len(best)].tolist() == best
            assert (truth[at][len(best) :] == -1).all()
