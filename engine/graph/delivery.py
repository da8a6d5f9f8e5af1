"""Answers a graph's request, and leaves its records: those that are to be durable before the answer, the others after it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from engine.clock import wall_us
from engine.errors import Internal, VireoError
from engine.graph.call import Values
from engine.graph.plan import Plan
from engine.graph.record_rows import RecordMaker, RecordRows
from engine.graph.records import RecordWriter
from engine.request import Response
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
