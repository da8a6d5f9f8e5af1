"""Plans made by hand over real workers: random graphs of sums, and what they must answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine import Deadline, Job, Ledger, ModelStatistics, Request, Signature, Tensor, TensorSpec, datatype_named
from engine.graph.alarm import Alarm
from engine.graph.delivery import Delivery
from engine.graph.plan import Choices, Condition, Constant, Fallback, Node, Output, Plan, Wire
from engine.graph.port import NodePort, Target
from engine.graph.records import RecordWriter
from engine.graph.runner import GraphRunner
from engine.scheduling.worker import Worker, WorkerOptions
from engine.servables.servable import Tensors, Traits
from tests.fakes import ManualClock, ignore

FP64 = datatype_named("FP64", of="circuits")
NAMES = ("a", "b", "c")
SUMS = Signature(
    tuple(TensorSpec(name, FP64, (-1,), optional=True) for name in NAMES),
    (TensorSpec("y", FP64, (-1,)),),
    batchable=True,
)


class Sum:
    """y = a + b + c + step, of those that are there. `before` is called first with the servable's name and its rows."""

    signature = SUMS
    traits = Traits("fake", "rows are summed alone")

    def __init__(self, name: str, step: float, before: Callable[[str, int], None]) -> None:
        self.name, self.step, self._before = name, step, before

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`."""
        arrays = [each.array for each in inputs.values()]
        self._before(self.name, len(arrays[0]))
        return {"y": Tensor(FP64, np.sum(arrays, axis=0) + self.step)}

    def close(self) -> None:
        """Holds nothing."""


@dataclass(slots=True)
class Drawn:
    """A random node: the slots it sums, its step, and what may be declared of it."""

    name: str
    slots: tuple[int, ...]
    step: float
    condition: tuple[int, float] | None = None
    otherwise: float | None = None
    timeout_ns: int | None = None
    on_late: float | None = None
    on_error: float | None = None


@dataclass(slots=True)
class Circuit:
    """A running graph on a manual clock, and everything that was computed: (node, instant)."""

    drawn: list[Drawn]
    runner: GraphRunner
    clock: ManualClock
    workers: list[Worker]
    alarm: Alarm
    ripe: list[NodePort]
    started: list[tuple[str, int]] = field(default_factory=list)

    def flush(self) -> None:
        """As the engine does."""
        self.runner.flush()
        while self.ripe:
            self.ripe.pop().flush()

    def job(
        self, values: Sequence[float], *, deadline_ns: int | None = None, done: Callable[[Job], None] = ignore
    ) -> Job:
        """A request with input x."""
        deadline = Deadline.NEVER if deadline_ns is None else Deadline(deadline_ns)
        request = Request("graph", {"x": Tensor(FP64, np.array(values, np.float64))}, id="7", deadline=deadline)
        return Job(request, len(values), Ledger(self.clock()), done)

    def close(self) -> None:
        """Ends the threads."""
        self.alarm.close()
        for worker in self.workers:
            worker.close()


def draw(rng: random.Random, *, nodes_max: int = 8, bounds: bool = False) -> list[Drawn]:
    """Nodes that read the graph's input (slot 0) or nodes before them; the last reads all that nobody else does."""
    count = rng.randint(1, nodes_max)
    drawn: list[Drawn] = []
    unread: set[int] = set()
    for index in range(count):
        slots = tuple(rng.sample(range(index + 1), rng.randint(1, min(2, index + 1))))
        unread -= set(slots)
        drawn.append(Drawn(f"n{index}", slots, float(rng.randint(1, 9))))
        unread.add(index + 1)
        if bounds:
            _bound(rng, drawn[-1])
    return drawn


def _bound(rng: random.Random, node: Drawn) -> None:
    if rng.random() < 0.3:
        node.condition = (rng.choice(node.slots), float(rng.randint(-20, 40)))
        node.otherwise = float(rng.randint(-9, 0))
    if rng.random() < 0.3:
        node.timeout_ns = rng.randint(1, 5) * 1_000_000
    if rng.random() < 0.4:
        node.on_late = float(rng.randint(-9, 0))
    if rng.random() < 0.4:
        node.on_error = float(rng.randint(-9, 0))


def expected(drawn: Sequence[Drawn], values: Sequence[float], instead: dict[str, float] | None = None) -> list[float]:
    """What the last node gives, computed one by one; `instead` names nodes that something stood in for."""
    slots = [np.array(values, np.float64)]
    for node in drawn:
        answered = np.sum([slots[each] for each in node.slots], axis=0) + node.step
        if instead is not None and node.name in instead:
            answered = np.full(len(values), instead[node.name])
        if node.condition is not None:
            assert node.otherwise is not None
            answered = np.where(slots[node.condition[0]] > node.condition[1], answered, node.otherwise)
        slots.append(answered)
    return [float(each) for each in slots[-1]]


def build(drawn: Sequence[Drawn], before: Callable[[str, int], None], *, inline: Callable[[int], bool]) -> Circuit:
    """A running graph of `drawn`. `inline(i)`: node i is known to be short, so it is computed on its caller's thread."""
    clock = ManualClock()
    alarm = Alarm(clock)
    ripe: list[NodePort] = []
    workers: list[Worker] = []
    circuit: Circuit

    def flush() -> None:
        circuit.flush()

    def noted(name: str, rows: int) -> None:
        circuit.started.append((name, clock()))
        before(name, rows)

    for index, node in enumerate(drawn):
        servable = Sum(node.name, node.step, noted)
        worker = Worker(node.name, 1, servable, WorkerOptions(), clock, ModelStatistics(), flush)
        if inline(index):
            worker._estimate.observe(1, 1_000)
        workers.append(worker)
    plan = plan_of(
        drawn, [Target(each.name, 1, SUMS, False, worker) for each, worker in zip(drawn, workers, strict=True)]
    )
    statistics = ModelStatistics()
    delivery = Delivery(plan, _no_log, flush)
    runner = GraphRunner(
        plan, clock=clock, alarm=alarm, statistics=statistics, ripen=ripe.append, flush=flush, delivery=delivery
    )
    circuit = Circuit(list(drawn), runner, clock, workers, alarm, ripe)
    return circuit


def _no_log(name: str) -> RecordWriter:
    raise AssertionError(f"nobody records in {name}")


def plan_of(drawn: Sequence[Drawn], targets: Sequence[Target]) -> Plan:
    """`drawn` as a plan: node i writes slot i + 1."""
    reads = [{*node.slots} | ({node.condition[0]} if node.condition else set()) for node in drawn]
    nodes = tuple(
        Node(
            index,
            node.name,
            target,
            tuple(Wire(name, (slot,)) for name, slot in zip(NAMES, node.slots, strict=False)),
            tuple(sorted(slot - 1 for slot in reads[index] if slot)),
            tuple(later for later in range(index + 1, len(drawn)) if index + 1 in reads[later]),
            ("y",),
            (index + 1,),
            None if node.condition is None else Condition((node.condition[0],), ">", node.condition[1]),
            () if node.otherwise is None else ((index + 1, _constant(node.otherwise)),),
            node.timeout_ns,
            None,
            _fallback(index + 1, node.on_error),
            _fallback(index + 1, node.on_late),
        )
        for index, (node, target) in enumerate(zip(drawn, targets, strict=True))
    )
    signature = Signature((TensorSpec("x", FP64, (-1,)),), (TensorSpec("y", FP64, (-1,)),), batchable=True)
    last: Choices = (len(drawn),)
    return Plan("graph", signature, ("x",), len(drawn) + 1, nodes, (Output(signature.outputs[0], last),), None)


def _constant(value: float) -> Constant:
    return Constant(Tensor(FP64, np.array([value])), rows=True)


def _fallback(slot: int, value: float | None) -> Fallback | None:
    return None if value is None else Fallback(values=((slot, _constant(value)),))
