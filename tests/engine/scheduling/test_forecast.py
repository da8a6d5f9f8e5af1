"""When an answer is expected: what was foretold against how it came."""

from __future__ import annotations

import random

import pytest

from engine import BATCH, INTERACTIVE
from engine.limits import ESTIMATE_TRUST
from engine.scheduling.batcher import BatchBounds, take_batch
from engine.scheduling.estimate import ComputeEstimate
from engine.scheduling.forecast import Forecast
from engine.scheduling.queue import Queue
from tests.fakes import job

MS = 1_000_000


def _forecast(rows_max: int = 8, instances: int = 1, **took_ms: float) -> Forecast:
    """One that has seen batches of "r<rows>" take so many milliseconds."""
    estimate = ComputeEstimate()
    for rows, each in took_ms.items():
        estimate.observe(int(rows[1:]), int(each * MS))
    return Forecast(estimate, rows_max, instances)


@pytest.mark.parametrize("seed", range(20))
def test_wait_foretold_is_the_wait_of_a_simulated_worker_to_within_a_batch(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    rows_max, took_ns = rng.choice([4, 8, 64]), 10 * MS
    forecast = _forecast(rows_max, r1=10, r2=10, r4=10, r8=10, r16=10, r32=10, r64=10)
    queue = Queue()
    for _ in range(rng.randrange(100)):
        queue.push(job(*range(rng.randint(1, 3)), priority=rng.choice([INTERACTIVE, INTERACTIVE, BATCH])))
    newcomer = job(*range(rng.randint(1, 3)), priority=rng.choice([INTERACTIVE, BATCH]))
    before_ns, rows = forecast.before(queue, 0, newcomer.rows, newcomer.request.priority, 0)
    queue.push(newcomer)
    waited_ns = 0
    while newcomer not in take_batch(queue, BatchBounds(rows_max), batchable=True):
        waited_ns += took_ns
    assert abs(before_ns - waited_ns) <= max(2 * took_ns, 0.6 * waited_ns)  # jobs of three rows do not fill every batch
    assert newcomer.rows <= rows <= rows_max
    assert forecast.end_ns(before_ns, rows) == before_ns + took_ns


def test_waits_that_come_out_longer_stretch_later_forecasts_and_no_further_than_fourfold() -> None:
    forecast = _forecast(r1=10)
    for _ in range(200):
        forecast.waited(10 * MS, 25 * MS)
    assert forecast.end_ns(10 * MS, 1) == pytest.approx(35 * MS, rel=0.001)
    for _ in range(200):
        forecast.waited(10 * MS, 900 * MS)
    assert forecast.end_ns(10 * MS, 1) == pytest.approx(50 * MS, rel=0.001)
    for _ in range(400):
        forecast.waited(10 * MS, 1 * MS)
    assert forecast.end_ns(10 * MS, 1) == pytest.approx(20 * MS, rel=0.001)


def test_batches_that_vary_need_more_time_to_spare_than_steady_ones() -> None:
    steady, varying = ComputeEstimate(), ComputeEstimate()
    for turn in range(400):
        steady.observe(1, 10 * MS)
        varying.observe(1, (5 + 10 * (turn % 2)) * MS)
    assert Forecast(steady, 1, 1).surely_ns(0, 1) == pytest.approx(10 * MS, rel=0.01)
    assert Forecast(varying, 1, 1).surely_ns(0, 1) > 20 * MS


@pytest.mark.parametrize(("stale", "last", "asked", "most_ms"), [(8, 4, 8, 40), (8, 4, 15, 75), (1, 8, 1, 20)])
def test_estimate_of_a_size_that_has_long_not_run_is_bounded_by_the_pace_of_what_runs(
    stale: int, last: int, asked: int, most_ms: int
) -> None:
    forecast = _forecast(rows_max=16, **{f"r{stale}": 500, f"r{last}": 10})
    assert forecast.compute_ns(asked) == 500 * MS
    forecast.started(last, 0)
    assert forecast.compute_ns(asked) == most_ms * MS


def test_what_runs_keeps_a_newcomer_waiting_only_while_no_instance_is_free() -> None:
    forecast = _forecast(instances=2, r1=10)
    forecast.started(1, 0)
    assert forecast.before(Queue(), 1, 1, INTERACTIVE, 4 * MS)[0] == 0
    assert forecast.before(Queue(), 2, 1, INTERACTIVE, 4 * MS)[0] == 3 * MS


def test_batch_of_a_newcomer_to_a_busy_worker_is_expected_to_be_filled_like_the_last() -> None:
    forecast = _forecast(r1=10)
    forecast.started(5, 0)
    assert forecast.before(Queue(), 0, 1, INTERACTIVE, 0)[1] == 1
    assert forecast.before(Queue(), 1, 1, INTERACTIVE, 0)[1] == 5
    assert forecast.before(Queue(), 1, 7, INTERACTIVE, 0)[1] == 7


def test_what_is_begun_too_late_is_known_unless_estimates_are_stale() -> None:
    forecast = _forecast(r1=10)
    forecast.started(1, 0)
    assert forecast.too_late_ns(1, 5 * MS) == 15 * MS
    stale_ns = ESTIMATE_TRUST * 10 * MS
    assert forecast.too_late_ns(1, stale_ns) == stale_ns
