"""Percentiles by HDR histogram, beside numpy's."""

import numpy as np
import pytest

from benchmarks.load.latency import curve, percentiles, samples_needed

SEED = 11


def test_percentiles_agree_with_numpy_to_three_figures() -> None:
    values = (np.random.default_rng(SEED).lognormal(0, 1.2, 50_000) * 1e6).astype(np.int64)
    found = percentiles(values)
    for percent, value in ((50, found.p50), (90, found.p90), (99, found.p99), (99.9, found.p999)):
        naive_ms = float(np.percentile(values, percent, method="inverted_cdf")) / 1e6
        assert value == pytest.approx(naive_ms, rel=2e-3), f"p{percent}, seed {SEED}"
    assert found.max == values.max() / 1e6
    assert found.count == 50_000


def test_percentile_is_unknown_when_too_few_samples_lie_beyond_it() -> None:
    values = np.full(samples_needed(99) - 1, 1_000_000, np.int64)
    assert percentiles(values).p99 is None
    assert percentiles(values).p90 == pytest.approx(1.0, rel=2e-3)
    assert samples_needed(99.9) == 10_000


def test_no_samples_give_no_figures() -> None:
    empty = np.array([], np.int64)
    assert percentiles(empty).p50 is None
    assert curve(empty) == []


def test_curve_ascends_and_stops_where_the_samples_do() -> None:
    pairs = curve(np.arange(1, 2001, dtype=np.int64) * 1_000_000)
    assert pairs == sorted(pairs)
    assert pairs[-1][0] == 99.5
