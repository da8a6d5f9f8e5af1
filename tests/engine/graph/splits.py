"""Splits over real workers, and what tests ask of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import numpy as np

from engine import (
    Deadline,
    Job,
    Ledger,
    ModelStatistics,
    NotFound,
    Request,
    Signature,
    Tensor,
    TensorSpec,
    datatype_named,
)
from engine.clock import Clock, monotonic
from engine.graph.declaration import ShadowSpec, TrafficSpec, VariantSpec
from engine.graph.exposure import Exposure
from engine.graph.port import NodePort, Target
from engine.graph.shadow import Shadows
from engine.graph.traffic import TrafficRunner, resolve_traffic
from engine.scheduling.worker import Worker, WorkerOptions
from engine.servables.servable import Servable, Tensors, Traits
from tests.fakes import PATIENCE_S, Endings

FP64, INT64, BYTES = (datatype_named(name, of="splits") for name in ("FP64", "INT64", "BYTES"))
USERS = TensorSpec("user", INT64, (-1,), optional=True)
KEYED = Signature((TensorSpec("x", FP64, (-1,)), USERS), (TensorSpec("y", FP64, (-1,)),), batchable=True)
LONE = Signature(KEYED.inputs, KEYED.outputs, batchable=False)


class Plus:
    """y = x + step. `before` is called first with the x of the call."""

    def __init__(
        self, step: float, before: Callable[[list[float]], None] | None = None, signature: Signature = KEYED
    ) -> None:
        self.signature, self.step, self.before = signature, step, before
        self.traits = Traits("fake", "rows are added to alone")
        self.calls: list[list[float]] = []

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`."""
        values = [float(each) for each in inputs["x"].array.ravel()]
        self.calls.append(values)
        if self.before is not None:
            self.before(values)
        return {"y": Tensor(FP64, inputs["x"].array + self.step)}

    def close(self) -> None:
        """Holds nothing."""

    @property
    def computed(self) -> list[float]:
        """Every x that came, in order."""
        return [value for call in self.calls for value in call]


@dataclass(slots=True)
class Split:
    """A running split, its workers, and who was told to get what."""

    runner: TrafficRunner
    workers: dict[str, Worker]
    exposures: list[Exposure] = field(default_factory=list)
    ripe: list[NodePort] = field(default_factory=list)

    def flush(self) -> None:
        """As the engine does."""
        while self.ripe:
            self.ripe.pop().flush()

    def job(self, request: Request, done: Callable[[Job], None]) -> Job:
        """As the engine makes it."""
        return Job(request, self.runner.plan.signature.rows_of(request), Ledger(monotonic()), done)

    def ask(self, request: Request, *, at_once: bool = True) -> Job:
        """The ended job of one request."""
        endings = Endings()
        job = self.job(request, endings)
        if at_once:
            self.runner.run_at_once(job)
        else:
            self.runner.submit(job)
            self.flush()
        endings.wait(1)
        return job


def request(*values: float, users: Sequence[int] | None = None, request_id: str = "", **more: object) -> Request:
    """A request of split "s"."""
    inputs = {"x": Tensor(FP64, np.array(values, np.float64))}
    if users is not None:
        inputs["user"] = Tensor(INT64, np.array(users, np.int64))
    return Request("s", inputs, id=request_id, **more)  # type: ignore[arg-type]


def within(seconds: float) -> Deadline:
    """The instant so far from now."""
    return Deadline.after(seconds, monotonic())


def answer(job: Job) -> list[float]:
    """The y of a job that succeeded."""
    assert job.response is not None, job.error
    return [float(each) for each in job.response.outputs["y"].array.ravel()]


@contextmanager
def running(
    servables: Mapping[str, Servable],
    weights: Mapping[str, float],
    *,
    key: str | None = None,
    shadows: dict[str, float] | None = None,
    idle: Callable[[], bool] = lambda: True,
    clock: Clock = monotonic,
    inline: bool = True,
) -> Iterator[Split]:
    """A split "s" over workers of `servables`, each called by its own name; the first of `weights` comes first.

    `inline`: they are known to be short.
    """
    workers: dict[str, Worker] = {}
    split: Split

    def find(name: str, version: int | None) -> Target:
        if name not in workers:
            raise NotFound(f"unknown model '{name}'")
        streams = workers[name].streams
        return Target(name, version or 1, servables[name].signature, streams, workers[name])

    for name, servable in servables.items():
        after = lambda: split.flush()  # noqa: E731  made below
        workers[name] = Worker(name, 1, servable, WorkerOptions(), clock, ModelStatistics(), after)
        if inline:
            workers[name]._estimate.observe(1, 1_000)
    spec = TrafficSpec(
        {name: VariantSpec(name, weight) for name, weight in weights.items()},
        key,
        {name: ShadowSpec(name, None, share) for name, share in (shadows or {}).items()},
        "exposures",
    )
    plan = resolve_traffic("s", spec, find)
    ripe: list[NodePort] = []
    flush = lambda: split.flush()  # noqa: E731  made below
    copies = None
    if plan.shadows:
        copies = Shadows("s", plan.shadows, idle=idle, flush=flush, random=Random(2), clock=clock)
    exposures: list[Exposure] = []
    runner = TrafficRunner(
        plan, clock=clock, statistics=ModelStatistics(), random=Random(1), ripen=ripe.append, flush=flush,
        expose=exposures.append, shadows=copies,
    )  # fmt: skip
    split = Split(runner, workers, exposures, ripe)
    try:
        yield split
    finally:
        runner.close()
        for worker in workers.values():
            worker.close()


def until(true: Callable[[], bool]) -> None:
    """Returns when another thread has made it so."""
    waited = threading.Event()
    for _ in range(int(PATIENCE_S * 200)):
        if true():
            return
        waited.wait(0.005)
    raise AssertionError("it never came")
