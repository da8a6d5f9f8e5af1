"""Counts and histograms of one model version."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine import BUCKETS_S, Histogram, Ledger, ModelStatistics, quantile_s
from engine.telemetry import BatchTimes


def _ledger(received_ns: int, started_ns: int, computed_ns: int, rows: int) -> Ledger:
    ledger = Ledger(received_ns)
    ledger.run(started_ns, computed_ns, rows)
    return ledger


@given(st.lists(st.tuples(st.integers(0, 20_000_000_000), st.integers(1, 5)), max_size=30))
def test_histogram_agrees_with_counting_by_hand(samples: list[tuple[int, int]]) -> None:
    histogram = Histogram()
    for value_ns, times in samples:
        histogram.observe(value_ns, times)
    bounds_ns = [round(each * 1e9) for each in BUCKETS_S]
    lower = [-1, *bounds_ns]
    upper = [*bounds_ns, 1 << 62]
    naive = [
        sum(times for value, times in samples if low < value <= high) for low, high in zip(lower, upper, strict=True)
    ]
    assert histogram.counts == naive
    assert histogram.sum_ns == sum(value * times for value, times in samples)


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram()
    histogram.observe(50_000)
    assert histogram.counts[0] == 1


def test_ledger_parts_add_up_to_the_whole() -> None:
    ledger = _ledger(10, 14, 21, 3)
    assert (ledger.queue_ns, ledger.compute_ns, ledger.total_ns) == (4, 7, 11)


def test_a_batch_counts_each_request_and_one_execution() -> None:
    statistics = ModelStatistics()
    statistics.batch_done(BatchTimes(5, 1, 10, 2), [_ledger(0, 7, 20, 5), _ledger(3, 7, 20, 5)], wall_ms=99)
    assert (statistics.success.count, statistics.success.total_ns) == (2, 37)
    assert (statistics.queue.count, statistics.queue.total_ns) == (2, 11)
    assert (statistics.stages.compute.count, statistics.stages.compute.total_ns) == (2, 20)
    assert (statistics.rows, statistics.executions, statistics.last_inference_ms) == (5, 1, 99)
    sized = statistics.by_batch_size[5]
    assert (sized.input.total_ns, sized.compute.total_ns, sized.output.total_ns) == (1, 10, 2)
    assert sized.compute.count == 1


def test_batches_of_a_million_sizes_are_remembered_in_few_places() -> None:
    statistics = ModelStatistics()
    for rows in (1024, 1025, 2047, 2048, 1_000_000):
        statistics.batch_done(BatchTimes(rows, 1, 1, 1), [_ledger(0, 1, 2, rows)], wall_ms=1)
    assert {size: each.compute.count for size, each in statistics.by_batch_size.items()} == {
        1024: 3,
        2048: 1,
        524_288: 1,
    }
    assert statistics.rows == 1024 + 1025 + 2047 + 2048 + 1_000_000


def test_refused_dropped_and_failed_requests_are_counted_apart() -> None:
    statistics = ModelStatistics()
    statistics.refused()
    statistics.not_computed(3, expired=2)
    statistics.failed([5, 6])
    assert (statistics.shed, statistics.dropped, statistics.expired) == (1, 3, 2)
    assert (statistics.fail.count, statistics.fail.total_ns) == (2, 11)
    assert statistics.success.count == 0


def test_no_count_is_lost_between_threads() -> None:
    statistics = ModelStatistics()

    def count() -> None:
        for _ in range(500):
            statistics.batch_done(BatchTimes(1, 1, 1, 1), [_ledger(0, 1, 2, 1)], wall_ms=0)
            statistics.refused()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert statistics.success.count == statistics.executions == statistics.shed == 2000
    assert sum(statistics.total_histogram.counts) == 2000


def test_quantiles_of_a_histogram_lie_in_the_bucket_that_the_sorted_values_say() -> None:
    random = np.random.default_rng(7)
    values_ns = random.lognormal(np.log(2e6), 1.5, 5_000).astype(np.int64)
    histogram = Histogram()
    histogram.observe_all(values_ns)
    bounds = [0.0, *BUCKETS_S]
    for share in (0.01, 0.5, 0.95, 0.99):
        exact_s = float(np.quantile(values_ns, share, method="inverted_cdf")) / 1e9
        bucket = np.searchsorted(bounds, exact_s)
        assert bounds[bucket - 1] <= quantile_s(histogram.counts, share) <= bounds[bucket]


def test_quantile_of_nothing_is_0_and_of_what_passes_every_bound_the_last() -> None:
    histogram = Histogram()
    assert quantile_s(histogram.counts, 0.95) == 0.0
    histogram.observe(int(60e9))
    assert quantile_s(histogram.counts, 0.95) == BUCKETS_S[-1]
