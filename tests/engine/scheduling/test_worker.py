"""The worker: who computes, what is never computed, and that every job ends exactly once."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import replace

import pytest

from engine import (
    BATCH,
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Job,
    ModelStatistics,
    ResourceExhausted,
    Response,
    Unavailable,
)
from engine.limits import FLUSH_BATCHES_MAX
from engine.scheduling.batcher import BatchBounds
from engine.scheduling.queue import QueueBounds
from engine.scheduling.worker import Worker, WorkerOptions
from engine.servables.servable import Servable
from tests.fakes import (
    ALONE,
    PATIENCE_S,
    CountdownServable,
    Endings,
    Gate,
    ManualClock,
    RecordingServable,
    answer,
    job,
    tensor,
)

THREADS = WorkerOptions(inline_us_max=0)
NOW = 1_000_000_000
MS = 1_000_000


def _worker(servable: Servable, options: WorkerOptions, clock: ManualClock | None = None) -> Worker:
    return Worker("fake", 3, servable, options, clock or ManualClock(), ModelStatistics())


def _inline(servable: Servable, options: WorkerOptions | None = None, clock: ManualClock | None = None) -> Worker:
    """A worker that has learnt that its servable is fast."""
    worker = _worker(servable, options or WorkerOptions(), clock)
    worker.warm_up({"x": tensor(0.0)}, 1)
    if isinstance(servable, RecordingServable):
        servable.calls.clear()
    return worker


def _submit(worker: Worker, endings: Endings, *values: float) -> list[Job]:
    jobs = [job(each, done=endings) for each in values]
    for each in jobs:
        worker.submit(each)
    return jobs


# Who computes.


def test_short_batch_runs_on_the_thread_that_flushes() -> None:
    seen: list[threading.Thread] = []
    servable = RecordingServable(before=lambda _: seen.append(threading.current_thread()))
    worker, endings = _inline(servable), Endings()
    seen.clear()
    (only,) = _submit(worker, endings, 4.0)
    assert endings.jobs == []  # nothing before flush
    assert worker.waiting == 1
    worker.flush()
    assert seen == [threading.current_thread()]
    assert answer(only) == [8.0]
    assert only.response is not None
    assert (only.response.model, only.response.version) == ("fake", 3)


@pytest.mark.parametrize("inline_us_max", [0, 1000])
def test_batch_never_measured_or_not_short_runs_on_a_thread_of_the_worker(inline_us_max: int) -> None:
    seen: list[str] = []
    servable = RecordingServable(before=lambda _: seen.append(threading.current_thread().name))
    worker, endings = _worker(servable, WorkerOptions(inline_us_max=inline_us_max)), Endings()
    _submit(worker, endings, 1.0)
    worker.flush()
    endings.wait(1)
    assert seen == ["vireo-fake-3-0"]
    worker.close()


def test_servable_that_has_become_slow_leaves_the_callers_thread() -> None:
    clock = ManualClock()
    servable = RecordingServable(before=lambda _: clock.advance(0.002))
    worker, endings = _inline(servable, clock=clock), Endings()
    threads: list[threading.Thread] = []

    def ended(each: Job) -> None:
        threads.append(threading.current_thread())
        endings(each)

    worker.submit(job(1.0, done=ended))
    worker.flush()
    endings.wait(1)
    assert threads != [threading.current_thread()]
    worker.close()


def test_one_request_far_larger_than_any_batch_does_not_run_on_the_callers_thread() -> None:
    clock = ManualClock()
    servable = RecordingServable(before=lambda values: clock.advance(len(values) * 1e-5))  # 10 us a row
    worker = _inline(servable, WorkerOptions(BatchBounds(rows_max=4)), clock)
    endings, threads = Endings(), list[threading.Thread]()

    def ended(each: Job) -> None:
        threads.append(threading.current_thread())
        endings(each)

    worker.submit(job(*range(1000), done=ended))
    worker.flush()
    endings.wait(1)
    assert threads != [threading.current_thread()]
    worker.close()


@pytest.mark.parametrize(("took_s", "helped"), [(0.0001, True), (0.00001, False)])
def test_next_batch_is_given_to_another_thread_while_this_one_computes_if_it_is_worth_it(
    took_s: float, helped: bool
) -> None:
    clock = ManualClock()
    threads: list[threading.Thread] = []
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def compute(values: list[float]) -> None:
        clock.advance(took_s)
        threads.append(threading.current_thread())
        if helped and values != [0.0]:  # the warm-up's
            both.wait()  # passed only by two that compute at the same time

    worker = _inline(RecordingServable(ALONE, before=compute), WorkerOptions(instances=2), clock)
    endings = Endings()
    threads.clear()
    jobs = _submit(worker, endings, 1.0, 2.0)
    worker.flush()
    endings.wait(len(jobs))
    assert len(set(threads)) == 1 + helped
    assert threading.current_thread() in threads
    worker.close()


def test_flush_hands_over_to_a_thread_after_a_few_batches() -> None:
    threads: list[threading.Thread] = []
    servable = RecordingServable(ALONE, before=lambda _: threads.append(threading.current_thread()))
    worker, endings = _inline(servable), Endings()
    threads.clear()
    jobs = _submit(worker, endings, *range(FLUSH_BATCHES_MAX + 3))
    worker.flush()
    endings.wait(len(jobs))
    assert threads[:FLUSH_BATCHES_MAX] == [threading.current_thread()] * FLUSH_BATCHES_MAX
    assert threading.current_thread() not in threads[FLUSH_BATCHES_MAX:]
    worker.close()


def test_answer_may_submit_and_flush_again_from_its_own_callback() -> None:
    worker, endings = _inline(RecordingServable()), Endings()

    def again(_: Job) -> None:
        _submit(worker, endings, 2.0)
        worker.flush()

    worker.submit(job(1.0, done=again))
    worker.flush()
    endings.wait(1)
    assert answer(endings.jobs[0]) == [4.0]


# Batches.


def test_requests_that_wait_while_the_worker_is_busy_run_together() -> None:
    gate = Gate()
    servable = RecordingServable(before=gate)
    worker, endings = _worker(servable, THREADS), Endings()
    _submit(worker, endings, 1.0)
    worker.flush()
    gate.wait_entered()
    _submit(worker, endings, 2.0, 3.0, 4.0)
    worker.flush()
    gate.open()
    endings.wait(4)
    assert servable.calls == [[1.0], [2.0, 3.0, 4.0]]
    assert [answer(each) for each in endings.jobs] == [[2.0], [4.0], [6.0], [8.0]]
    assert [each.ledger.batch_rows for each in endings.jobs] == [1, 3, 3, 3]
    worker.close()


def test_an_idle_worker_does_not_wait_for_company() -> None:
    servable = RecordingServable()
    worker, endings = _inline(servable), Endings()
    for value in (1.0, 2.0):
        _submit(worker, endings, value)
        worker.flush()
    assert servable.calls == [[1.0], [2.0]]


def test_batches_never_exceed_their_bound() -> None:
    servable = RecordingServable()
    worker, endings = _inline(servable, WorkerOptions(BatchBounds(rows_max=3))), Endings()
    _submit(worker, endings, *range(10))
    worker.flush()
    endings.wait(10)
    assert [len(each) for each in servable.calls] == [3, 3, 3, 1]
    worker.close()


def test_batching_turned_off_computes_one_request_at_a_time() -> None:
    servable = RecordingServable()
    worker, endings = _inline(servable, WorkerOptions(batching=False)), Endings()
    _submit(worker, endings, 1.0, 2.0)
    worker.flush()
    assert servable.calls == [[1.0], [2.0]]
    assert not worker.batchable


@pytest.mark.parametrize("instances", [1, 3])
def test_at_most_as_many_batches_run_at_once_as_there_are_instances(instances: int) -> None:
    gate = Gate()
    servable = RecordingServable(ALONE, before=gate)
    worker, endings = _worker(servable, WorkerOptions(instances=instances, inline_us_max=0)), Endings()
    for value in range(8):
        _submit(worker, endings, value)
        worker.flush()
    for _ in range(instances):
        gate.wait_entered()
    gate.open()
    endings.wait(8)
    assert servable.inside_max == instances
    worker.close()


def test_most_urgent_request_goes_first() -> None:
    servable = RecordingServable(ALONE)
    worker, endings = _inline(servable), Endings()
    for value, at_ns in ((1.0, None), (2.0, NOW + 900_000_000), (3.0, NOW + 500_000_000)):
        worker.submit(job(value, at_ns=at_ns, done=endings))
    worker.flush()
    assert servable.computed == [3.0, 2.0, 1.0]


# Two classes.


def _in_order(worker: Worker, gate: Gate, endings: Endings, submissions: list[Job]) -> None:
    """Computes `submissions` behind a first job that is held until all of them wait."""
    _submit(worker, endings, 0.0)
    worker.flush()
    gate.wait_entered()
    for each in submissions:
        worker.submit(each)
    worker.flush()
    gate.open()
    endings.wait(len(submissions) + 1)
    worker.close()


def test_interactive_jobs_go_before_those_of_the_batch_class_which_get_their_tenth() -> None:
    gate = Gate()
    servable = RecordingServable(ALONE, before=gate)
    worker, endings = _worker(servable, THREADS), Endings()
    jobs = [job(2.0, priority=BATCH, done=endings) for _ in range(12)]
    _in_order(worker, gate, endings, jobs + [job(1.0, done=endings) for _ in range(20)])
    assert servable.computed[1:] == ([1.0] * 9 + [2.0]) * 2 + [1.0] * 2 + [2.0] * 10


def test_share_of_the_batch_class_is_the_queues_own() -> None:
    gate = Gate()
    servable = RecordingServable(ALONE, before=gate)
    worker, endings = _worker(servable, replace(THREADS, queue=QueueBounds(batch_share=0.5))), Endings()
    jobs = [job(2.0, priority=BATCH, done=endings) for _ in range(3)]
    _in_order(worker, gate, endings, jobs + [job(1.0, done=endings) for _ in range(5)])
    assert servable.computed[1:] == [1.0, 2.0] * 3 + [1.0] * 2


def test_waiting_batch_job_is_not_overtaken_by_one_that_comes_to_run_at_once() -> None:
    worker = _inline(RecordingServable())
    worker.submit(job(1.0, priority=BATCH))
    assert not worker.run_at_once(job(2.0))
    worker.close()


def test_batch_class_fills_half_the_queue_and_interactive_jobs_the_rest() -> None:
    worker = _worker(RecordingServable(), WorkerOptions(queue=QueueBounds(requests_max=4)))
    for _ in range(2):
        worker.submit(job(1.0, priority=BATCH))
    with pytest.raises(ResourceExhausted, match="2 requests of the batch class wait, at most 2 may"):
        worker.submit(job(1.0, priority=BATCH))
    for _ in range(2):
        worker.submit(job(1.0))
    with pytest.raises(ResourceExhausted, match="4 requests wait, at most 4 may"):
        worker.submit(job(1.0))
    worker.close()


# What is expected.


def _slow(rows_max: int, *, batching: bool = True) -> tuple[Worker, ManualClock]:
    """A worker whose batches take 10 ms whatever their size."""
    clock = ManualClock()
    servable = RecordingServable(before=lambda _: clock.advance(0.010))
    worker = _worker(servable, WorkerOptions(BatchBounds(rows_max), batching=batching), clock)
    worker.warm_up({"x": tensor(0.0)}, 1)
    return worker, clock


@pytest.mark.parametrize(
    ("rows_max", "batching", "waiting", "expected_ms"),
    [(64, True, 0, 10), (64, True, 5, 10), (4, True, 3, 10), (4, True, 4, 20), (4, True, 9, 30), (64, False, 3, 40)],
)
def test_answer_is_expected_after_what_waits_in_the_batch_a_job_will_be_in(
    rows_max: int, batching: bool, waiting: int, expected_ms: int
) -> None:
    worker, _ = _slow(rows_max, batching=batching)
    for each in (1, 2, 4):
        worker._estimate.observe(each, 10_000_000)
    for _ in range(waiting):
        worker.submit(job(1.0))
    assert worker.expected_ns(1) == expected_ms * 1_000_000
    worker.close()


def test_nothing_is_expected_before_the_first_batch() -> None:
    worker = _worker(RecordingServable(), WorkerOptions())
    worker.submit(job(1.0))
    assert worker.expected_ns(1) == 0
    worker.close()


def test_interactive_job_expects_to_go_before_the_batch_class_but_for_its_share() -> None:
    worker, _ = _slow(1)
    for _ in range(50):
        worker.submit(job(1.0, priority=BATCH))
    assert worker.expected_ns(1) == 10_000_000
    assert worker.expected_ns(1, BATCH) == 510_000_000
    for _ in range(18):
        worker.submit(job(1.0))
    assert worker.expected_ns(1) == (18 + 2 + 1) * 10_000_000
    worker.close()


def test_what_runs_is_counted_by_what_is_left_of_it() -> None:
    clock, gate = ManualClock(), Gate()
    servable = RecordingServable(before=lambda values: gate() if values == [7.0] else clock.advance(0.010))
    worker, endings = _worker(servable, THREADS, clock), Endings()
    worker.warm_up({"x": tensor(0.0)}, 1)
    _submit(worker, endings, 7.0)
    worker.flush()
    gate.wait_entered()
    clock.advance(0.004)
    assert worker.expected_ns(1) == 16_000_000
    with pytest.raises(ResourceExhausted, match="its answer is expected in 16"):
        worker.submit(job(1.0, received_ns=clock(), at_ns=clock() + 7_000_000))
    clock.advance(1.0)
    assert worker.expected_ns(1) == 1_014_000_000  # it hangs: as long again as it has taken
    gate.open()
    endings.wait(1)
    worker.close()


def test_lone_request_is_tried_though_its_estimate_is_somewhat_longer_than_what_remains() -> None:
    clock = ManualClock()
    servable = RecordingServable(before=lambda _: clock.advance(0.010))
    worker, endings = _worker(servable, WorkerOptions(inline_us_max=100_000), clock), Endings()
    worker.warm_up({"x": tensor(0.0)}, 1)
    _submit(worker, endings, 1.0)
    worker.flush()  # so that it has not been idle
    worker.submit(job(1.0, received_ns=clock(), at_ns=clock() + 5_000_000, done=endings))
    worker.flush()
    with pytest.raises(ResourceExhausted):
        worker.submit(job(1.0, received_ns=clock(), at_ns=clock() + 4_999_999))
    clock.advance(0.2)
    worker.submit(job(1.0, received_ns=clock(), at_ns=clock() + 4_999_999))
    worker.close()


def test_job_whose_batch_would_end_after_its_deadline_is_not_begun_while_others_wait() -> None:
    clock, gate, statistics, endings = ManualClock(), Gate(), ModelStatistics(), Endings()

    def compute(values: list[float]) -> None:
        clock.advance(0.010)
        if values == [7.0]:
            gate()

    servable = RecordingServable(before=compute)
    worker = Worker("fake", 3, servable, THREADS, clock, statistics)
    worker.warm_up({"x": tensor(0.0)}, 1)
    worker.warm_up({"x": tensor(0.0, 0.0)}, 2)
    servable.calls.clear()
    _submit(worker, endings, 7.0)
    worker.flush()
    gate.wait_entered()
    now = clock()
    tight = job(1.0, received_ns=now, at_ns=now + 25 * MS, done=endings)
    for each in (tight, job(2.0, received_ns=now, at_ns=now + 40 * MS, done=endings)):
        worker.submit(each)
    clock.advance(0.016)
    gate.open()
    endings.wait(3)
    assert servable.calls == [[7.0], [2.0]]
    assert isinstance(tight.error, ResourceExhausted)
    assert "9.0 ms remained when its turn came; not computed" in tight.error.message
    assert (statistics.dropped, statistics.late) == (1, 0)
    worker.close()


def test_lone_job_is_begun_though_it_will_hardly_make_it() -> None:
    worker, clock = _slow(4)
    endings = Endings()
    lone = job(1.0, received_ns=clock(), at_ns=clock() + 6 * MS, done=endings)
    worker.submit(lone)
    worker.flush()
    endings.wait(1)
    assert answer(lone) == [2.0]
    worker.close()


def test_answers_after_their_deadline_are_counted_as_computed_in_vain() -> None:
    clock, statistics, endings = ManualClock(), ModelStatistics(), Endings()
    servable = RecordingServable(before=lambda _: clock.advance(0.010))
    worker = Worker("fake", 3, servable, THREADS, clock, statistics)
    for after_ms in (9, 10, 11, None):
        at_ns = None if after_ms is None else NOW + after_ms * 1_000_000
        worker.submit(job(1.0, at_ns=at_ns, done=endings))
    worker.flush()
    endings.wait(4)
    assert (statistics.executions, statistics.success.count, statistics.late) == (1, 4, 1)
    worker.submit(job(1.0, received_ns=clock(), at_ns=clock() + 9_000_000, done=endings))
    worker.flush()
    endings.wait(5)
    assert statistics.late == 2
    worker.close()


# What is never computed.


def test_expired_and_cancelled_requests_are_never_computed() -> None:
    clock, gate = ManualClock(), Gate()
    servable = RecordingServable(before=gate)
    statistics = ModelStatistics()
    worker, endings = Worker("fake", 3, servable, THREADS, clock, statistics), Endings()
    _submit(worker, endings, 1.0)
    worker.flush()
    gate.wait_entered()
    worker.submit(job(2.0, at_ns=NOW + 5_000_000, done=endings))
    gone, _ = _submit(worker, endings, 3.0, 4.0)
    worker.flush()
    gone.cancel()
    clock.advance(0.005)
    gate.open()
    endings.wait(4)
    assert servable.calls == [[1.0], [4.0]]
    errors = {float(each.request.inputs["x"].array[0, 0]): each.error for each in endings.jobs}
    assert isinstance(errors[2.0], DeadlineExceeded)
    assert isinstance(errors[3.0], Cancelled)
    assert errors[4.0] is None
    assert (statistics.dropped, statistics.success.count, statistics.fail.count) == (2, 2, 0)
    worker.close()


def test_request_cancelled_while_it_runs_is_dropped_work_however_its_servable_ended() -> None:
    gate, statistics, endings = Gate(), ModelStatistics(), Endings()

    def fails(_: list[float]) -> None:
        gate()
        raise RuntimeError("stopped")

    worker = Worker("fake", 3, RecordingServable(before=fails), THREADS, ManualClock(), statistics)
    (only,) = _submit(worker, endings, 1.0)
    worker.flush()
    gate.wait_entered()
    only.cancel()
    gate.open()
    endings.wait(1)
    assert isinstance(only.error, Cancelled)
    assert (statistics.dropped, statistics.fail.count) == (1, 0)
    worker.close()


def test_queue_of_nothing_but_dead_requests_calls_nobody() -> None:
    servable = RecordingServable()
    worker, endings = _inline(servable), Endings()
    for each in _submit(worker, endings, *range(200)):
        each.cancel()
    worker.flush()
    assert len(endings.jobs) == 200
    assert servable.calls == []


def test_expired_request_is_refused_on_arrival() -> None:
    worker = _worker(RecordingServable(), THREADS)
    with pytest.raises(DeadlineExceeded):
        worker.submit(job(at_ns=NOW))
    assert worker.waiting == 0


def test_full_queue_sheds_the_newcomer_and_counts_it() -> None:
    statistics = ModelStatistics()
    options = WorkerOptions(queue=QueueBounds(requests_max=2))
    worker, endings = Worker("fake", 3, RecordingServable(), options, ManualClock(), statistics), Endings()
    _submit(worker, endings, 1.0, 2.0)
    with pytest.raises(ResourceExhausted, match="2 requests wait, at most 2 may"):
        _submit(worker, endings, 3.0)
    assert (statistics.shed, worker.waiting, endings.jobs) == (1, 2, [])
    worker.close()


@pytest.mark.parametrize("batching", [True, False])
def test_request_whose_deadline_the_work_ahead_makes_hopeless_is_shed(batching: bool) -> None:
    clock = ManualClock()
    servable = RecordingServable(before=lambda _: clock.advance(0.010))
    worker = _worker(servable, WorkerOptions(BatchBounds(rows_max=1), batching=batching), clock)
    worker.warm_up({"x": tensor(0.0)}, 1)
    endings = Endings()
    now = clock()
    for _ in range(3):
        worker.submit(job(1.0, received_ns=now, done=endings))
    worker.submit(job(1.0, received_ns=now, at_ns=now + 41_000_000, done=endings))
    with pytest.raises(
        ResourceExhausted, match=r"40\.0 ms of work wait; its answer is expected in 50\.0 ms"
    ) as refused:
        worker.submit(job(1.0, received_ns=now, at_ns=now + 50_000_000, done=endings))
    assert refused.value.retry_after_s == 0.040
    worker.close()


def test_work_ahead_of_requests_with_many_rows_is_not_counted_by_row_where_batching_is_off() -> None:
    clock = ManualClock()
    servable = RecordingServable(before=lambda _: clock.advance(0.010))
    worker = _worker(servable, WorkerOptions(batching=False), clock)
    worker.warm_up({"x": tensor(*range(8))}, 8)
    now = clock()
    worker.submit(job(*range(8), received_ns=now))
    worker.submit(job(*range(8), received_ns=now, at_ns=now + 21_000_000))
    assert worker.waiting == 2
    worker.close()


# Failures.


def _refuse_13(values: list[float]) -> None:
    if 13.0 in values:
        raise InvalidArgument("13 is not welcome")


def test_one_bad_request_fails_alone_and_never_its_batch() -> None:
    servable = RecordingServable(before=_refuse_13)
    worker, endings = _inline(servable), Endings()
    _submit(worker, endings, 12.0, 13.0, 14.0)
    worker.flush()
    assert [type(each) for each in endings.errors] == [type(None), InvalidArgument, type(None)]
    assert endings.errors[1] is not None
    assert endings.errors[1].message == "model 'fake' version 3: 13 is not welcome"
    assert servable.calls == [[12.0, 13.0, 14.0], [12.0], [13.0], [14.0]]


def test_strange_exception_becomes_an_internal_error_that_names_the_model() -> None:
    def broken(_: list[float]) -> None:
        raise ZeroDivisionError("no")

    worker, endings = _worker(RecordingServable(before=broken), THREADS), Endings()
    _submit(worker, endings, 1.0)
    worker.flush()
    endings.wait(1)
    assert isinstance(endings.errors[0], Internal)
    assert endings.errors[0].message == "model 'fake' version 3: ZeroDivisionError: no"
    worker.close()


def test_request_that_expires_while_a_failed_batch_is_tried_again_is_not_computed() -> None:
    clock = ManualClock()

    def slow(values: list[float]) -> None:
        clock.advance(0.010)
        _refuse_13(values)

    servable = RecordingServable(before=slow)
    worker, endings = _worker(servable, THREADS, clock), Endings()
    worker.submit(job(13.0, done=endings))
    worker.submit(job(1.0, at_ns=NOW + 10_000_000, done=endings))
    worker.flush()
    endings.wait(2)
    assert servable.calls == [[1.0, 13.0], [13.0]]
    assert [type(each) for each in endings.errors] == [DeadlineExceeded, InvalidArgument]
    worker.close()


@pytest.mark.parametrize("options", [THREADS, WorkerOptions()], ids=["thread", "inline"])
def test_caller_that_fails_on_its_answer_costs_nobody_else_theirs(options: WorkerOptions) -> None:
    def broken(_: Job) -> None:
        raise RuntimeError("the event loop is closed")

    worker, endings = _inline(RecordingServable(), options), Endings()
    worker.submit(job(1.0, done=broken))
    _submit(worker, endings, 2.0)
    worker.flush()
    endings.wait(1)
    _submit(worker, endings, 3.0)
    worker.flush()
    endings.wait(2)
    assert [answer(each) for each in endings.jobs] == [[4.0], [6.0]]
    worker.close()


# Closing.


def test_close_fails_what_waits_and_lets_what_runs_finish() -> None:
    gate = Gate()
    servable = RecordingServable(before=gate)
    worker, endings = _worker(servable, THREADS), Endings()
    _submit(worker, endings, 1.0)
    worker.flush()
    gate.wait_entered()
    _submit(worker, endings, 2.0, 3.0)
    worker.close()
    assert [type(each) for each in endings.errors] == [Unavailable, Unavailable]
    gate.open()
    endings.wait(3)
    assert answer(endings.jobs[2]) == [2.0]
    with pytest.raises(Unavailable, match="is being unloaded"):
        worker.submit(job())


def test_closed_worker_leaves_no_thread_behind() -> None:
    servable = RecordingServable()
    worker, endings = _worker(servable, WorkerOptions(instances=2, inline_us_max=0)), Endings()
    before = set(threading.enumerate())
    for value in range(4):
        _submit(worker, endings, value)
        worker.flush()
    endings.wait(4)
    worker.close()
    for each in set(threading.enumerate()) - before:
        each.join(10)
        assert not each.is_alive()


# Statistics and estimates.


def test_ledger_says_how_long_a_request_waited_and_computed() -> None:
    clock = ManualClock()
    servable = RecordingServable(before=lambda _: clock.advance(0.010))
    statistics = ModelStatistics()
    worker, endings = Worker("fake", 3, servable, THREADS, clock, statistics), Endings()
    worker.submit(job(1.0, done=endings, received_ns=clock()))
    clock.advance(0.004)
    worker.flush()
    endings.wait(1)
    ledger = endings.jobs[0].ledger
    assert (ledger.queue_ns, ledger.compute_ns, ledger.total_ns) == (4_000_000, 10_000_000, 14_000_000)
    assert (statistics.executions, statistics.rows, statistics.success.total_ns) == (1, 1, 14_000_000)
    assert worker.expected_us(1) == 10_000
    worker.close()


def test_warm_up_teaches_the_estimate_and_is_not_counted() -> None:
    clock, statistics = ManualClock(), ModelStatistics()
    waits = iter([1.0, 0.002])
    servable = RecordingServable(before=lambda _: clock.advance(next(waits)))
    worker = Worker("fake", 3, servable, WorkerOptions(), clock, statistics)
    worker.warm_up({"x": tensor(0.0, 0.0)}, 2)
    assert worker.expected_us(2) == 2000
    assert statistics.executions == 0


# Streams.


def test_streaming_servable_gives_its_parts_in_order_and_then_ends() -> None:
    servable, parts = CountdownServable(), list[Response]()
    worker, endings = _worker(servable, WorkerOptions()), Endings()
    worker.submit(job(3.0, part=parts.append, done=endings))
    worker.flush()
    endings.wait(1)
    assert worker.streams
    assert [float(each.outputs["y"].array[0, 0]) for each in parts] == [3, 2, 1]
    assert all(each.ledger.queue_ns >= 0 for each in parts)
    assert endings.errors == [None]
    assert servable.stream_closed.is_set()
    worker.close()


def test_stream_cancelled_midway_stops_computing_and_is_closed() -> None:
    servable, gate = CountdownServable(), Gate()
    worker, endings = _worker(servable, WorkerOptions()), Endings()
    streaming = job(1000.0, part=gate, done=endings)
    worker.submit(streaming)
    worker.flush()
    gate.wait_entered()
    streaming.cancel()
    gate.open()
    endings.wait(1)
    assert isinstance(endings.errors[0], Cancelled)
    assert servable.sent == [1000, 999]
    assert servable.stream_closed.is_set()
    worker.close()


def test_stream_whose_deadline_passes_midway_stops() -> None:
    clock, servable = ManualClock(), CountdownServable()
    worker, endings = _worker(servable, WorkerOptions(), clock), Endings()
    worker.submit(job(1000.0, part=lambda _: clock.advance(0.004), at_ns=NOW + 10_000_000, done=endings))
    worker.flush()
    endings.wait(1)
    assert isinstance(endings.errors[0], DeadlineExceeded)
    assert len(servable.sent) == 4
    assert servable.stream_closed.is_set()
    worker.close()


def test_reader_that_fails_ends_its_stream_with_an_error() -> None:
    def broken(_: Response) -> None:
        raise ConnectionResetError("gone")

    servable = CountdownServable()
    worker, endings = _worker(servable, WorkerOptions()), Endings()
    worker.submit(job(5.0, part=broken, done=endings))
    worker.flush()
    endings.wait(1)
    assert isinstance(endings.errors[0], Internal)
    assert servable.stream_closed.is_set()
    worker.close()


def test_stream_without_end_can_be_warmed_up() -> None:
    servable = CountdownServable()
    _worker(servable, WorkerOptions()).warm_up({"x": tensor(1e9)}, 1)
    assert servable.sent == [1e9, 1e9]
    assert servable.stream_closed.is_set()


def test_unary_request_to_a_streaming_servable_is_executed() -> None:
    servable = CountdownServable()
    worker, endings = _worker(servable, WorkerOptions()), Endings()
    _submit(worker, endings, 4.0)
    worker.flush()
    endings.wait(1)
    assert answer(endings.jobs[0]) == [8.0]
    assert servable.sent == []
    worker.close()


def test_last_inference_is_stamped_with_the_time_of_day() -> None:
    statistics = ModelStatistics()
    worker, endings = Worker("fake", 3, RecordingServable(), THREADS, ManualClock(), statistics), Endings()
    _submit(worker, endings, 1.0)
    worker.flush()
    endings.wait(1)
    assert abs(statistics.last_inference_ms / 1000 - time.time()) < 60
    worker.close()


def test_thread_without_work_holds_no_request() -> None:
    worker, ended, freed = _worker(RecordingServable(), THREADS), threading.Event(), threading.Event()
    only = job(1.0, done=lambda _: ended.set())
    weakref.finalize(only.request.inputs["x"].array, freed.set)
    worker.submit(only)
    worker.flush()
    assert ended.wait(PATIENCE_S)
    del only
    assert freed.wait(PATIENCE_S), "the thread that waits for the next batch keeps the last one"
    worker.close()
