"""One request and its answer, with the ledger of where the time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.clock import Deadline
from engine.tensor import Tensor

Parameter = bool | int | float | str


INTERACTIVE, BATCH = 0, 1
"""Priority classes: somebody waits for the answer; it may take its time."""


@dataclass(slots=True)  # not frozen: that costs four times as much to make, ten times a request
class Stage:
    """What one node of a graph did for one request; instants on the engine's clock, in nanoseconds.

    `ready_ns`: its inputs were there; `started_ns`, `ended_ns`: of the batch of `batch_rows` that answered it (where it did not
    run, all three are alike). `remaining_ns`: of the request's budget at `ready_ns`, NEVER_NS without a deadline. `critical`:
    it lies on the chain of nodes that decided when the graph ended: their `ended_ns - ready_ns` sum up to the graph's total.
    `mark`: empty, or what became of it, such as "skipped" or "late: default". Of a graph inside a graph the names are
    "node/inner node".
    """

    name: str
    ready_ns: int
    started_ns: int
    ended_ns: int
    batch_rows: int
    remaining_ns: int
    critical: bool = False
    mark: str = ""
    """Nothing of it is changed once made."""


@dataclass(slots=True)
class Ledger:
    """Instants of one request on the engine's clock, in nanoseconds, and the size of the batch that answered it.

    received <= started <= computed; an instant that was never reached is 0. `queue_ns` + `compute_ns` is the engine's
    whole share of the request.
    """

    received_ns: int
    started_ns: int = 0
    computed_ns: int = 0
    batch_rows: int = 0
    stages_of: Callable[[], tuple[Stage, ...]] | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Of a graph that has ended, its nodes in the order in which they were ready; else none."""
        return () if self.stages_of is None else self.stages_of()

    def run(self, started_ns: int, computed_ns: int, batch_rows: int) -> None:
        """Enters the batch that answered the request."""
        self.started_ns, self.computed_ns, self.batch_rows = started_ns, computed_ns, batch_rows

    @property
    def queue_ns(self) -> int:
        """Waiting for a worker."""
        return self.started_ns - self.received_ns

    @property
    def compute_ns(self) -> int:
        """In the batch that answered the request: assembly, the servable, and the split."""
        return self.computed_ns - self.started_ns

    @property
    def total_ns(self) -> int:
        """From entering the engine to its answer."""
        return self.computed_ns - self.received_ns


@dataclass(eq=False, slots=True)
class Layout:
    """What all requests with the same names, datatypes, shapes and outputs have in common, compared by identity.

    Who makes many alike makes one of it for all of them: what was found out about the first then holds for the rest.
    `row_shapes`: input names and their shapes without dimension 0.
    """

    bytes_size: int
    row_shapes: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(slots=True)  # not frozen, nor is Response: that costs four times as much to make, once a request
class Request:
    """Tensors for one servable. `version` None means the newest; empty `outputs` means all of them. `priority` is its class,
    INTERACTIVE or BATCH; `trace` the W3C traceparent it came with; `after`: the offsets of a log before which the answer is to
    show everything.

    Never changed once made.
    """

    model: str
    inputs: Mapping[str, Tensor]
    version: int | None = None
    id: str = ""
    outputs: tuple[str, ...] = ()
    deadline: Deadline = Deadline.NEVER
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    layout: Layout | None = None
    priority: int = INTERACTIVE
    trace: str | None = None
    after: Mapping[int, int] | None = None


@dataclass(slots=True)
class Response:
    """What a servable answered, outputs in the order they were asked for (or in the model's own). `marks` say where the answer
    is less than it might be, such as "score: late: default".

    Never changed once made.
    """

    model: str
    version: int
    outputs: Mapping[str, Tensor]
    ledger: Ledger
    id: str = ""
    marks: tuple[str, ...] = ()
