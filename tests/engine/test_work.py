"""What a servable may ask about the batch it computes, and how it is interrupted."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import pytest

import engine
from engine import Deadline, Job, ModelStatistics, Request, Work, current_work
from engine.scheduling.worker import Worker, WorkerOptions
from engine.work import here, interruptible_work
from tests.fakes import Endings, ManualClock, RecordingServable, answer, job, tensor

NOW = 1_000_000_000


def _worker(servable: RecordingServable, options: WorkerOptions | None = None) -> Worker:
    worker = Worker("fake", 1, servable, options or WorkerOptions(), ManualClock(), ModelStatistics())
    worker.warm_up({"x": tensor(0.0)}, 1)
    return worker


def _traced(trace: str | None, at_ns: int | None) -> Job:
    made = job(1.0, at_ns=at_ns)
    made.request = Request("fake", made.request.inputs, trace=trace)
    return made


@pytest.mark.parametrize(
    ("jobs", "stopped"),
    [
        ([job(at_ns=NOW + 1)], False),
        ([job(at_ns=NOW)], True),
        ([job(at_ns=NOW), job()], False),
        ([job(at_ns=NOW), job(at_ns=NOW - 1)], True),
    ],
)
def test_work_is_stopped_when_every_job_is_past_its_deadline_or_cancelled(jobs: list[Job], stopped: bool) -> None:
    work = Work(jobs, ManualClock(NOW))
    assert work.stopped == stopped
    for each in jobs:
        each.cancel()
    assert work.stopped


def test_work_tells_the_latest_deadline_and_the_trace_of_its_first_job() -> None:
    work = Work([_traced("00-a-b-01", 5), _traced(None, 9)], ManualClock())
    assert (work.deadline, work.trace) == (Deadline(9), "00-a-b-01")
    assert Work([job(at_ns=4), job()], ManualClock()).deadline == Deadline.NEVER


def _told(jobs: Sequence[Job]) -> tuple[Work, list[str]]:
    return Work(jobs, ManualClock()), []


def test_work_is_interrupted_when_the_last_of_its_jobs_is_cancelled_and_not_before() -> None:
    jobs = [job(), job()]
    work, told = _told(jobs)
    with work.interrupting(lambda: told.append("now")):
        jobs[1].cancel()
        assert told == []
        jobs[0].cancel()
        assert told == ["now"]


def test_work_cancelled_before_it_could_be_interrupted_is_interrupted_at_once() -> None:
    jobs = [job()]
    jobs[0].cancel()
    work, told = _told(jobs)
    with work.interrupting(lambda: told.append("now")):
        assert told == ["now"]


def test_work_that_has_ended_is_not_interrupted_any_more() -> None:
    jobs = [job()]
    work, told = _told(jobs)
    with work.interrupting(lambda: told.append("now")):
        pass
    jobs[0].cancel()
    assert told == []


@pytest.mark.parametrize("inline_us_max", [0, 1000], ids=["thread", "inline"])
def test_servable_sees_its_own_jobs_and_nobody_else_does(inline_us_max: int) -> None:
    seen: list[tuple[str | None, Deadline, bool] | None] = []

    def look(_: list[float]) -> None:
        work = engine.current_work()
        seen.append((work.trace, work.deadline, interruptible_work() is None) if work else None)

    worker, endings = _worker(RecordingServable(before=look), WorkerOptions(inline_us_max=inline_us_max)), Endings()
    assert seen == [None, None]  # the warm-up's
    only = _traced("00-a-b-01", NOW + 10)
    only.done = endings
    worker.submit(only)
    worker.flush()
    endings.wait(1)
    assert seen[2:] == [("00-a-b-01", Deadline(NOW + 10), inline_us_max > 0)]
    assert current_work() is None
    worker.close()


def test_servable_that_calls_another_sees_its_own_work_again() -> None:
    traces: list[str | None] = []

    def note(_: list[float]) -> None:
        work = current_work()
        traces.append(work.trace if work else None)

    inner = _worker(RecordingServable(before=note))

    def call_inner(values: list[float]) -> None:
        if current_work() is not None:
            inner.submit(_traced("inner", None))
            inner.flush()
        note(values)

    outer = _worker(RecordingServable(before=call_inner))
    traces.clear()
    outer.submit(_traced("outer", None))
    outer.flush()
    assert traces == ["inner", "outer"]


def test_callers_of_answers_and_failures_are_told_outside_of_any_work() -> None:
    def fail_two(values: list[float]) -> None:
        if values == [2.0]:
            raise ValueError("two")

    worker = _worker(RecordingServable(before=fail_two))
    seen: list[object] = []
    for value in (1.0, 2.0):
        worker.submit(job(value, done=lambda _: seen.append(current_work())))
        worker.flush()
    assert seen == [None, None]


def test_thread_keeps_nothing_of_the_work_it_has_done() -> None:
    worker = _worker(RecordingServable())
    only = job(1.0)
    freed = weakref.ref(only.request.inputs["x"].array)
    worker.submit(only)
    worker.flush()
    assert answer(only) == [2.0]
    assert here.batch is None
    del only
    assert freed() is None


def test_work_of_one_thread_is_not_seen_by_another() -> None:
    seen: list[Work | None] = []

    def look(_: list[float]) -> None:
        other = threading.Thread(target=lambda: seen.append(current_work()))
        other.start()
        other.join()

    worker = _worker(RecordingServable(before=look))
    seen.clear()
    worker.submit(job(1.0))
    worker.flush()
    assert seen == [None]


def test_interrupt_from_the_keyboard_leaves_no_work_on_the_callers_thread() -> None:
    def interrupted(values: list[float]) -> None:
        if values == [3.0]:
            raise KeyboardInterrupt

    worker = _worker(RecordingServable(before=interrupted))
    with pytest.raises(KeyboardInterrupt):
        worker.run_at_once(job(3.0))
    assert current_work() is None
    assert worker.run_at_once(job(4.0))
