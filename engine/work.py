"""What a servable may ask about the batch it computes: whether anybody still waits for it, until when, and for which trace.

A worker notes on its thread which jobs run there, one store a batch; what is asked of them is found out when it is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from engine.clock import Clock, Deadline
from engine.request import Stage
from engine.scheduling.job import Job


class Work:
    """The jobs of one batch while it runs. For the thread that computes it."""

    __slots__ = ("_clock", "_jobs")

    def __init__(self, jobs: Sequence[Job], clock: Clock) -> None:
        self._jobs, self._clock = jobs, clock

    @property
    def stopped(self) -> bool:
        """Whether nobody waits any more: every job is cancelled or past its deadline."""
        now_ns = self._clock()
        return all(each.cancelled or each.deadline_ns <= now_ns for each in self._jobs)

    @property
    def deadline(self) -> Deadline:
        """The latest of its jobs' deadlines, on the engine's clock."""
        return Deadline(max(each.deadline_ns for each in self._jobs))

    @property
    def trace(self) -> str | None:
        """The W3C traceparent of its first job."""
        return self._jobs[0].request.trace

    @property
    def priority(self) -> int:
        """The class of its first job."""
        return self._jobs[0].request.priority

    def tell_stages(self, stages: tuple[Stage, ...]) -> None:
        """Enters into each job's ledger what the batch consisted of."""
        for each in self._jobs:
            each.ledger.stages_of = lambda: stages

    def tell_marks(self, marks: tuple[str, ...]) -> None:
        """Says of each job's answer where it is less than it might be: see `Response.marks`."""
        for each in self._jobs:
            each.marks = marks

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within this, `interrupt` is called once every job has been cancelled: on a canceller's thread, perhaps more than
        once, and perhaps just after. Passed deadlines are cancelled by who waits.
        """

        def cancelled() -> None:
            if all(each.cancelled for each in self._jobs):
                interrupt()

        for each in self._jobs:
            each.on_cancel = cancelled
        try:
            cancelled()  # the last may have been while the first were still to be told
            yield
        finally:
            for each in self._jobs:
                each.on_cancel = None


class _Here(threading.local):
    """What runs on this thread. `batch`: its jobs and their clock; `own`: the thread is a worker's, not a caller's; `errand`: it
    has something else to do that must not wait, so that even what is short is left to a worker's own thread."""

    batch: tuple[Sequence[Job], Clock] | None = None
    own: bool = False
    errand: bool = False


here = _Here()
"""Written by workers, and `errand` by threads that only bring news."""


def current_work() -> Work | None:
    """What this thread computes; None where it computes nothing, as in a warm-up."""
    batch = here.batch
    return None if batch is None else Work(*batch)


def interruptible_work() -> Work | None:
    """The same where it can be interrupted: on a worker's own thread. On a caller's thread it is short, and who would cancel
    it is waiting for this thread.
    """
    return current_work() if here.own else None
