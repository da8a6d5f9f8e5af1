"""One request on its way through a plan: what is decided, what runs, what is next. Blocks no thread.

Whatever happens to a run (a node's job ended, its time is up, the caller left) is told to it from any thread as an event, and
handled by one thread at a time: whoever tells while another handles leaves it to that one. A node is decided when it was
answered, skipped or stood in for; a run ends when all are, or with the first failure that nothing stands in for.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import ref

from engine.clock import NEVER_NS
from engine.errors import Cancelled, DeadlineExceeded, Internal, ResourceExhausted, VireoError
from engine.graph.call import Call, NodeJob, Values, ended, first_there
from engine.graph.circuit import Circuit
from engine.graph.ledger import Entry, StagesOf
from engine.graph.plan import Condition, Fallback, Node
from engine.graph.rows import Mask, holds, rows_where, some_rows, spread
from engine.request import Response
from engine.scheduling.job import Job
from engine.tensor import Tensor

log = logging.getLogger("vireo.graph")

CANCEL: Final = -1
DEADLINE: Final = -2
"""Events beside ended jobs and the indexes of nodes whose time is up."""

Event = NodeJob | int
End = Callable[["GraphRun", VireoError | None], None]
"""Told once: with the error where the run failed, else to take its answer (`answered`)."""


class GraphRun:
    """See the module. `start` is called once; `tell` by any thread."""

    __slots__ = (
        "__weakref__", "_at_once", "_circuit", "_driving", "_entries", "_events", "_jobs", "_left", "_light", "_lock", "_marks",
        "_masks", "_out", "_pending", "_ready", "_release", "_tell_end", "_values", "ended", "job",
    )  # fmt: skip

    def __init__(self, circuit: Circuit, job: Job, end: End, *, at_once: bool, light: bool) -> None:
        self._circuit, self._tell_end = circuit, end
        self.job = job
        self._at_once, self._light = at_once, light
        self._pending = circuit.needs.copy()
        self._left = len(self._pending)
        self._jobs: list[NodeJob | None] = [None] * self._left
        self._entries: list[Entry | None] = [None] * self._left
        self._marks: tuple[str, ...] = ()
        self._masks: dict[int, Mask] = {}
        self._values: Values = [None] * circuit.plan.slots
        inputs = job.request.inputs
        for slot, name in enumerate(circuit.plan.input_names):
            self._values[slot] = inputs.get(name)
        self._out = 0
        self._ready: deque[tuple[int, int]] = deque()
        self._events: deque[Event] = deque()
        self._driving = True
        self._lock = threading.Lock()
        self._release, job.release = job.release, None
        self.ended = False

    def start(self) -> None:
        """Starts the nodes that need none."""
        received_ns = self.job.ledger.received_ns
        self._ready.extend([(index, received_ns) for index in self._circuit.sources])
        self._drive()

    # Events.

    def tell(self, event: Event) -> None:
        """Something happened; it is handled now, here or by the thread that is handling what happened before."""
        with self._lock:
            self._events.append(event)
            if self._driving:
                return
            self._driving = True
        self._drive()

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.tell(CANCEL)

    def flush(self) -> None:
        """For who told it on a thread that nobody flushes after: what stands in is not left waiting."""
        self._circuit.flush()

    def _drive(self) -> None:
        while True:
            if self._ready:
                self._guarded(self._begin_ready)
            with self._lock:
                if not self._events:
                    self._driving = False
                    release = None
                    if self.ended and not self._out:  # nothing of it runs any more: the versions it calls may go
                        release, self._release = self._release, None
                    break
                event = self._events.popleft()
            self._guarded(self._handle, event)
        if release is not None:
            release()

    def _guarded(self, work: Callable[..., None], *arguments: Node | Event) -> None:
        """Whatever goes wrong in our own code fails this run alone, and never leaves it undriven."""
        try:
            work(*arguments)
        except Exception as error:
            log.exception("%s: a run failed by a fault of ours", self._named())
            if not self.ended:
                self._fail(Internal(f"{self._named()}: internal error: {type(error).__name__}"))

    def _handle(self, event: Event) -> None:
        if isinstance(event, NodeJob):
            self._out -= 1
            node = event.call.node
            if not self.ended and self._jobs[node.index] is event:  # else it was given up before
                self._jobs[node.index] = None
                self._settle(node, event.call, event)
        elif self.ended:
            return
        elif event == CANCEL:
            self._fail(Cancelled(f"{self._named()}: the caller is gone"))
        elif event == DEADLINE:
            self._fail(self._too_late())
        else:
            self._overdue(self._circuit.plan.nodes[event])

    # Nodes.

    def _begin_ready(self) -> None:
        ready, calls = self._ready, self._circuit.calls
        clock, parent = self._circuit.clock, self.job
        while ready:
            index, ready_ns = ready.popleft()
            call = calls[index]
            now_ns = clock()
            if call.plain and not parent.cancelled and now_ns < parent.deadline_ns:
                self._call(call.node, call, ready_ns, now_ns)
            else:
                self._begin(call.node, ready_ns, now_ns)

    def _begin(self, node: Node, ready_ns: int, now_ns: int) -> None:
        if self.job.cancelled:
            self._fail(Cancelled(f"{self._named()}: the caller is gone"))
        elif now_ns >= self.job.deadline_ns:
            self._fail(self._too_late())
        elif node.when is not None and not self._wanted(node, node.when):
            self._skip(node, ready_ns, now_ns)
        elif node.on_late is not None and self._light:
            self._stand_in(node, node.on_late, "late", ready_ns)
        else:
            self._call(node, self._circuit.calls[node.index], ready_ns, now_ns)

    def _wanted(self, node: Node, condition: Condition) -> bool:
        """Whether the condition is true, and for which rows where these are told apart."""
        if not self._circuit.by_rows[node.index]:
            return holds(condition, self._values)
        mask = rows_where(condition, self._values, self.job.rows)
        if mask.all():
            return True
        self._masks[node.index] = mask
        return bool(mask.any())

    def _rows_of(self, node: Node) -> tuple[Values, int]:
        """What the node is called with, and how many rows that has."""
        mask = self._masks.get(node.index) if self._masks else None
        if mask is None:
            if self._circuit.plan.signature.batchable:
                return self._values, self.job.rows
            return self._values, self._circuit.calls[node.index].rows_in(self._values, self.job.rows)
        return some_rows(self._values, mask), int(mask.sum())

    def _give(self, node: Node, slot: int, tensor: Tensor) -> None:
        """An output of the node; rows it was not asked for hold what they hold otherwise."""
        mask = self._masks.get(node.index) if self._masks else None
        if mask is not None:
            tensor = spread(tensor, mask, dict(node.otherwise)[slot].of(1))
        self._values[slot] = tensor

    def _call(self, node: Node, call: Call, ready_ns: int, now_ns: int) -> None:
        try:
            job = call.job(self, *self._rows_of(node), ready_ns, now_ns)
        except VireoError as error:
            self._failed(node, error, ready_ns)
            return
        if not call.plain and self._circuit.bounded[node.index]:
            job.deadline_ns = min(job.deadline_ns, self._bound_ns(node, ready_ns))
            expected_ns = call.port.expected_ns(job.rows) if node.on_late is not None else 0
            if node.on_late is not None and now_ns + expected_ns > job.deadline_ns and expected_ns:
                self._stand_in(node, node.on_late, "late", ready_ns)
                return
        self._submit(node, call, job)

    def _bound_ns(self, node: Node, ready_ns: int) -> int:
        """When the node's own time is up."""
        bound_ns = NEVER_NS if node.timeout_ns is None else ready_ns + node.timeout_ns
        if node.timeout_share is not None and self.job.deadline_ns != NEVER_NS:
            budget_ns = self.job.deadline_ns - self.job.ledger.received_ns
            bound_ns = min(bound_ns, ready_ns + int(node.timeout_share * budget_ns))
        return bound_ns

    def _submit(self, node: Node, call: Call, job: NodeJob) -> None:
        if self._at_once and not call.nested:
            job.done = _heard_at_once
            if call.port.run_at_once(job):
                self._settle(node, call, job)
                return
            job.done = ended
        self._jobs[node.index] = job
        self._out += 1
        begun = False
        try:
            if self._at_once and call.nested:
                begun = call.port.run_at_once(job)
            if not begun:
                call.port.submit(job)
        except VireoError as error:
            self._jobs[node.index] = None
            self._out -= 1
            self._failed(node, error, job.ready_ns, job.stand_in)
            return
        if job.deadline_ns < self.job.deadline_ns and _runs(job):
            self._circuit.alarm.at(job.deadline_ns, Ring(self, node.index))
        if begun:
            return
        if self._at_once:
            call.port.flush()  # so that it computes elsewhere while shorter nodes do here
        else:
            self._circuit.ripen(call.port)

    def _settle(self, node: Node, call: Call, job: NodeJob) -> None:
        response = job.response
        if response is None:
            self._failed(node, job.error or Internal("ended without an answer"), job.ready_ns, job.stand_in)
            return
        outputs, values = response.outputs, self._values
        if job.part is None:
            for name, slot in call.gives:
                values[slot] = outputs[name]
            if self._masks and node.index in self._masks:
                for name, slot in call.gives:
                    self._give(node, slot, outputs[name])
        ledger = job.ledger
        mark = ""
        if not call.plain:
            entry = self._entries[node.index]
            mark = entry[4] if entry else ""
            if self._circuit.remembered[node.index] and not job.stand_in:
                self._circuit.remember(node, values, ledger.computed_ns)
        if response.marks:
            self._marks += tuple([f"{node.name}/{each}" for each in response.marks])
        self._entries[node.index] = (job.ready_ns, ledger.started_ns, ledger.computed_ns, ledger, mark)
        self._decided(node, ledger.computed_ns)

    def _decided(self, node: Node, at_ns: int) -> None:
        pending = self._pending
        for index in node.consumers:
            if pending[index] == 1:
                self._ready.append((index, at_ns))
            pending[index] -= 1
        self._left -= 1
        if not self._left:
            self._tell_end(self, None)

    def _skip(self, node: Node, ready_ns: int, now_ns: int) -> None:
        self._masks.pop(node.index, None)
        rows = self._rows_of(node)[1]
        for slot, constant in node.otherwise:
            self._values[slot] = constant.of(rows)
        self._entries[node.index] = (ready_ns, now_ns, now_ns, None, "skipped")
        self._decided(node, now_ns)

    # What does not go well.

    def _overdue(self, node: Node) -> None:
        """The node's own time is up, and its job has not ended."""
        job = self._jobs[node.index]
        if job is None or job.stand_in or not _runs(job):
            return
        self._jobs[node.index] = None
        job.cancel()
        self._failed(node, DeadlineExceeded(f"not answered within its bound of {_ms(job)} ms"), job.ready_ns)

    def _failed(self, node: Node, error: VireoError, ready_ns: int, stood_in: bool = False) -> None:
        late = isinstance(error, DeadlineExceeded | ResourceExhausted)
        fallback = (node.on_late or node.on_error) if late else node.on_error
        now_ns = self._circuit.clock()
        if fallback is None or stood_in or self.job.cancelled or now_ns >= self.job.deadline_ns:
            self._fail(self._blamed(node, error))
        else:
            self._stand_in(node, fallback, "late" if late else "failed", ready_ns, error)

    def _stand_in(
        self, node: Node, fallback: Fallback, why: str, ready_ns: int, error: VireoError | None = None
    ) -> None:
        now_ns = self._circuit.clock()
        if fallback.target is not None:
            self._call_stand_in(node, fallback, why, ready_ns, now_ns)
            return
        if fallback.cached is not None:
            answer = self._circuit.recall(node, fallback, self._values, now_ns)
            if answer is None:
                error = error or DeadlineExceeded("predicted not to answer in time")
                missed = type(error)(
                    f"{error.message}; no earlier answer is remembered", retry_after_s=error.retry_after_s
                )
                self._fail(self._blamed(node, missed))
                return
            for slot, tensor in zip(node.slots, answer, strict=True):
                self._values[slot] = tensor
            what = "cached"
        else:
            rows = self._rows_of(node)[1]
            for slot, constant in fallback.values or ():
                self._give(node, slot, constant.of(rows))
            what = "default"
        self._mark(node, f"{why}: {what}", ready_ns, now_ns)
        self._decided(node, now_ns)

    def _call_stand_in(self, node: Node, fallback: Fallback, why: str, ready_ns: int, now_ns: int) -> None:
        assert fallback.target is not None
        call = self._circuit.stand_in(fallback)
        self._mark(node, f"{why}: {fallback.target.name}", ready_ns, now_ns)
        try:
            job = call.job(self, *self._rows_of(node), ready_ns, now_ns)
        except VireoError as error:
            self._fail(self._blamed(node, error))
            return
        job.stand_in = True
        self._submit(node, call, job)

    def _mark(self, node: Node, mark: str, ready_ns: int, now_ns: int) -> None:
        self._entries[node.index] = (ready_ns, now_ns, now_ns, None, mark)
        self._marks += (f"{node.name}: {mark}",)

    # The end.

    def _fail(self, error: VireoError) -> None:
        running = [job for job in self._jobs if job is not None]
        self._end()
        for job in running:
            try:
                job.cancel()
            except Exception:  # of who interrupts: the others are still to be told, and so is the caller
                log.exception("%s: a node could not be cancelled", self._named())
        self._tell_end(self, error)

    def _end(self) -> None:
        """Lets go of all tensors: no cycle may keep them until the garbage collector comes."""
        self.ended = True
        self._ready.clear()
        self._jobs = []
        self.job.on_cancel = None

    def answered(self, at_ns: int) -> Response:
        """Ends the run; the answer made of what its nodes gave."""
        job, plan = self.job, self._circuit.plan
        wanted = job.request.outputs
        outputs: dict[str, Tensor] = {}
        if not plan.streams or job.part is None:  # else all has been passed on
            for each in plan.outputs:
                if not wanted or each.spec.name in wanted:
                    tensor = first_there(self._values, each.choices)
                    assert tensor is not None, "a plan has no output that may be missing"
                    outputs[each.spec.name] = tensor
            if len(wanted) > 1:
                outputs = {name: outputs[name] for name in wanted}
        job.ledger.run(job.ledger.received_ns, at_ns, job.rows)
        job.ledger.stages_of = StagesOf(plan, self._entries, job.deadline_ns, job.ledger.received_ns)
        self._end()
        return Response(plan.name, 1, outputs, job.ledger, job.request.id, self._marks)

    def pass_on(self, response: Response) -> None:
        """See `call.Run`; called by the streaming node's worker. All of the graph's outputs are that node's."""
        job, plan = self.job, self._circuit.plan
        assert job.part is not None
        node = plan.nodes[-1]
        named = dict(zip(node.slots, node.outputs, strict=True))
        wanted = job.request.outputs
        outputs = {
            each.spec.name: response.outputs[named[each.choices[0]]]
            for each in plan.outputs
            if not wanted or each.spec.name in wanted
        }
        job.part(Response(plan.name, 1, outputs, job.ledger, job.request.id, self._marks))

    @property
    def entries(self) -> list[Entry | None]:
        """What became of each node, None where it was not decided."""
        return self._entries

    @property
    def values(self) -> Values:
        """What its slots hold."""
        return self._values

    @property
    def marks(self) -> tuple[str, ...]:
        """See `Response.marks`."""
        return self._marks

    # Words.

    def _named(self) -> str:
        return f"graph '{self._circuit.plan.name}'"

    def _blamed(self, node: Node, error: VireoError) -> VireoError:
        text = f"{self._named()}, node '{node.name}': {error.message}"
        return type(error)(text, retry_after_s=error.retry_after_s)

    def _too_late(self) -> DeadlineExceeded:
        running = [each.call.node.name for each in self._jobs if each is not None]
        what = f"node '{running[0]}' had not answered" if running else "nothing more was started"
        return DeadlineExceeded(f"{self._named()}: the deadline has passed; {what}")


class Ring:
    """What the alarm calls when the time of a node, or (`DEADLINE`) of the whole run, is up. It keeps no run alive."""

    __slots__ = ("_event", "_run")

    def __init__(self, run: GraphRun, event: int) -> None:
        self._run, self._event = ref(run), event

    def __call__(self) -> None:
        run = self._run()
        if run is not None and not run.ended:
            run.tell(self._event)
            run.flush()


def _heard_at_once(_: Job) -> None:
    """The `done` of a job that is computed before `run_at_once` returns."""


def _runs(job: NodeJob) -> bool:
    return job.response is None and job.error is None


def _ms(job: NodeJob) -> float:
    return round((job.deadline_ns - job.ready_ns) / 1e6, 1)
