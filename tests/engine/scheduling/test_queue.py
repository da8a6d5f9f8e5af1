"""The queue against a sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.scheduling.job import Job
from engine.scheduling.queue import Queue
from tests.fakes import job

deadlines = st.lists(st.none() | st.integers(0, 5), max_size=30)


def _filled(at_ns: list[int | None]) -> tuple[Queue, list[Job]]:
    queue = Queue()
    jobs = [job(*range(1 + index % 3), at_ns=each) for index, each in enumerate(at_ns)]
    for each in jobs:
        queue.push(each)
    return queue, jobs


@given(deadlines)
def test_jobs_leave_by_deadline_and_then_by_arrival_as_a_stable_sort_would_have_them(at_ns: list[int | None]) -> None:
    queue, jobs = _filled(at_ns)
    expected = sorted(jobs, key=lambda each: each.deadline_ns)
    for each in expected:
        assert queue.head() is each
        assert queue.pop() is each
    assert len(queue) == queue.rows == queue.bytes_size == 0


@given(deadlines, st.data())
def test_removal_keeps_order_and_counts(at_ns: list[int | None], data: st.DataObject) -> None:
    queue, jobs = _filled(at_ns)
    unwanted = set(data.draw(st.lists(st.sampled_from(jobs)))) if jobs else set()
    gone = queue.remove(lambda each: each in unwanted)
    kept = [each for each in jobs if each not in unwanted]
    assert set(gone) == unwanted
    assert len(gone) == len(unwanted)
    assert len(queue) == len(kept)
    assert queue.rows == sum(each.rows for each in kept)
    assert queue.bytes_size == sum(each.bytes_size for each in kept)
    assert [queue.pop() for _ in kept] == sorted(kept, key=lambda each: each.deadline_ns)


def test_job_that_becomes_unwanted_during_removal_is_not_lost() -> None:
    queue, jobs = _filled([None] * 4)
    asked: list[Job] = []

    def unwanted(each: Job) -> bool:
        asked.append(each)
        return asked.count(each) > 1 or each is jobs[0]

    assert queue.remove(unwanted) == [jobs[0]]
    assert len(queue) == 3
    assert queue.rows == sum(each.rows for each in jobs[1:])


@given(st.lists(st.booleans(), max_size=60))
def test_counts_follow_any_order_of_push_and_pop(pushes: list[bool]) -> None:
    queue, inside = Queue(), list[Job]()
    for push in pushes:
        if push or not inside:
            inside.append(job(1.0, 2.0))
            queue.push(inside[-1])
        else:
            inside.remove(queue.pop())
        assert (len(queue), queue.rows) == (len(inside), 2 * len(inside))
        assert queue.bytes_size == 8 * len(inside)
