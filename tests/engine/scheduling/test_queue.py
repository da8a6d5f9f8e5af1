"""The queue against a sorted list, and its two classes against a naive reckoning of their shares."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from operator import is_

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import BATCH, INTERACTIVE
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


@settings(deadline=None)
@given(deadlines)
def test_jobs_leave_by_deadline_and_then_by_arrival_as_a_stable_sort_would_have_them(at_ns: list[int | None]) -> None:
    queue, jobs = _filled(at_ns)
    expected = sorted(jobs, key=lambda each: each.deadline_ns)
    for each in expected:
        assert queue.head() is each
        assert queue.pop() is each
    assert len(queue) == queue.rows == queue.bytes_size == 0


@settings(deadline=None)
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


@settings(deadline=None)
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


# Two classes.

shares = st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0])
made = st.lists(st.tuples(st.sampled_from([INTERACTIVE, BATCH]), st.integers(1, 5), st.integers(0, 4)), max_size=40)


def _job(priority: int, rows: int, at_ns: int) -> Job:
    return job(*range(rows), at_ns=at_ns, priority=priority)


class NaiveQueue:
    """Two lists, sorted anew for every question, and what the batch class is owed as a fraction of a row."""

    def __init__(self, share: Fraction) -> None:
        self.waiting: list[Job] = []
        self._share, self._owed = share, Fraction(0)

    def of(self, priority: int) -> list[Job]:
        """Those of one class, the most urgent first."""
        return sorted([each for each in self.waiting if each.request.priority == priority], key=lambda j: j.deadline_ns)

    def pop(self) -> Job:
        """Interactive, unless what the batch class is owed pays for its next job."""
        hurried, patient = self.of(INTERACTIVE), self.of(BATCH)
        if not hurried or not patient:
            taken = (hurried or patient)[0]
        elif self._owed >= (1 - self._share) * patient[0].rows:
            taken = patient[0]
            self._owed -= (1 - self._share) * taken.rows
        else:
            taken = hurried[0]
            self._owed += self._share * taken.rows
        self.leave([taken])
        return taken

    def leave(self, gone: list[Job]) -> None:
        """These wait no more."""
        self.waiting = [each for each in self.waiting if each not in gone]
        if not self.of(BATCH):
            self._owed = Fraction(0)


@settings(deadline=None)
@given(shares, made, st.data())
def test_two_classes_leave_in_the_order_of_a_naive_queue(
    share: float, made: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    queue, naive = Queue(share), NaiveQueue(Fraction(str(share)))
    coming = [_job(*each) for each in made]
    while coming or naive.waiting:
        left = ["pop", "pop", "remove", "expire"] * bool(naive.waiting)
        turn = data.draw(st.sampled_from(["push"] * bool(coming) + left))
        if turn == "push":
            queue.push(coming[0])
            naive.waiting.append(coming.pop(0))
        elif turn == "pop":
            head = queue.head()
            assert queue.pop() is head
            assert naive.pop() is head
        elif turn == "expire":
            at_ns = data.draw(st.integers(-1, 4))
            expired = [each for each in naive.waiting if each.deadline_ns <= at_ns]
            gone = queue.expire(at_ns)
            assert len(gone) == len(expired)
            assert set(gone) == set(expired)
            naive.leave(expired)
        else:
            victim = data.draw(st.sampled_from(naive.waiting))
            assert queue.remove(partial(is_, victim)) == [victim]
            naive.leave([victim])
        batch = naive.of(BATCH)
        assert len(queue) == queue.requests == len(naive.waiting)
        assert queue.rows == sum(each.rows for each in naive.waiting)
        assert queue.bytes_size == sum(each.bytes_size for each in naive.waiting)
        assert (queue.batch_requests, queue.batch_rows) == (len(batch), sum(each.rows for each in batch))
        assert queue.batch_bytes_size == sum(each.bytes_size for each in batch)
        assert queue.has_interactive == (len(batch) < len(queue))


@settings(deadline=None)
@given(
    shares, st.lists(st.integers(1, 5), min_size=20, max_size=60), st.lists(st.integers(1, 5), min_size=20, max_size=60)
)
def test_while_both_wait_each_class_gets_its_share_to_within_one_job(
    share: float, hurried: list[int], patient: list[int]
) -> None:
    queue = Queue(share)
    for priority, sizes in ((INTERACTIVE, hurried), (BATCH, patient)):
        for rows in sizes:
            queue.push(_job(priority, rows, 0))
    taken = [0, 0]
    while queue.has_interactive and queue.batch_requests:
        each = queue.pop()
        taken[each.request.priority] += each.rows
        due = Fraction(str(share)) * sum(taken)
        assert due - 10 < taken[BATCH] <= due + 5 * (share == 1.0)


def test_interactive_jobs_go_first_and_a_tenth_of_the_rows_is_of_the_batch_class() -> None:
    queue = Queue()
    for priority in (BATCH, INTERACTIVE):
        for _ in range(30):
            queue.push(_job(priority, 1, 0))
    assert [queue.pop().request.priority for _ in range(20)] == ([INTERACTIVE] * 9 + [BATCH]) * 2


@settings(deadline=None)
@given(shares, made, st.integers(0, 20), st.sampled_from([INTERACTIVE, BATCH]))
def test_what_is_ahead_of_a_newcomer_is_what_leaves_before_it(
    share: float, made: list[tuple[int, int, int]], popped: int, priority: int
) -> None:
    queue = Queue(share)
    for each in made:
        queue.push(_job(*each))
    for _ in range(min(popped, len(queue))):
        queue.pop()
    requests, rows = queue.ahead(priority)
    newcomer = _job(priority, 1, 9)
    queue.push(newcomer)
    before: list[Job] = []
    while (left := queue.pop()) is not newcomer:
        before.append(left)
    assert abs(rows - sum(each.rows for each in before)) < 5  # the last of the other class counts in part
    assert abs(requests - len(before)) <= len([each for each in made if each[0] != priority])


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_what_the_batch_class_was_owed_is_forgotten_when_none_of_it_waits(share: float) -> None:
    queue = Queue(share)
    for _ in range(50):
        queue.push(_job(INTERACTIVE, 1, 0))
    patient = _job(BATCH, 5, 0)
    queue.push(patient)
    for _ in range(30):
        queue.pop()
    queue.remove(lambda each: each is patient)
    queue.push(_job(BATCH, 1, 0))
    assert (queue.pop().request.priority == INTERACTIVE) == (share < 1)
