"""Runs one servable that other machines compute: what it is offered goes out at once, and no thread waits for an answer.

To the engine and to graphs it is what a worker is. It neither queues nor batches: the servable does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from engine.clock import Clock
from engine.errors import Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, VireoError
from engine.request import Response, Stage
from engine.scheduling.admission import dead, is_dead
from engine.scheduling.batcher import BatchBounds
from engine.scheduling.estimate import ComputeEstimate
from engine.scheduling.job import Job
from engine.scheduling.worker import WorkerOptions
from engine.servables.servable import RemoteServable, Tensors
from engine.telemetry import ModelStatistics


class RemoteWorker:
    """Methods may be called from any thread. Of a submitted job `on_cancel` is the worker's."""

    def __init__(
        self,
        model: str,
        version: int,
        servable: RemoteServable,
        options: WorkerOptions,
        clock: Clock,
        statistics: ModelStatistics,
        after: Callable[[], None],
    ) -> None:
        """`after` is called when a request has been answered, on the servable's thread: for what the answer made ripe."""
        self._model, self._version, self._servable = model, version, servable
        self._options, self._clock, self._statistics, self._after = options, clock, statistics, after
        self._estimate = ComputeEstimate()
        self._lock = threading.Lock()
        self._bytes = 0
        self._closed = False
        self.nested = self.streams = False
        self.batchable = servable.signature.batchable
        self.waiting = 0
        """Requests on the way."""

    @property
    def joint(self) -> BatchBounds | None:
        """See `NodePort`."""
        return self._options.batch if self.batchable else None

    def expected_us(self, rows: int) -> float | None:
        """Microseconds an answer is expected to take; None before the first."""
        expected = self._estimate.compute_ns(rows)
        return None if expected is None else expected / 1e3

    def expected_ns(self, rows: int) -> int:
        """See `NodePort`."""
        return int(self._estimate.compute_ns(rows) or 0)

    def keep_off_callers(self) -> None:
        """Nothing is computed on a caller's thread."""

    def run_at_once(self, job: Job) -> bool:
        """Nothing is: see `NodePort`."""
        return False

    def submit(self, job: Job) -> None:
        """Lets `job` go out with the next `flush`, or raises the error it is shed with."""
        now_ns = job.ledger.received_ns
        if is_dead(job, now_ns):
            self._statistics.refused()
            raise dead(job, now_ns) or Unavailable(f"model '{self._model}': not computed")
        self._admit(job)
        job.ledger.started_ns = self._clock()
        try:
            call = self._servable.send(job.request, job.deadline_ns, partial(self._ended, job))
        except VireoError as error:
            self._leave(job)
            self._statistics.refused()
            raise self._named(error) from None
        job.on_cancel = call.cancel
        if job.cancelled:  # meanwhile
            call.cancel()

    def _admit(self, job: Job) -> None:
        bounds, full = self._options.queue, ""
        with self._lock:
            if self._closed:
                raise Unavailable(f"model '{self._model}' version {self._version} is being unloaded")
            if self.waiting >= bounds.requests_max:
                full = f"{self.waiting} requests are on the way, at most {bounds.requests_max} may be"
            elif self.waiting and self._bytes + job.bytes_size > bounds.bytes_max:
                full = f"{self._bytes} bytes are on the way, at most {bounds.bytes_max} may be"
            else:
                self.waiting += 1
                self._bytes += job.bytes_size
        if full:
            self._statistics.refused()
            raise ResourceExhausted(f"model '{self._model}': {full}", retry_after_s=self.expected_ns(job.rows) / 1e9)

    def _leave(self, job: Job) -> None:
        with self._lock:
            self.waiting -= 1
            self._bytes -= job.bytes_size

    def flush(self) -> None:
        """Sends what was submitted."""
        self._servable.flush()

    def _ended(self, job: Job, outcome: Tensors | VireoError, stages: tuple[Stage, ...] = ()) -> None:
        self._leave(job)
        job.on_cancel = None
        ledger = job.ledger
        if stages:
            ledger.stages_of = lambda: stages
        now_ns = ledger.computed_ns = self._clock()
        if isinstance(outcome, VireoError):
            if job.cancelled or isinstance(outcome, Cancelled | DeadlineExceeded):
                self._statistics.not_computed(1, expired=job.deadline_ns <= now_ns)
            else:
                self._statistics.failed([now_ns - ledger.received_ns])
            job.finish(self._named(outcome))
        else:
            ledger.batch_rows = job.rows
            self._estimate.observe(job.rows, now_ns - ledger.started_ns)
            self._statistics.lone_done(ledger, job.deadline_ns)
            job.finish(Response(self._model, self._version, outcome, ledger, job.request.id))
        self._after()

    def _named(self, error: VireoError) -> VireoError:
        if error.message.startswith(f"model '{self._model}'"):  # an engine said it
            return error
        where = f"model '{self._model}' version {self._version}"
        return type(error)(f"{where}: {error.message}", retry_after_s=error.retry_after_s)

    def warm_up(self, inputs: Tensors, rows: int) -> None:
        """One request of made-up `inputs`, unseen by statistics, is the first estimate."""
        started_ns = self._clock()
        self._servable.execute(inputs, ())
        self._estimate.observe(rows, self._clock() - started_ns)

    def close(self) -> None:
        """Refuses what comes from now on; who is on the way hears of it from the servable."""
        with self._lock:
            self._closed = True
