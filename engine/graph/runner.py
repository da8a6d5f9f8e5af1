"""Runs one plan for any number of requests at once. To the engine, and to other graphs, it is what a worker is."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from engine.clock import NEVER_NS, Clock
from engine.errors import Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, VireoError
from engine.graph.admission import Path, Prediction, chains_ns, choose_path
from engine.graph.alarm import Alarm
from engine.graph.circuit import Circuit
from engine.graph.delivery import Delivery
from engine.graph.joint import JointJob, all_cancelled, join, joint_bounds, take_joint
from engine.graph.ledger import StagesOf
from engine.graph.plan import Node, Plan
from engine.graph.port import NodePort
from engine.graph.run import DEADLINE, GraphRun, Ring
from engine.graph.statistics import GraphStatistics
from engine.request import Response
from engine.scheduling.admission import dead
from engine.scheduling.batcher import BatchBounds, split_outputs
from engine.scheduling.job import Job
from engine.telemetry import ModelStatistics

log = logging.getLogger("vireo.graph")

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
        delivery: Delivery,
    ) -> None:
        self._delivery = delivery
        self.plan, self._clock, self._alarm = plan, clock, alarm
        self._circuit = Circuit(plan, clock, alarm, ripen, flush)
        self.streams, self.batchable = plan.streams, plan.signature.batchable
        self.nested = True
        self.statistics = statistics
        self.nodes = GraphStatistics(plan)
        self._watched = plan.slo_ns is not None
        self._bounds = joint_bounds(plan)
        self._joinable: deque[Job] = deque()
        self._runs: dict[GraphRun, int] = {}
        """And how many requests are in each."""
        self._cost_ns = 0.0
        self._prediction = Prediction(0, 0, None)
        self._predicted_ns = -_PREDICTED_NS
        self._ended_ns = 0
        self._lock = threading.Lock()
        self._held = 0
        """Joint runs of which something runs."""
        self._gone: Callable[[], None] | None = None
        self._closed = False

    # What a worker offers.

    @property
    def joins(self) -> bool:
        """Whether requests that come together go through as one."""
        return self._bounds is not None

    @property
    def joint(self) -> BatchBounds | None:
        """See `NodePort`; what records each request on its own wants it on its own."""
        return None if self.plan.records else self._bounds

    @property
    def waiting(self) -> int:
        """Requests in the graph now."""
        return len(self._joinable) + sum(list(self._runs.values()))

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
        """Lets a request wait for those that come with it. Raises what it is refused with."""
        light = self._admitted(job)
        if light or self._bounds is None or job.part is not None:
            self._run(job, at_once=False, light=light)
        else:
            self._joinable.append(job)

    def run_at_once(self, job: Job) -> bool:
        """Runs a request as far as that goes here and now; the rest on other threads. Raises what it is refused with."""
        self._run(job, at_once=True, light=self._admitted(job))
        return True

    def flush(self) -> None:
        """Starts what waits, together where it can be; what then waits at the nodes is the engine's to flush."""
        while self._joinable:
            assert self._bounds is not None
            now_ns = self._clock()
            with self._lock:  # whoever takes sees first what there is
                jobs = take_joint(self._joinable, self._bounds, now_ns) if self._joinable else []
            alive = [each for each in jobs if not self._dropped(each, now_ns)]
            if len(alive) > 1:
                self._run_together(alive, now_ns)
            elif alive:
                self._run(alive[0], at_once=True, light=False)

    def keep_off_callers(self) -> None:
        """What may hang in it is computed on threads of its own from now on: a graph computes nothing itself."""
        for each in self.plan.targets:
            if each.may_hang:
                each.port.keep_off_callers()

    def close(self, gone: Callable[[], None] | None = None) -> None:
        """Refuses what comes from now on; what runs is left to finish. `gone` is called when nothing of it runs any more."""
        with self._lock:
            self._closed, self._gone = True, gone
        self._let_go(0)

    def _hold(self) -> None:
        with self._lock:
            self._held += 1

    def _let_go(self, count: int = 1) -> None:
        with self._lock:
            self._held -= count
            gone = None
            if self._closed and not self._held:
                gone, self._gone = self._gone, None
        if gone is not None:
            gone()

    # Runs.

    def _run(self, job: Job, *, at_once: bool, light: bool) -> None:
        run = GraphRun(self._circuit, job, self._ended, at_once=at_once and not self.streams, light=light)
        self._runs[run] = len(job.members) if isinstance(job, JointJob) else 1
        job.on_cancel = run.cancel
        run.start()
        if not run.ended and self._watched and job.deadline_ns < job.request.deadline.at_ns:
            self._alarm.at(job.deadline_ns, Ring(run, DEADLINE))  # no transport knows of it

    def _run_together(self, jobs: list[Job], now_ns: int) -> None:
        try:
            joint = join(self.plan.name, jobs, self._part, now_ns)
        except Exception:  # no memory for their inputs in one piece
            log.exception("graph '%s': requests could not go together", self.plan.name)
            self._run_again(jobs)
            return
        self._hold()  # its members may have their answers while a node of it hangs
        joint.release = self._let_go

        def cancelled() -> None:
            if all_cancelled(jobs):
                joint.cancel()

        for each in jobs:
            each.on_cancel = cancelled
        cancelled()  # perhaps all of them were before
        self._run(joint, at_once=True, light=False)

    def _part(self, joint: Job) -> None:
        """A joint run has ended: each member gets its rows, or, where it did not go well, goes again alone."""
        assert isinstance(joint, JointJob)
        members, response = joint.members, joint.response
        for each in members:
            each.on_cancel = None
        if response is None or any(": failed: " in mark for mark in response.marks):
            self._run_again(members)
            return
        try:
            parts = split_outputs(members, response.outputs)
        except VireoError:  # some node answers more or fewer rows than it was asked
            self._run_again(members)
            return
        ledger, responses = joint.ledger, list[Response]()
        for each, outputs in zip(members, parts, strict=True):
            each.ledger.run(each.ledger.received_ns, ledger.computed_ns, ledger.batch_rows)
            each.ledger.stages_of = StagesOf(self.plan, joint.entries, each.deadline_ns, each.ledger.received_ns)
            self.statistics.lone_done(each.ledger, each.deadline_ns)
            responses.append(Response(self.plan.name, 1, outputs, each.ledger, each.request.id, response.marks))
        self._delivery.answer_all(members, responses, joint.values, ledger)

    def _run_again(self, jobs: list[Job]) -> None:
        now_ns = self._clock()
        for each in jobs:
            if not self._dropped(each, now_ns):
                self._run(each, at_once=True, light=False)

    def _dropped(self, job: Job, now_ns: int) -> bool:
        """Ends a request that nobody waits for any more, uncomputed."""
        late = dead(job, now_ns)
        if late is None:
            return False
        self.statistics.not_computed(1, expired=job.deadline_ns <= now_ns)
        job.finish(type(late)(f"graph{late.message.removeprefix('model')}"))
        return True

    def _admitted(self, job: Job) -> bool:
        """Whether the request takes the lighter path. Raises Unavailable, ResourceExhausted, DeadlineExceeded, Cancelled."""
        if self._closed:
            raise Unavailable(f"graph '{self.plan.name}' is being replaced")
        if job.deadline_ns == NEVER_NS:
            return False
        now_ns = job.ledger.received_ns
        name = self.plan.name
        if job.cancelled:
            raise Cancelled(f"graph '{name}': the caller is gone; not computed")
        if job.deadline_ns <= now_ns:
            self.statistics.refused()
            raise DeadlineExceeded(f"graph '{name}': deadline passed before anything was computed")
        prediction = self._predict(job.rows, now_ns)
        path = choose_path(prediction, job.deadline_ns, now_ns, now_ns - self._ended_ns)
        if path is Path.REFUSED:
            self.statistics.refused()
            raise ResourceExhausted(
                f"graph '{name}': the deadline cannot be met, {(job.deadline_ns - now_ns) / 1e6:.1f} ms remain, "
                f"{prediction.wait_ns / 1e6:.1f} ms of work wait and the graph takes {prediction.full_ns / 1e6:.1f} ms",
                retry_after_s=(prediction.wait_ns + prediction.full_ns) / 1e9,
            )
        return path is Path.LIGHT

    def _predict(self, rows: int, now_ns: int) -> Prediction:
        known = self._prediction
        if now_ns - self._predicted_ns > _PREDICTED_NS:
            known = self._prediction = self._measure(rows)
            self._predicted_ns = now_ns
        return Prediction(int(self.waiting * self._cost_ns), known.full_ns, known.light_ns)

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
        members = self._runs.pop(run, 1)
        self._ended_ns = self._clock()
        job = run.job
        if error is None:
            response = run.answered(self._ended_ns)
            self._observe(run, members)
            if isinstance(job, JointJob):
                job.entries, job.values = run.entries, run.values
                job.finish(response)
            else:
                self.statistics.lone_done(job.ledger, job.deadline_ns)
                self._delivery.answer(job, response, run.values)
            return
        if isinstance(job, JointJob):
            pass  # its members are counted when they have gone alone
        elif isinstance(error, Cancelled):
            self.statistics.not_computed(1, expired=job.deadline_ns <= self._clock())
        else:
            self.statistics.failed([self._clock() - job.ledger.received_ns])
        job.finish(error.with_traceback(None))

    def _observe(self, run: GraphRun, members: int) -> None:
        """Learns what a request costs: its share of each batch it was in, computed where requests come in."""
        self.nodes.add(run.entries, members, bool(run.marks))
        cost_ns = 0.0
        for entry in run.entries:
            if entry is not None and entry[3] is not None and entry[3].batch_rows:
                cost_ns += (entry[2] - entry[1]) * min(1.0, run.job.rows / entry[3].batch_rows)
        self._cost_ns += _WEIGHT * (cost_ns / members - self._cost_ns)


def _light_ns(node: Node, expected_ns: int, rows: int) -> int:
    if node.on_late is None:
        return expected_ns
    return 0 if node.on_late.target is None else node.on_late.target.port.expected_ns(rows)
