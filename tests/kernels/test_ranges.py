"""Kernels over ranges of events agree with their readable twins, on short ranges and on those that climb the trees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from kernels import ranges, reference
from kernels.ranges import Floats, Longs, Ranges, Sums

EVENTS, QUERIES = 3000, 400


class Data(NamedTuple):
    """Three segments of events, and queries that each lie in one."""

    times: Longs
    segments: Longs
    values: Floats
    asked: Ranges
    as_of: Longs


def _data(seed: int, *, arrivals: bool) -> Data:
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.integers(0, 3, EVENTS))
    starts = np.searchsorted(segments, np.arange(4))
    times = np.concatenate([np.sort(rng.integers(0, 10_000, n)) for n in np.diff(starts)])
    segment = rng.integers(0, 3, QUERIES)
    low, high = starts[segment], starts[segment + 1]
    a = rng.integers(low, high + 1)
    b = rng.integers(a, high + 1)
    short = rng.random(QUERIES) < 0.5
    b[short] = np.minimum(b, a + 40)[short]
    arrival = times + rng.integers(0, 500, EVENTS) if arrivals else np.empty(0, np.int64)
    c = rng.integers(a, b + 1) if arrivals else b
    as_of = np.where(b > a, times[np.maximum(b - 1, 0)], 0) + rng.integers(1, 500, QUERIES)
    return Data(times, segments, rng.gamma(2, 30, EVENTS), Ranges(a, c, b, as_of, arrival), as_of)


def _tree(values: Floats) -> Sums:
    leaves = 1 << (len(values) // ranges.BLOCK - 1).bit_length()
    tree = Sums(leaves, *(np.zeros(2 * leaves) for _ in range(4)))
    ranges.build_sums(values, tree)
    return tree


@pytest.mark.parametrize("arrivals", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_moments_are_those_of_the_values_in_range(seed: int, arrivals: bool) -> None:
    data = _data(seed, arrivals=arrivals)
    values = data.values - 60 if seed == 1 else data.values
    found = ranges.Moments(np.empty(QUERIES, np.int64), *(np.empty(QUERIES) for _ in range(3)))
    squares, tree, count = np.empty(QUERIES), _tree(values), np.empty(QUERIES)
    ranges.range_moments(values, data.asked, tree, found)
    ranges.range_squares(values, data.asked, tree, found, squares)
    ranges.range_count(data.asked, count)
    wanted = np.array(reference.range_moments(values, data.asked))
    np.testing.assert_array_equal(found.number, wanted[:, 0])
    np.testing.assert_array_equal(count, wanted[:, 0])
    np.testing.assert_allclose(found.total, wanted[:, 1], rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(found.low, wanted[:, 2])
    np.testing.assert_array_equal(found.high, wanted[:, 3])
    np.testing.assert_allclose(squares, wanted[:, 4], rtol=1e-11, atol=1e-9)


def test_a_variance_survives_values_far_from_zero_and_neighbours_far_from_them() -> None:
    data = _data(1, arrivals=False)
    values = 1e9 + data.values
    values[::700] = 1e15
    tree, squares = _tree(values), np.empty(1)
    a, b = np.array([702]), np.array([1399])
    found = ranges.Moments(np.empty(1, np.int64), *(np.empty(1) for _ in range(3)))
    asked = Ranges(a, b, b, b, np.empty(0, np.int64))
    ranges.range_moments(values, asked, tree, found)
    ranges.range_squares(values, asked, tree, found, squares)
    exact = data.values[702:1399]
    assert squares[0] == pytest.approx(((exact - exact.mean()) ** 2).sum(), rel=1e-6)
    assert found.total[0] == pytest.approx(1e9 * 697 + exact.sum(), rel=1e-15), "no difference of prefix sums"


@pytest.mark.parametrize("arrivals", [False, True])
@pytest.mark.parametrize("count", [16, 64, 256])
def test_slots_taken_are_counted_once(count: int, arrivals: bool) -> None:
    data = _data(count, arrivals=arrivals)
    slots = np.random.default_rng(count).integers(0, count, EVENTS)
    leaves = 1 << (EVENTS // ranges.BLOCK - 1).bit_length()
    tree, taken = np.zeros((2 * leaves, (count + 63) // 64), np.uint64), np.empty(QUERIES, np.int64)
    ranges.build_slots(slots, leaves, tree)
    ranges.range_slots(slots, data.asked, leaves, tree, taken)
    assert taken.tolist() == reference.range_slots(slots, data.asked)


@pytest.mark.parametrize("arrivals", [False, True])
def test_decayed_sums_are_those_of_each_value_decayed(arrivals: bool) -> None:
    data = _data(4, arrivals=arrivals)
    starts = np.searchsorted(data.segments, data.segments[np.minimum(data.asked.a, EVENTS - 1)])
    inside = data.asked.b > data.asked.a
    a = np.where(inside, starts, data.asked.a)
    asked, sums, out = data.asked._replace(a=a, c=np.maximum(data.asked.c, a)), np.empty(EVENTS), np.empty(QUERIES)
    ranges.decay(data.times, data.values, data.segments, 700.0, sums)
    ranges.range_decayed(data.times, data.values, sums, 700.0, asked, data.as_of, out)
    np.testing.assert_allclose(
        out, reference.range_decayed(data.times, data.values, 700.0, asked, data.as_of), rtol=1e-11
    )


@pytest.mark.parametrize("arrivals", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_the_most_frequent_are_the_same_in_whatever_order_queries_come(ordered: bool, arrivals: bool) -> None:
    data = _data(5, arrivals=arrivals)
    codes = np.minimum(np.random.default_rng(5).geometric(0.2, EVENTS) - 1, 29)
    order = np.lexsort((data.asked.b, data.asked.a)) if ordered else np.arange(QUERIES)
    a, c, b, known, arrival = data.asked
    asked = Ranges(a[order], c[order], b[order], known[order], arrival)
    for k in (1, 3):
        out = np.empty((QUERIES, k), np.int64)
        ranges.range_top(codes, 30, asked, out)
        assert out.tolist() == reference.range_top(codes, asked, k)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_windows_are_found_as_by_looking_at_every_event(shape: int) -> None:
    rng = np.random.default_rng(shape)
    times = np.sort(rng.integers(0, 2000, 300))
    tile = 600 if shape == 2 else 50
    as_of = rng.integers(0, 3000, QUERIES)
    begin = rng.integers(0, 150, QUERIES)
    end = np.maximum(np.searchsorted(times, as_of), begin)
    a, b = np.empty(QUERIES, np.int64), np.empty(QUERIES, np.int64)
    ranges.window_ranges(times, begin, end, as_of, 600, tile, shape, a, b)
    for i in range(QUERIES):
        wanted = reference.window_range(times, begin[i], end[i], as_of[i], 600, tile, shape)
        assert (a[i], b[i]) == wanted or (a[i] == b[i] and wanted[0] == wanted[1])
