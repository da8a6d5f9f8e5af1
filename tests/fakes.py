"""Stand-ins for the world: a clock moved by hand, servables that record, block or fail, a host that loads nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine import (
    INTERACTIVE,
    Deadline,
    Job,
    Ledger,
    Request,
    Response,
    Signature,
    Tensor,
    TensorSpec,
    VireoError,
    datatype_named,
)
from engine.control.rollout import Artifact
from engine.servables.servable import Tensors, Traits

PATIENCE_S = 20.0
"""How long a test waits for another thread before it says that nothing came."""

FP32 = datatype_named("FP32", of="fakes")
ROWS = Signature((TensorSpec("x", FP32, (-1, 1)),), (TensorSpec("y", FP32, (-1, 1)),), batchable=True)
ALONE = Signature((TensorSpec("x", FP32, (-1, 1)),), (TensorSpec("y", FP32, (-1, 1)),), batchable=False)


class ManualClock:
    """Nanoseconds that pass only when told to."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """Now."""
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_ns += int(seconds * 1e9)


class RecordingServable:
    """Answers y = 2x and keeps the x of every call. `before` runs first in each call: it may block, fail or pass time."""

    def __init__(self, signature: Signature = ROWS, before: Callable[[list[float]], None] | None = None) -> None:
        self.signature = signature
        self.traits = Traits("fake", "a fake says so")
        self.calls: list[list[float]] = []
        self.closed = 0
        self._before = before
        self._lock = threading.Lock()
        self._inside = 0
        self.inside_max = 0

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`."""
        values = [float(each) for each in inputs["x"].array[:, 0]]
        with self._lock:
            self.calls.append(values)
            self._inside += 1
            self.inside_max = max(self.inside_max, self._inside)
        try:
            if self._before is not None:
                self._before(values)
            return {"y": Tensor(FP32, inputs["x"].array * 2)}
        finally:
            with self._lock:
                self._inside -= 1

    def close(self) -> None:
        """Counts."""
        self.closed += 1

    @property
    def computed(self) -> list[float]:
        """Every x that reached the servable, in order."""
        return [value for call in self.calls for value in call]


class CountdownServable(RecordingServable):
    """Streams x, x-1, ... 1, and says when its iterator was closed."""

    def __init__(self) -> None:
        super().__init__(ALONE)
        self.stream_closed = threading.Event()
        self.sent: list[float] = []

    def stream(self, inputs: Tensors, outputs: Sequence[str]) -> Generator[Tensors, None, None]:
        """See `StreamingServable.stream`."""
        try:
            for value in range(int(inputs["x"].array[0, 0]), 0, -1):
                self.sent.append(value)
                yield {"y": tensor(value)}
        finally:
            self.stream_closed.set()


class Gate:
    """Holds whoever comes until it is opened, and tells when somebody has come."""

    def __init__(self) -> None:
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, *_: object) -> None:
        """Comes to the gate."""
        self._entered.release()
        assert self._open.wait(PATIENCE_S), "the gate was never opened"

    def wait_entered(self) -> None:
        """Returns when one more has come."""
        assert self._entered.acquire(timeout=PATIENCE_S), "nobody came to the gate"

    def open(self) -> None:
        """Lets everybody through from now on."""
        self._open.set()


@dataclass(slots=True)
class Endings:
    """Collects jobs as they end; `wait` is for those that end on other threads."""

    jobs: list[Job] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, job: Job) -> None:
        """A job's `done`."""
        with self._changed:
            self.jobs.append(job)
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        """Returns when `count` jobs have ended."""
        with self._changed:
            ended = self._changed.wait_for(lambda: len(self.jobs) >= count, PATIENCE_S)
        assert ended, f"{len(self.jobs)} of {count} jobs ended"

    @property
    def errors(self) -> list[VireoError | None]:
        """The error of each job, in the order they ended."""
        return [each.error for each in self.jobs]


def tensor(*values: float) -> Tensor:
    """FP32 of shape [len(values), 1]."""
    return Tensor(FP32, np.array(values, np.float32).reshape(-1, 1))


def ignore(_: Job) -> None:
    """A `done` for jobs nobody waits for."""


def job(
    *values: float,
    done: Callable[[Job], None] = ignore,
    at_ns: int | None = None,
    received_ns: int = 1_000_000_000,
    part: Callable[[Response], None] | None = None,
    outputs: tuple[str, ...] = (),
    rows: int | None = None,
    priority: int = INTERACTIVE,
) -> Job:
    """A job whose input x has one row a value (one row of 0.0 where none is given)."""
    values = values or (0.0,)
    deadline = Deadline.NEVER if at_ns is None else Deadline(at_ns)
    request = Request("fake", {"x": tensor(*values)}, outputs=outputs, deadline=deadline, priority=priority)
    return Job(request, len(values) if rows is None else rows, Ledger(received_ns), done, part)


def answer(job: Job) -> list[float]:
    """The y of a job that succeeded."""
    assert job.response is not None, job.error
    return [float(each) for each in job.response.outputs["y"].array[:, 0]]


@dataclass(slots=True)
class FakeHosted:
    """What `FakeHost` loads: nothing but the artifact, and what its name meant then."""

    artifact: Artifact
    meaning: int = 1


class FakeHost:
    """Loads what it is told. Keys in `fail_load` and `fail_warm` (`name/version`) fail with the text beside them."""

    def __init__(self) -> None:
        self.fail_load: dict[str, str] = {}
        self.fail_warm: dict[str, str] = {}
        self.events: list[str] = []
        self.loaded: list[FakeHosted] = []
        self.closed: list[FakeHosted] = []
        self.fail_close = False
        self.before_load: Callable[[], None] | None = None
        self.meaning = 1
        """What everything loaded from now on is bound to; what is bound to another is stale."""

    def load(self, artifact: Artifact) -> FakeHosted:
        """See `reconciler.Host`."""
        key = f"{artifact.name}/{artifact.version}"
        self.events.append(f"load {key}")
        failure, hosted = self.fail_load.get(key), FakeHosted(artifact, self.meaning)
        if self.before_load is not None:
            self.before_load()
        if (failure := failure or self.fail_load.get(key)) is not None:
            raise VireoError(failure)
        self.loaded.append(hosted)
        return hosted

    def warm(self, hosted: FakeHosted, before: FakeHosted | None) -> None:
        """See `reconciler.Host`."""
        key = f"{hosted.artifact.name}/{hosted.artifact.version}"
        self.events.append(f"warm {key}")
        if key in self.fail_warm:
            raise ValueError(self.fail_warm[key])

    def close(self, hosted: FakeHosted) -> None:
        """See `reconciler.Host`."""
        self.events.append(f"close {hosted.artifact.name}/{hosted.artifact.version}")
        self.closed.append(hosted)
        if self.fail_close:
            raise OSError("the device is gone")

    def stale(self, hosted: FakeHosted) -> bool:
        """See `reconciler.Host`."""
        return hosted.meaning != self.meaning
