"""Answers a graph's request, and leaves its records: those that are to be durable before the answer, the others after it."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from engine.clock import wall_us
from engine.errors import Internal, VireoError
from engine.graph.call import Values
from engine.graph.plan import Plan
from engine.graph.record_rows import Origin, RecordMaker, RecordRows
from engine.graph.records import RecordWriter
from engine.request import Ledger, Response
from engine.scheduling.job import Job

log = logging.getLogger("vireo.graph")


class Delivery:
    """Of one plan. `writer` gives the writer of a log, `flush` computes what an answer from its thread made ripe. Any thread."""

    def __init__(self, plan: Plan, writer: Callable[[str], RecordWriter], flush: Callable[[], None]) -> None:
        self._graph, self._flush = plan.name, flush
        made = [(RecordMaker(plan, each), writer(each.log)) for each in plan.records]
        self._durable = tuple(each for each in made if each[0].record.durable)
        self._later = tuple(each for each in made if not each[0].record.durable)

    def answer(self, job: Job, response: Response, values: Values, part: slice | None = None) -> None:
        """Finishes `job` with `response`, made of `values`, of which `part` is its own where others went with it.

        Whatever goes wrong, the job ends once.
        """
        if not self._durable and not self._later:
            job.finish(response)
            return
        at_us = wall_us()
        try:
            durable = _rows(self._durable, values, response, at_us, part)
            later = _rows(self._later, values, response, at_us, part)
        except Exception as error:
            log.exception("graph %s: records could not be made", self._graph)
            job.finish(Internal(f"graph '{self._graph}': internal error in its records: {type(error).__name__}"))
            return

        def finish(error: VireoError | None) -> None:
            if error is not None:
                job.finish(type(error)(f"graph '{self._graph}', {error.message}", retry_after_s=error.retry_after_s))
                return
            job.finish(response)
            for rows, writer in later:
                writer.offer(rows)

        def finish_elsewhere(error: VireoError | None) -> None:
            finish(error)
            self._flush()

        if durable:
            _append(durable, finish_elsewhere)
        else:
            finish(None)

    def answer_all(self, jobs: Sequence[Job], responses: Sequence[Response], values: Values, ledger: Ledger) -> None:
        """As `answer`, for requests that went through together, `values` and `ledger` being the run's: what nobody waits for is
        left once for all of them."""
        if not self._durable and not self._later:
            for job, response in zip(jobs, responses, strict=True):
                job.finish(response)
            return
        stops = list(itertools.accumulate(each.rows for each in jobs))
        try:
            alone = self._left_durably(values, stops)
            later = self._later_of_all(responses, values, ledger, stops, alone)
        except Exception:  # some of them can't be recorded: each finds out for itself
            log.exception("graph %s: records could not be made of requests together", self._graph)
            alone, later = [True] * len(jobs), []
        for job, response, stop, apart in zip(jobs, responses, stops, alone, strict=True):
            if apart:
                self.answer(job, response, values, slice(stop - job.rows, stop))
            else:
                job.finish(response)
        for rows, writer in later:
            writer.offer(rows)

    def _left_durably(self, values: Values, stops: Sequence[int]) -> list[bool]:
        """Which of the requests have rows that are to be safe before they are answered."""
        durable = np.zeros(stops[-1], np.bool_)
        for maker, _ in self._durable:
            durable[maker.chosen_of(values, stops[-1])] = True
        if not durable.any():
            return [False] * len(stops)
        return [bool(durable[start:stop].any()) for start, stop in itertools.pairwise([0, *stops])]

    def _later_of_all(
        self, responses: Sequence[Response], values: Values, ledger: Ledger, stops: Sequence[int], alone: Sequence[bool]
    ) -> list[Left]:
        if not self._later or all(alone):
            return []
        origins = [
            Origin(each.id, each.marks, each.ledger.total_ns, stop)
            for each, stop in zip(responses, stops, strict=True)
        ]  # fmt: skip
        left_out = None
        if any(alone):
            left_out = np.repeat(np.array(alone), np.diff(stops, prepend=0))
        at_us = wall_us()
        found = [(maker.of_all(values, ledger, origins, at_us, left_out), writer) for maker, writer in self._later]
        return [(rows, writer) for rows, writer in found if rows is not None]


Left = tuple[RecordRows, RecordWriter]


def _rows(
    makers: Sequence[tuple[RecordMaker, RecordWriter]],
    values: Values,
    response: Response,
    at_us: int,
    part: slice | None,
) -> list[Left]:
    found = [(maker.of(values, response, at_us, part), writer) for maker, writer in makers]
    return [(rows, writer) for rows, writer in found if rows is not None]


def _append(durable: Sequence[Left], finish: Callable[[VireoError | None], None]) -> None:
    """Appends all of them, and calls `finish` once: when the last is safe, with the first error where there was one."""
    lock = threading.Lock()
    left, errors = len(durable), list[VireoError]()

    def done(error: VireoError | None) -> None:
        nonlocal left
        with lock:
            left -= 1
            errors.extend([] if error is None else [error])
            last = not left
        if last:
            finish(errors[0] if errors else None)

    for rows, writer in durable:
        writer.append_durably(rows, done)
