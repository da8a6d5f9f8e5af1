"""Which requests are shed on arrival, and with what words."""

from __future__ import annotations

import pytest

from engine import BATCH, Cancelled, DeadlineExceeded, ResourceExhausted
from engine.limits import ESTIMATE_TRUST
from engine.scheduling.admission import Load, dead, is_dead, refusal
from engine.scheduling.queue import QueueBounds
from tests.fakes import job

NOW = 1_000_000_000
MS = 1_000_000
BOUNDS = QueueBounds(requests_max=4, bytes_max=100)
NO_LOAD = Load(0, 0, 0)


def test_an_idle_worker_takes_any_live_request() -> None:
    assert refusal(job(*range(1000)), NO_LOAD, BOUNDS, NOW) is None
    assert refusal(job(at_ns=NOW + 1), NO_LOAD, BOUNDS, NOW) is None


@pytest.mark.parametrize("load", [NO_LOAD, Load(1, 1, 0)])
def test_expired_request_is_refused_even_by_an_idle_worker(load: Load) -> None:
    error = refusal(job(at_ns=NOW), load, BOUNDS, NOW)
    assert isinstance(error, DeadlineExceeded)
    assert "deadline passed 0.0 ms ago; not computed" in error.message


def test_cancelled_request_is_refused() -> None:
    gone = job()
    gone.cancel()
    assert isinstance(refusal(gone, NO_LOAD, BOUNDS, NOW), Cancelled)


def test_full_queue_sheds_and_says_when_to_come_back() -> None:
    assert refusal(job(), Load(3, 0, 0), BOUNDS, NOW) is None
    error = refusal(job(), Load(4, 0, 250 * MS), BOUNDS, NOW)
    assert isinstance(error, ResourceExhausted)
    assert "4 requests wait, at most 4 may" in error.message
    assert error.retry_after_s == 0.25
    assert error.retryable


def test_queue_full_of_bytes_sheds() -> None:
    assert refusal(job(1.0), Load(1, 96, 0), BOUNDS, NOW) is None
    error = refusal(job(1.0), Load(1, 97, 0), BOUNDS, NOW)
    assert isinstance(error, ResourceExhausted)
    assert "97 bytes wait, at most 100 may" in error.message


def test_hopeless_deadline_sheds_before_it_is_wasted() -> None:
    waiting = Load(1, 0, 10 * MS, end_ns=15 * MS)
    assert refusal(job(at_ns=NOW + 15 * MS + 1), waiting, BOUNDS, NOW) is None
    error = refusal(job(at_ns=NOW + 15 * MS), waiting, BOUNDS, NOW)
    assert isinstance(error, ResourceExhausted)
    assert "15.0 ms remain and 10.0 ms of work wait; its answer is expected in 15.0 ms" in error.message
    assert error.retry_after_s == 0.010


def test_where_nobody_waits_an_estimate_that_may_be_stale_refuses_only_what_is_twice_too_late() -> None:
    busy = Load(0, 0, 0, end_ns=20 * MS)
    assert refusal(job(at_ns=NOW + 10 * MS), busy, BOUNDS, NOW) is None
    error = refusal(job(at_ns=NOW + 10 * MS - 1), busy, BOUNDS, NOW)
    assert isinstance(error, ResourceExhausted)
    assert "its answer is expected in 20.0 ms" in error.message


def test_estimate_that_refuses_is_put_to_the_test_after_a_while() -> None:
    long_idle = Load(0, 0, 0, end_ns=20 * MS, idle_ns=ESTIMATE_TRUST * 20 * MS)
    assert refusal(job(at_ns=NOW + MS), long_idle, BOUNDS, NOW) is None


def test_request_without_deadline_waits_however_long() -> None:
    assert refusal(job(), Load(1, 0, 10**15, end_ns=10**15), BOUNDS, NOW) is None


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (Load(2, 0, 0, batch_requests=2), "2 requests of the batch class wait, at most 2 may"),
        (Load(1, 47, 0, batch_requests=1, batch_bytes_size=47), "47 bytes of the batch class wait, at most 50 may"),
        (Load(4, 0, 0), "4 requests wait, at most 4 may"),
    ],
)
def test_batch_class_leaves_half_the_queue_to_those_somebody_waits_for(load: Load, text: str) -> None:
    error = refusal(job(priority=BATCH), load, BOUNDS, NOW)
    assert isinstance(error, ResourceExhausted)
    assert text in error.message
    assert (refusal(job(), load, BOUNDS, NOW) is None) == (load.requests < 4)


def test_batch_class_may_use_its_half() -> None:
    assert refusal(job(priority=BATCH), Load(3, 50, 0, batch_requests=1, batch_bytes_size=46), BOUNDS, NOW) is None
    assert refusal(job(priority=BATCH), NO_LOAD, QueueBounds(1, 1), NOW) is None


def test_dead_and_is_dead_agree() -> None:
    cancelled = job(at_ns=NOW + 5)
    cancelled.cancel()
    for each in (job(), cancelled, job(at_ns=NOW + 5), job(at_ns=NOW - 5)):
        for now_ns in (NOW - 10, NOW + 4, NOW + 5, NOW + 6):
            assert is_dead(each, now_ns) == (dead(each, now_ns) is not None)
