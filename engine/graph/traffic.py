"""Runs one traffic split: each request goes to one variant, chosen by its key or by chance. To the engine, and to graphs, it is
what a worker is.

A request is handed on as it is, by reference; only rows whose keys fall to different variants are taken apart and put together
again. What else a split does (telling who got what, copies for shadows) it does after the caller has been answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

import numpy as np

from engine.clock import NEVER_NS, Clock
from engine.errors import Cancelled, Internal, InvalidArgument, Unavailable, VireoError
from engine.graph.assignment import Assignment, keys_of
from engine.graph.exposure import Exposure
from engine.graph.joint import least_bounds
from engine.graph.merge import Indexes, merge, rows_at
from engine.graph.port import NodePort
from engine.graph.shadow import Shadows
from engine.graph.traffic_plan import REQUEST_ID, PlannedVariant, TrafficPlan, resolve_traffic
from engine.request import Ledger, Request, Response, Stage
from engine.scheduling.batcher import BatchBounds
from engine.scheduling.job import Job
from engine.telemetry import BatchTimes, ModelStatistics

__all__ = ["TrafficPlan", "TrafficRunner", "VariantStatistics", "resolve_traffic"]

log = logging.getLogger("vireo.graph")

Keys = list[bytes] | None


@dataclass(frozen=True, slots=True)
class VariantStatistics:
    """Requests that a variant was given, in whole or some rows of, and how many of them failed."""

    requests: int
    failed: int


class VariantJob(Job):
    """What one variant gets of a request: all of it, or the rows `rows_of`."""

    __slots__ = ("keys", "rows_of", "split", "variant")

    split: Forward
    variant: int
    keys: Keys
    rows_of: Indexes | None


class Forward:
    """One request on its way: `ended` is told of each of its jobs, on any thread."""

    __slots__ = ("_left", "_lock", "jobs", "parent", "runner")

    def __init__(self, runner: TrafficRunner, parent: Job) -> None:
        self.runner, self.parent = runner, parent
        self.jobs: list[VariantJob] = []
        self._left = 0
        self._lock = threading.Lock()

    def expect(self, jobs: list[VariantJob]) -> None:
        """These are on their way."""
        self.jobs, self._left = jobs, len(jobs)

    def ended(self, job: VariantJob) -> None:
        """Answers when all have."""
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self.runner.answer(self)
        elif job.error is not None:
            self.cancel()

    def cancel(self) -> None:
        """Nobody waits any more."""
        for job in self.jobs:
            job.cancel()

    def pass_on(self, response: Response) -> None:
        """One of many responses of a variant that streams."""
        parent = self.parent
        assert parent.part is not None
        name = self.runner.plan.name
        parent.part(Response(name, 1, response.outputs, parent.ledger, parent.request.id, response.marks))


class TrafficRunner:
    """Methods may be called from any thread. `ripen` lets the engine flush a port later, `flush` does so now.

    `expose` is told who got what, after the answer; it must be quick. `shadows` gets the copies.
    """

    def __init__(
        self,
        plan: TrafficPlan,
        *,
        clock: Clock,
        statistics: ModelStatistics,
        random: Random,
        ripen: Callable[[NodePort], None],
        flush: Callable[[], None],
        expose: Callable[[Exposure], None] | None = None,
        shadows: Shadows | None = None,
    ) -> None:
        self.plan, self._clock, self._random = plan, clock, random
        self._ripen, self._flush = ripen, flush
        self._expose, self.shadows = expose, shadows
        self.statistics = statistics
        self.streams, self.batchable = plan.streams, plan.signature.batchable
        self.nested = True
        self._assignment = Assignment(plan.name, [each.weight for each in plan.variants])
        total = sum(each.weight for each in plan.variants)
        self._shares = [(each.weight / total, each.target.port) for each in plan.variants if each.weight]
        self._forwards: set[Forward] = set()
        self._lock = threading.Lock()
        self._counts = [[0, 0] for _ in plan.variants]
        self._closed = False

    # What a worker offers.

    @property
    def joint(self) -> BatchBounds | None:
        """See `NodePort`: only where each row's own key decides, and nobody is told of requests."""
        plan = self.plan
        if plan.key in (None, REQUEST_ID) or plan.exposures is not None or not self.batchable or self.streams:
            return None
        return least_bounds([each.target.port for each in plan.variants], plan.signature.rows_max)

    @property
    def waiting(self) -> int:
        """Requests in the split now."""
        return len(self._forwards)

    def expected_us(self, rows: int) -> float | None:
        """Microseconds a request is expected to take; None before its variants have run."""
        expected_ns = self.expected_ns(rows)
        return expected_ns / 1e3 if expected_ns else None

    def expected_ns(self, rows: int) -> int:
        """Nanoseconds: the mean over the variants by their weights, since one rare and slow says little of most requests."""
        return int(sum(share * port.expected_ns(rows) for share, port in self._shares))

    def submit(self, job: Job) -> None:
        """Hands a request on to wait at its variant. Raises what it is refused with."""
        self._begin(job, at_once=False)

    def run_at_once(self, job: Job) -> bool:
        """Runs a request here and now where that is short, else on other threads. Raises what it is refused with."""
        self._begin(job, at_once=True)
        return True

    def flush(self) -> None:
        """Computes what waits at the variants."""
        self._flush()

    def keep_off_callers(self) -> None:
        """Variants that may hang are computed on threads of their own from now on."""
        for each in self.plan.variants:
            if each.target.may_hang:
                each.target.port.keep_off_callers()

    def traffic(self) -> Mapping[str, VariantStatistics]:
        """What each variant was given so far."""
        with self._lock:
            return {
                each.name: VariantStatistics(*counted)
                for each, counted in zip(self.plan.variants, self._counts, strict=True)
            }

    def close(self) -> None:
        """Refuses what comes from now on; what runs is left to finish. Returns when no shadow of it runs."""
        self._closed = True
        if self.shadows is not None:
            self.shadows.close()

    # A request goes out.

    def _begin(self, job: Job, *, at_once: bool) -> None:
        if self._closed:
            raise Unavailable(f"split '{self.plan.name}' is being replaced")
        forward = Forward(self, job)
        forward.expect(self._jobs(forward, job))
        self._forwards.add(forward)
        job.on_cancel = forward.cancel
        if job.cancelled:  # before anybody would have heard of it
            forward.cancel()
        if len(forward.jobs) == 1:
            only = forward.jobs[0]
            try:
                self._send(only, at_once=at_once)
            except VireoError as error:
                self._forget(forward)
                self.statistics.refused()
                raise self._blamed(only, error) from None
            return
        for each in forward.jobs:
            try:
                self._send(each, at_once=at_once)
            except VireoError as error:  # others of it may run already: it ends when they have
                each.error = error
                forward.ended(each)

    def _send(self, job: VariantJob, *, at_once: bool) -> None:
        port = self.plan.variants[job.variant].target.port
        if not at_once:
            port.submit(job)
            self._ripen(port)
        elif not port.run_at_once(job):
            port.submit(job)
            port.flush()

    def _jobs(self, forward: Forward, job: Job) -> list[VariantJob]:
        """One job for each variant that gets something of the request."""
        keys = self._keys(job)
        if keys is None:
            return [self._job(forward, self._assignment.by_chance(self._random), None, None)]
        assigned = [self._assignment.of_key(each) for each in keys]
        if len(keys) == 1 or assigned.count(assigned[0]) == len(assigned):
            return [self._job(forward, assigned[0], keys, None)]
        if not self.batchable or job.part is not None:
            raise InvalidArgument(
                f"split '{self.plan.name}', key '{self.plan.key}': its {len(keys)} values fall to different variants, which "
                "takes a split whose variants batch and do not stream; send one value a request"
            )
        found = np.array(assigned)
        return [
            self._job(forward, int(variant), [keys[row] for row in rows], rows)
            for variant in np.unique(found)
            for rows in (np.flatnonzero(found == variant),)
        ]

    def _keys(self, job: Job) -> Keys:
        """The keys of a request, one a row or one for all; None where it brings none."""
        key, request = self.plan.key, job.request
        if key is None:
            return None
        if key == REQUEST_ID:
            return [request.id.encode("utf-8", "surrogatepass")] if request.id else None
        tensor = request.inputs.get(key)
        if tensor is None or not tensor.array.size:
            return None
        keys = keys_of(tensor.array)
        if self.batchable and len(keys) != job.rows:
            raise InvalidArgument(
                f"split '{self.plan.name}', key '{key}': {len(keys)} values for {job.rows} rows; a key is one value a row"
            )
        return keys

    def _job(self, forward: Forward, index: int, keys: Keys, rows_of: Indexes | None) -> VariantJob:
        whole, variant = forward.parent, self.plan.variants[index]
        asked, target = whole.request, variant.target
        inputs = asked.inputs
        if variant.drops:
            inputs = {name: each for name, each in inputs.items() if name not in variant.drops}
        if rows_of is not None:
            inputs = rows_at(inputs, rows_of)
        request = Request(
            target.name, inputs, target.version, asked.id, asked.outputs or variant.outputs, asked.deadline, asked.parameters,
            asked.layout if inputs is asked.inputs else None, asked.priority, asked.trace,
        )  # fmt: skip
        rows = whole.rows if rows_of is None else len(rows_of)
        if target.signature.batchable and not self.batchable:
            rows = target.signature.rows_of(request)
        job = VariantJob(request, rows, Ledger(whole.ledger.received_ns), _ended)
        job.deadline_ns = whole.deadline_ns
        if target.streams and whole.part is not None:
            job.part = forward.pass_on
        job.split, job.variant, job.keys, job.rows_of = forward, index, keys, rows_of
        return job

    # And comes back.

    def answer(self, forward: Forward) -> None:
        """All of its jobs have ended: so does the request."""
        job, jobs = forward.parent, forward.jobs
        self._count(jobs)
        outcome = self._outcome(job, jobs)
        self._forget(forward)
        if isinstance(outcome, VireoError):
            self._failed(job, outcome)
            return
        ledger = job.ledger
        times = BatchTimes(job.rows, 0, ledger.total_ns, 0)
        self.statistics.batch_done(times, [ledger], time.time_ns() // 1_000_000)
        job.finish(outcome)
        if self._expose is not None:
            self._tell(jobs, job.request.id, self._expose)
        if self.shadows is not None:
            self.shadows.offer(job, outcome)

    def _outcome(self, job: Job, jobs: Sequence[VariantJob]) -> Response | VireoError:
        failed = _first_failure(jobs)
        if failed is not None:
            assert failed.error is not None
            return self._blamed(failed, failed.error)
        try:
            return self._response(job, jobs)
        except Exception as error:  # whatever goes wrong here, the request must end
            if isinstance(error, VireoError):
                return error
            log.exception("split %s: an answer could not be made", self.plan.name)
            return Internal(f"split '{self.plan.name}': internal error: {type(error).__name__}")

    def _forget(self, forward: Forward) -> None:
        """It has ended. No cycle may keep it and its tensors until the garbage collector comes."""
        self._forwards.discard(forward)
        forward.parent.on_cancel = None
        forward.jobs = []

    def _count(self, jobs: Sequence[VariantJob]) -> None:
        with self._lock:
            for each in jobs:
                counted = self._counts[each.variant]
                counted[0] += 1
                if each.error is not None:
                    counted[1] += 1

    def _response(self, job: Job, jobs: Sequence[VariantJob]) -> Response:
        plan = self.plan
        ledgers = [each.ledger for each in jobs]
        ended_ns = max(each.computed_ns for each in ledgers)
        job.ledger.run(min(each.started_ns for each in ledgers), ended_ns, sum(each.batch_rows for each in ledgers))
        entries = [(plan.variants[each.variant], each.ledger) for each in jobs]
        job.ledger.stages_of = partial(stages, plan.name, entries, job.deadline_ns)
        answers = [each.response for each in jobs if each.response is not None]
        if len(jobs) == 1:
            outputs, marks = answers[0].outputs, answers[0].marks
        else:
            parts = [(each.rows_of, answer.outputs) for each, answer in zip(jobs, answers, strict=True)]
            outputs = merge(f"split '{plan.name}'", parts, job.rows)
            marks = tuple(dict.fromkeys(mark for each in answers for mark in each.marks))
        return Response(plan.name, 1, outputs, job.ledger, job.request.id, marks)

    def _failed(self, job: Job, error: VireoError) -> None:
        if isinstance(error, Cancelled):
            self.statistics.not_computed(1, expired=job.deadline_ns <= self._clock())
        else:
            self.statistics.failed([self._clock() - job.ledger.received_ns])
        job.finish(error.with_traceback(None))

    def _tell(self, jobs: Sequence[VariantJob], request_id: str, expose: Callable[[Exposure], None]) -> None:
        now_us = time.time_ns() // 1000
        for each in jobs:
            expose(Exposure(self.plan.name, self.plan.variants[each.variant].name, each.keys, request_id, now_us))

    def _blamed(self, job: VariantJob, error: VireoError) -> VireoError:
        text = f"split '{self.plan.name}', variant '{self.plan.variants[job.variant].name}': {error.message}"
        return type(error)(text, retry_after_s=error.retry_after_s)


def _ended(job: Job) -> None:
    """The `done` of a variant's job."""
    assert isinstance(job, VariantJob)
    job.split.ended(job)


def _first_failure(jobs: Sequence[VariantJob]) -> VariantJob | None:
    """The job to blame: one that failed by itself before those cancelled because of it."""
    failed = [each for each in jobs if each.error is not None]
    return min(failed, key=lambda each: isinstance(each.error, Cancelled), default=None)


def stages(split: str, entries: Sequence[tuple[PlannedVariant, Ledger]], deadline_ns: int) -> tuple[Stage, ...]:
    """A Stage "split/variant" for each variant that got something, those inside it after it; the last to end is critical."""
    last = max(entries, key=lambda entry: entry[1].computed_ns)
    found: list[Stage] = []
    for entry in entries:
        variant, ledger = entry
        name = f"{split}/{variant.name}"
        remaining_ns = NEVER_NS if deadline_ns == NEVER_NS else deadline_ns - ledger.received_ns
        found.append(
            Stage(
                name,
                ledger.received_ns,
                ledger.started_ns,
                ledger.computed_ns,
                ledger.batch_rows,
                remaining_ns,
                entry is last,
            )
        )
        for inner in ledger.stages:
            found.append(
                Stage(
                    f"{name}/{inner.name}", inner.ready_ns, inner.started_ns, inner.ended_ns, inner.batch_rows,
                    inner.remaining_ns, mark=inner.mark,
                )
            )  # fmt: skip
    return tuple(found)
