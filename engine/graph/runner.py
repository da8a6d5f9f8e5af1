"""Runs one plan for any number of requests at once. To the engine, and to other graphs, it is what a worker is."""

from __future__ import annotations

from collections.abc import Callable

from engine.clock import NEVER_NS, Clock
from engine.errors import Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, VireoError
from engine.graph.admission import Path, Prediction, chains_ns, choose_path
from engine.graph.alarm import Alarm
from engine.graph.circuit import Circuit
from engine.graph.plan import Node, Plan
from engine.graph.port import NodePort
from engine.graph.run import DEADLINE, GraphRun, Ring
from engine.graph.statistics import GraphStatistics
from engine.scheduling.job import Job
from engine.telemetry import ModelStatistics

_PREDICTED_NS = 1_000_000
"""How long a prediction of the graph's time is used before it is made anew."""

_WEIGHT = 0.05
"""Of a new sample in the mean cost of a run."""


class GraphRunner:
    """Methods may be called from any thread. `ripen` lets the engine flush a port later, `flush` does so now."""

    def __init__(
        self,
        plan: Plan,
        *,
        clock: Clock,
        alarm: Alarm,
        statistics: ModelStatistics,
        ripen: Callable[[NodePort], None],
        flush: Callable[[], None],
    ) -> None:
        self.plan, self._clock, self._alarm, self._flush = plan, clock, alarm, flush
        self._circuit = Circuit(plan, clock, alarm, ripen)
        self.streams, self.batchable = plan.streams, plan.signature.batchable
        self.nested = True
        self.statistics = statistics
        self.nodes = GraphStatistics(plan)
        self._watched = plan.slo_ns is not None
        self._runs: set[GraphRun] = set()
        self._cost_ns = 0.0
        self._prediction = Prediction(0, 0, None)
        self._predicted_ns = -_PREDICTED_NS
        self._closed = False

    # What a worker offers.

    @property
    def waiting(self) -> int:
        """Requests in the graph now."""
        return len(self._runs)

    def expected_us(self, rows: int) -> float | None:
        """Microseconds a request is expected to take; None before its nodes have run."""
        expected_ns = self.expected_ns(rows)
        return expected_ns / 1e3 if expected_ns else None

    def expected_ns(self, rows: int) -> int:
        """Nanoseconds that the longest chain of nodes is expected to take for a request of `rows` that came now."""
        return max(chains_ns(self.node_expected_ns(rows), [each.consumers for each in self.plan.nodes]), default=0)

    def node_expected_ns(self, rows: int) -> list[int]:
        """The same for each node."""
        return [each.target.port.expected_ns(rows) for each in self.plan.nodes]

    def submit(self, job: Job) -> None:
        """Starts a request: its first nodes wait for their workers. Raises what it is refused with."""
        self._begin(job, at_once=False)

    def run_at_once(self, job: Job) -> bool:
        """Runs a request as far as that goes here and now; the rest on other threads. Raises what it is refused with."""
        self._begin(job, at_once=True)
        return True

    def flush(self) -> None:
        """Computes what waits at the nodes."""
        self._flush()

    def keep_off_callers(self) -> None:
        """A graph computes nothing itself."""

    def close(self) -> None:
        """Refuses what comes from now on; what runs is left to finish."""
        self._closed = True

    # Runs.

    def _begin(self, job: Job, *, at_once: bool) -> None:
        if self._closed:
            raise Unavailable(f"graph '{self.plan.name}' is being replaced")
        light = job.deadline_ns != NEVER_NS and self._admitted(job)
        run = GraphRun(self._circuit, job, self._ended, at_once=at_once and not self.streams, light=light)
        self._runs.add(run)
        job.on_cancel = run.cancel
        run.start()
        if not run.ended and self._watched and job.deadline_ns < job.request.deadline.at_ns:
            self._alarm.at(job.deadline_ns, Ring(run, DEADLINE))  # no transport knows of it

    def _admitted(self, job: Job) -> bool:
        """Whether the request takes the lighter path. Raises ResourceExhausted, DeadlineExceeded, Cancelled."""
        now_ns = job.ledger.received_ns
        name = self.plan.name
        if job.cancelled:
            raise Cancelled(f"graph '{name}': the caller is gone; not computed")
        if job.deadline_ns <= now_ns:
            self.statistics.refused()
            raise DeadlineExceeded(f"graph '{name}': deadline passed before anything was computed")
        prediction = self._predict(job.rows, now_ns)
        path = choose_path(prediction, job.deadline_ns, now_ns)
        if path is Path.REFUSED:
            self.statistics.refused()
            remaining_ms = (job.deadline_ns - now_ns) / 1e6
            raise ResourceExhausted(
                f"graph '{name}': the deadline cannot be met, {remaining_ms:.1f} ms remain, {prediction.wait_ns / 1e6:.1f} ms "
                f"of work wait and the graph takes {prediction.full_ns / 1e6:.1f} ms",
                retry_after_s=(prediction.wait_ns + prediction.full_ns) / 1e9,
            )
        return path is Path.LIGHT

    def _predict(self, rows: int, now_ns: int) -> Prediction:
        known = self._prediction
        if now_ns - self._predicted_ns > _PREDICTED_NS:
            known = self._prediction = self._measure(rows)
            self._predicted_ns = now_ns
        return Prediction(int(len(self._runs) * self._cost_ns), known.full_ns, known.light_ns)

    def _measure(self, rows: int) -> Prediction:
        nodes = self.plan.nodes
        consumers = [each.consumers for each in nodes]
        expected = self.node_expected_ns(rows)
        full_ns = max(chains_ns(expected, consumers), default=0)
        light_ns = None
        if any(each.on_late is not None for each in nodes):
            light = [_light_ns(node, each, rows) for node, each in zip(nodes, expected, strict=True)]
            light_ns = max(chains_ns(light, consumers), default=0)
        return Prediction(0, full_ns, light_ns)

    def _ended(self, run: GraphRun, error: VireoError | None) -> None:
        """A run's nodes are all decided, or it has failed."""
        self._runs.discard(run)
        if error is None:
            self._answer(run)
        else:
            self._failed(run.job, error)

    def _answer(self, run: GraphRun) -> None:
        now_ns = self._clock()
        response = run.answered(now_ns)
        job = run.job
        self._observe(run)
        self.statistics.lone_done(job.ledger, job.deadline_ns)
        job.finish(response)

    def _observe(self, run: GraphRun) -> None:
        """Learns what a run costs: its share of each batch it was in, computed where requests come in."""
        self.nodes.add(run.entries, run.marks)
        cost_ns = 0.0
        for entry in run.entries:
            if entry is not None and entry[3] is not None and entry[3].batch_rows:
                cost_ns += (entry[2] - entry[1]) * min(1.0, run.job.rows / entry[3].batch_rows)
        self._cost_ns += _WEIGHT * (cost_ns - self._cost_ns)

    def _failed(self, job: Job, error: VireoError) -> None:
        if isinstance(error, Cancelled):
            self.statistics.not_computed(1)
        else:
            self.statistics.failed([self._clock() - job.ledger.received_ns])
        job.finish(error.with_traceback(None))


def _light_ns(node: Node, expected_ns: int, rows: int) -> int:
    if node.on_late is None:
        return expected_ns
    return 0 if node.on_late.target is None else node.on_late.target.port.expected_ns(rows)
