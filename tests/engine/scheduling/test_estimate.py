"""What is expected of a batch's compute time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.scheduling.estimate import ComputeEstimate


def test_nothing_is_expected_before_the_first_batch() -> None:
    assert ComputeEstimate().compute_ns(1) is None


def test_first_sample_is_the_estimate_of_its_whole_bucket() -> None:
    estimate = ComputeEstimate()
    estimate.observe(5, 100)
    assert [estimate.compute_ns(rows) for rows in (4, 5, 6, 7)] == [100] * 4


def test_rows_never_seen_take_the_nearest_bucket() -> None:
    estimate = ComputeEstimate()
    estimate.observe(1, 10)
    estimate.observe(16, 160)
    assert estimate.compute_ns(2) == 10
    assert estimate.compute_ns(8) == 160


def test_more_rows_than_ever_seen_are_expected_to_take_longer_in_proportion() -> None:
    estimate = ComputeEstimate()
    estimate.observe(64, 100)
    assert estimate.compute_ns(64 * 256) == 100 * 256


def test_estimate_follows_a_lasting_change() -> None:
    estimate = ComputeEstimate()
    estimate.observe(1, 1000)
    for _ in range(50):
        estimate.observe(1, 10)
    expected = estimate.compute_ns(1)
    assert expected is not None
    assert expected < 20


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 10**9)), min_size=1), st.integers(1, 5_000))
def test_estimate_of_seen_sizes_stays_within_what_was_seen(samples: list[tuple[int, int]], rows: int) -> None:
    estimate = ComputeEstimate()
    for size, took_ns in samples:
        estimate.observe(size, took_ns)
    expected = estimate.compute_ns(samples[0][0])
    took = [took_ns for _, took_ns in samples]
    assert expected is not None
    assert min(took) - 1 <= expected <= max(took) + 1
    assert estimate.compute_ns(rows) is not None


def test_one_batch_that_lost_its_core_hardly_moves_the_estimate() -> None:
    estimate = ComputeEstimate()
    estimate.observe(8, 50_000)
    estimate.observe(8, 20_000_000)
    expected = estimate.compute_ns(8)
    assert expected is not None
    assert expected < 100_000


def test_model_that_becomes_a_thousand_times_slower_shows_within_ten_batches() -> None:
    estimate = ComputeEstimate()
    for _ in range(20):
        estimate.observe(1, 10_000)
    estimate.observe(1, 10_000_000)
    assert (estimate.compute_ns(1) or 0) < 12_000
    for _ in range(20):
        estimate.observe(1, 10_000)
    for _ in range(10):
        estimate.observe(1, 10_000_000)
    assert (estimate.compute_ns(1) or 0) > 3_000_000


def test_warm_up_on_a_machine_that_stood_still_is_forgotten_with_the_first_batch() -> None:
    estimate = ComputeEstimate()
    estimate.observe(1, 800_000_000)
    estimate.observe(1, 4_000_000)
    assert estimate.compute_ns(1) == 4_000_000


def test_mean_that_is_far_too_high_is_forgotten_after_four_batches_and_one_fast_batch_hardly_moves_it() -> None:
    estimate = ComputeEstimate()
    for _ in range(3):
        estimate.observe(1, 100_000)
    estimate.observe(1, 1_000)
    assert estimate.compute_ns(1) == pytest.approx(80_200)
    for _ in range(3):
        estimate.observe(1, 1_000)
    assert estimate.compute_ns(1) == pytest.approx(1_000)


@pytest.mark.parametrize(("took", "scale"), [(1_500, 1.0), (600, 1.0), (5_000, 5.0), (100, 0.1)])
def test_what_takes_the_place_of_another_is_expected_to_take_as_long_unless_it_shows_to_be_another(
    took: int, scale: float
) -> None:
    before, estimate = ComputeEstimate(), ComputeEstimate()
    for rows in (1, 8, 32):
        before.observe(rows, 1_000 * rows)
    estimate.observe(1, took)
    estimate.follow(before, 1)
    assert [estimate.compute_ns(rows) for rows in (1, 8, 32)] == pytest.approx(
        [scale * 1_000 * each for each in (1, 8, 32)]
    )
    before.observe(8, 100_000)
    assert estimate.compute_ns(8) == pytest.approx(scale * 8_000)


def test_what_takes_the_place_of_what_never_ran_expects_what_it_showed() -> None:
    estimate = ComputeEstimate()
    estimate.observe(1, 1_000)
    estimate.follow(ComputeEstimate(), 1)
    assert estimate.compute_ns(1) == 1_000
