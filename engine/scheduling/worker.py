"""Runs one servable: waiting requests in, batches through it, every job ended exactly once.

Who computes? A batch predicted to be short runs on the thread that brought it (`flush`), because two thread hops under
the GIL cost more than a small model does. Anything longer runs on the worker's own threads. Either way at most
`instances` batches run at once, and what arrives meanwhile gathers into the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from engine.clock import NEVER_NS, Clock
from engine.errors import DeadlineExceeded, Internal, Unavailable, VireoError
from engine.limits import FLUSH_BATCHES_MAX, HELPED_COMPUTE_US_MIN, INLINE_COMPUTE_US_MAX
from engine.request import INTERACTIVE, Response
from engine.scheduling.admission import Load, dead, is_dead, refusal, too_late
from engine.scheduling.batcher import BatchBounds, join_inputs, joint_outputs, split_outputs, take_batch
from engine.scheduling.estimate import ComputeEstimate
from engine.scheduling.forecast import Forecast
from engine.scheduling.job import Job
from engine.scheduling.queue import Queue, QueueBounds
from engine.servables.servable import Servable, StreamingServable, Tensors
from engine.telemetry import BatchTimes, ModelStatistics
from engine.work import here


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How one model version is scheduled. `inline_us_max` 0 keeps every batch off the callers' threads."""

    batch: BatchBounds = field(default_factory=BatchBounds)
    queue: QueueBounds = field(default_factory=QueueBounds)
    instances: int = 1
    batching: bool = True
    inline_us_max: int = INLINE_COMPUTE_US_MAX


class Worker:
    """Owns the queue and the threads of one servable. All methods may be called from any thread.

    Of a submitted job `on_cancel` is the worker's: so a cancellation reaches the servable that computes it.
    """

    def __init__(
        self,
        model: str,
        version: int,
        servable: Servable,
        options: WorkerOptions,
        clock: Clock,
        statistics: ModelStatistics,
        after: Callable[[], None] | None = None,
    ) -> None:
        """`after` is called on this worker's own threads when a batch has been answered: for what the answers made ripe."""
        self._model, self._version = model, version
        self._servable = servable
        self._options = options
        self._clock = clock
        self._statistics = statistics
        self._after = after
        self._inline_ns = options.inline_us_max * 1_000
        self._batchable = servable.signature.batchable and options.batching
        self.nested = False
        self.streams = isinstance(servable, StreamingServable)
        self._estimate = ComputeEstimate()
        self._queue = Queue(options.queue.batch_share)
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._running = 0
        self._forecast = Forecast(self._estimate, options.batch.rows_max if self._batchable else 0, options.instances)
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def batchable(self) -> bool:
        """Whether requests may run together."""
        return self._batchable

    @property
    def joint(self) -> BatchBounds | None:
        """How much of several requests may come as one job; None where each is to be computed apart."""
        return self._options.batch if self._batchable else None

    @property
    def waiting(self) -> int:
        """Requests in the queue now."""
        return self._queue.requests

    def expected_us(self, rows: int) -> float | None:
        """Microseconds a batch of `rows` is expected to take; None before the first ran."""
        expected = self._estimate.compute_ns(rows)
        return None if expected is None else expected / 1e3

    def expected_ns(self, rows: int, priority: int = INTERACTIVE) -> int:
        """Nanoseconds until a job of `rows` that came now would be answered: what runs, what goes before it, its own batch."""
        now_ns = self._clock()
        with self._lock:
            return int(
                self._forecast.end_ns(*self._forecast.before(self._queue, self._running, rows, priority, now_ns))
            )

    def keep_off_callers(self) -> None:
        """From now on every batch runs on this worker's own threads."""
        self._inline_ns = 0

    def submit(self, job: Job) -> None:
        """Lets `job` wait, or raises the error it is shed with. It is not started before `flush`."""
        with self._lock:
            if self._closed:
                raise Unavailable(f"model '{self._model}' version {self._version} is being unloaded")
            error = None
            if not self._has_room_for(job):
                now_ns = job.ledger.received_ns
                error = refusal(job, self._load(job, now_ns), self._options.queue, now_ns)
            if error is None:
                self._queue.push(job)
        if error is not None:
            self._statistics.refused()
            try:
                raise error
            finally:
                del error  # it holds this frame, which holds the job

    def run_at_once(self, job: Job) -> bool:
        """Computes `job` here and now, past the queue, where nobody waits and it is short; else False, nothing done."""
        if self.streams or is_dead(job, job.ledger.received_ns):
            return False
        queue = self._queue
        with self._lock:
            if (
                self._closed
                or queue.requests
                or self._running >= self._options.instances
                or not self._is_short(job.rows)
            ):
                return False
            self._running += 1
        try:
            self._compute_lone(job)
        finally:
            self._free()
        if self._queue.requests:  # came meanwhile, and was left to whoever runs
            self.flush()
        return True

    def _has_room_for(self, job: Job) -> bool:
        """Whether `job` may wait, found out without making a Load of what is there: of most it is so."""
        queue, bounds = self._queue, self._options.queue
        if (
            job.request.priority != INTERACTIVE
            or queue.requests >= bounds.requests_max
            or queue.bytes_size + job.bytes_size > bounds.bytes_max
        ):
            return False
        if job.deadline_ns == NEVER_NS:
            return True
        now_ns = job.ledger.received_ns
        before_ns, rows = self._forecast.before(queue, self._running, job.rows, INTERACTIVE, now_ns)
        job.expected_wait_ns = before_ns
        return not job.cancelled and now_ns + self._forecast.surely_ns(before_ns, rows) < job.deadline_ns

    def _load(self, job: Job, now_ns: int) -> Load:
        queue, running, forecast, priority = self._queue, self._running, self._forecast, job.request.priority
        before_ns, rows = forecast.before(queue, running, job.rows, priority, now_ns)
        job.expected_wait_ns = before_ns
        return Load(
            queue.requests,
            queue.bytes_size,
            int(forecast.wait_ns(queue, running, priority, now_ns)),
            int(forecast.surely_ns(before_ns, rows)),
            queue.batch_requests,
            queue.batch_bytes_size,
            forecast.idle_ns(now_ns),
        )

    def flush(self) -> None:
        """Computes what waits, here if that is short, else on the worker's threads. Returns without waiting for those."""
        for _ in range(FLUSH_BATCHES_MAX):
            with self._lock:
                if not self._queue.requests or self._running >= self._options.instances:
                    return  # nothing to do, or whoever runs now takes it next
                if self.streams or not self._is_short(self._next_rows()):
                    break
                batch, gone = self._take()
                helped = self._is_worth_help()
            if helped:
                self._wake_thread()
            self._run(batch, gone)
        self._wake_thread()

    def _is_worth_help(self) -> bool:
        """Whether another thread should take the next batch while this one computes; the caller holds the lock."""
        if not self._queue.requests or self._running >= self._options.instances:
            return False
        expected_ns = self._estimate.compute_ns(self._next_rows())
        return expected_ns is not None and expected_ns >= HELPED_COMPUTE_US_MIN * 1_000

    def _next_rows(self) -> int:
        queue = self._queue
        head = queue.head()
        rows = head.rows  # alone it may exceed the bound
        if self._batchable:
            there = queue.rows
            if queue.batch_rows:
                there = queue.ahead(head.request.priority)[1]
            rows = max(rows, min(there, self._options.batch.rows_max))
        return rows

    def _is_short(self, rows: int) -> bool:
        expected_ns = self._estimate.compute_ns(rows)
        return expected_ns is not None and expected_ns < self._inline_ns and not here.errand

    def _wake_thread(self) -> None:
        with self._wake:
            if not self._queue.requests or self._closed:
                return
            if len(self._threads) < self._options.instances:
                name = f"vireo-{self._model}-{self._version}-{len(self._threads)}"
                thread = threading.Thread(target=self._loop, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._wake.notify()

    def _loop(self) -> None:
        here.own = True
        while True:
            with self._wake:
                while not self._closed and (not self._queue.requests or self._running >= self._options.instances):
                    self._wake.wait()
                if self._closed:
                    return
                batch, gone = self._take()
            self._run(batch, gone)
            if self._after is not None:
                self._after()
            del batch, gone  # else this frame keeps requests and answers alive until the next batch

    def _take(self) -> tuple[list[Job], list[Job]]:
        """The next batch and the jobs found dead on the way; the caller holds the lock and then runs both.

        Where jobs wait for each other, one whose batch will end after its deadline is as good as dead.
        """
        queue, now_ns = self._queue, self._clock()
        late_ns = now_ns
        if queue.requests > 1 and queue.head().deadline_ns != NEVER_NS:
            late_ns = self._forecast.too_late_ns(self._next_rows(), now_ns)
        gone = queue.expire(late_ns)
        alive: list[Job] = []
        while queue.requests and not alive:
            batch = take_batch(queue, self._options.batch, self._batchable)
            if batch[0].expected_wait_ns:
                self._forecast.waited(batch[0].expected_wait_ns, now_ns - batch[0].ledger.received_ns)
            for job in batch:
                (gone if job.cancelled else alive).append(job)
        self._running += 1
        return alive, gone

    def _run(self, batch: list[Job], gone: Sequence[Job]) -> None:
        try:
            if gone:
                self._drop(gone)
            if batch:
                self._compute(batch)
        finally:
            self._free()

    def _free(self) -> None:
        """One of those that run is over."""
        with self._lock:
            self._running -= 1
            if self._queue.requests and self._threads:
                self._wake.notify()

    def _drop(self, jobs: Sequence[Job]) -> None:
        now_ns = self._clock()
        self._statistics.not_computed(len(jobs), expired=sum(each.deadline_ns <= now_ns for each in jobs))
        for job in jobs:
            job.finish(dead(job, now_ns) or self._not_taken(job, now_ns))

    def _not_taken(self, job: Job, now_ns: int) -> VireoError:
        if self._closed:
            return Unavailable(f"model '{self._model}' is being unloaded")
        return too_late(job, now_ns)

    def _compute(self, batch: list[Job]) -> None:
        if len(batch) == 1 and not (self.streams and batch[0].part is not None):
            self._compute_lone(batch[0])
            return
        started_ns = self._clock()
        outer = here.batch  # of a servable that calls another one on its own thread
        here.batch = batch, self._clock
        try:
            if len(batch) == 1:
                answers, times = self._compute_stream(batch[0], started_ns)
            else:
                answers, times = self._compute_batch(batch, started_ns)
        except Exception as error:
            here.batch = outer  # whoever is told of it is outside
            self._failed(batch, error)
            return
        finally:
            here.batch = outer
        self._answer(batch, answers, times)

    def _compute_lone(self, job: Job) -> None:
        """As `_compute`, without what only several jobs need: most batches of a quiet server, and of graphs, are lone jobs."""
        clock, request, rows = self._clock, job.request, job.rows
        started_ns = clock()
        outer = here.batch  # of a servable that calls another one on its own thread
        here.batch = (job,), clock
        self._forecast.started(rows, started_ns)
        try:
            outputs = self._servable.execute(request.inputs, request.outputs)
            if request.outputs:
                outputs = {name: outputs[name] for name in request.outputs}
        except Exception as error:
            here.batch = outer  # whoever is told of it is outside
            self._failed([job], error)
            return
        finally:
            here.batch = outer  # also where the thread is told to end: a caller's own outlives that
        ended_ns = clock()
        ledger = job.ledger
        ledger.started_ns, ledger.computed_ns, ledger.batch_rows = started_ns, ended_ns, rows
        self._estimate.observe(rows, ended_ns - started_ns)
        self._statistics.lone_done(ledger, job.deadline_ns)
        job.finish(Response(self._model, self._version, outputs, ledger, request.id, job.marks))

    def _compute_batch(self, batch: Sequence[Job], started_ns: int) -> tuple[list[Tensors], BatchTimes]:
        rows = sum([job.rows for job in batch])
        self._forecast.started(rows, started_ns)
        inputs = join_inputs(batch)
        joined_ns = self._clock()
        outputs = self._servable.execute(inputs, joint_outputs(batch))
        computed_ns = self._clock()
        answers = split_outputs(batch, outputs)
        ended_ns = self._clock()
        for job in batch:
            job.ledger.run(started_ns, ended_ns, rows)
        self._estimate.observe(rows, computed_ns - started_ns)
        return answers, BatchTimes(rows, joined_ns - started_ns, computed_ns - joined_ns, ended_ns - computed_ns)

    def _compute_stream(self, job: Job, started_ns: int) -> tuple[list[Tensors], BatchTimes]:
        assert isinstance(self._servable, StreamingServable)
        assert job.part is not None
        job.ledger.started_ns = started_ns
        self._forecast.started(job.rows, started_ns)
        with closing(self._servable.stream(job.request.inputs, job.request.outputs)) as parts:
            for outputs in parts:
                late = dead(job, self._clock())
                if late is not None:
                    raise late
                job.part(self._response(job, outputs))
        ended_ns = self._clock()
        job.ledger.run(started_ns, ended_ns, job.rows)
        return [{}], BatchTimes(job.rows, 0, ended_ns - started_ns, 0)

    def _answer(self, batch: Sequence[Job], answers: Sequence[Tensors], times: BatchTimes) -> None:
        wall_ms = int(time.time() * 1000)
        if len(batch) == 1:
            job, ledger = batch[0], batch[0].ledger
            self._statistics.batch_done(times, (ledger,), wall_ms, int(ledger.computed_ns > job.deadline_ns))
            job.finish(self._response(job, answers[0]))
            return
        late = sum([job.ledger.computed_ns > job.deadline_ns for job in batch])
        self._statistics.batch_done(times, [job.ledger for job in batch], wall_ms, late)
        for job, outputs in zip(batch, answers, strict=True):
            job.finish(self._response(job, outputs))

    def _response(self, job: Job, outputs: Tensors) -> Response:
        return Response(self._model, self._version, outputs, job.ledger, job.request.id)

    def _failed(self, batch: list[Job], error: Exception) -> None:
        """A failed batch is run again one by one, so that a bad request fails alone."""
        if len(batch) > 1:
            for job in batch:
                late = dead(job, self._clock())
                if late is None:
                    self._compute([job])
                else:
                    self._drop([job])
            return
        job, now_ns = batch[0], self._clock()
        error.__traceback__ = None  # its frames hold the job
        if job.cancelled or (isinstance(error, DeadlineExceeded) and job.deadline_ns <= now_ns):
            self._drop(batch)  # it was stopped, or its failure is nobody's concern
            return
        self._statistics.failed([now_ns - job.ledger.received_ns])
        job.finish(self._named(error))

    def _named(self, error: Exception) -> VireoError:
        where = f"model '{self._model}' version {self._version}"
        if isinstance(error, VireoError):
            return error if error.message.startswith("model ") else type(error)(f"{where}: {error.message}")
        return Internal(f"{where}: {type(error).__name__}: {error}")

    def warm_up(self, inputs: Tensors, rows: int) -> None:
        """Runs made-up `inputs` twice, unseen by statistics; the second run is the first estimate.

        Of a stream the first answer is enough: how many follow, made-up inputs cannot tell.
        """
        for _ in range(2):
            started_ns = self._clock()
            if isinstance(self._servable, StreamingServable):
                with closing(self._servable.stream(inputs, ())) as parts:
                    next(parts, None)
            else:
                self._servable.execute(inputs, ())
            elapsed_ns = self._clock() - started_ns
        self._estimate.observe(rows, elapsed_ns)

    def follow(self, before: Worker, rows: int) -> None:
        """After a warm-up of `rows`: of other numbers of rows what `before`, which this replaces, has learnt is expected."""
        self._estimate.follow(before._estimate, rows)

    def close(self) -> None:
        """Ends the threads; jobs still waiting fail as unavailable. A batch that runs is left to finish."""
        with self._wake:
            self._closed = True
            left = self._queue.remove(lambda _: True)
            self._wake.notify_all()
        if left:
            self._drop(left)
            if self._after is not None:
                self._after()
