"""Recall and cost, and who is ahead at which recall."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.vectors.curve import Curve, Point, Times, exactly_k, ratio_at, recall_of


def rows(*found: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.array(found, np.int64)


def point(setting: int, recall: float, *cpu_us: float) -> Point:
    return Point(setting, recall, 1.0, [Times(each, each, each, each) for each in cpu_us])


def test_recall_counts_what_was_to_be_found_in_any_order() -> None:
    assert recall_of(rows([3, 1, 2], [4, 5, 6]), rows([1, 2, 3], [4, 5, 7])) == pytest.approx(5 / 6)


def test_recall_does_not_count_what_is_not_there() -> None:
    assert recall_of(rows([3, -1, -1], [-1, -1, -1]), rows([3, -1, -1], [-1, -1, -1])) == 1.0
    assert recall_of(rows([9, -1, -1]), rows([3, 4, -1])) == 0.0
    assert recall_of(rows([-1, -1]), rows([-1, -1])) == 1.0


def test_short_answers_are_told_where_more_was_there() -> None:
    assert exactly_k(rows([1, 2], [1, -1], [1, -1]), rows([1, 2], [1, -1], [1, 2])) == pytest.approx(2 / 3)


def test_the_best_of_a_curve_is_the_quickest_that_finds_enough() -> None:
    curve = Curve("a", [point(10, 0.9, 50), point(20, 0.96, 90, 100, 200), point(30, 0.99, 95)])
    best = curve.best(0.95)
    assert best is not None
    assert best.setting == 30
    assert curve.best(0.995) is None


def test_a_ratio_is_the_median_of_rounds_side_by_side() -> None:
    ours = Curve("ours", [point(1, 0.99, 100, 400, 100)])
    theirs = Curve("theirs", [point(1, 0.97, 80, 320, 1_000)])
    assert ratio_at(ours, theirs, 0.95) == pytest.approx(0.8)
    assert ratio_at(ours, theirs, 0.98) is None
