"""How a run calls one target of its plan: gathers the inputs, counts the rows, and makes the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine.errors import Internal, InvalidArgument
from engine.graph.plan import Choices, Node, Wire
from engine.graph.port import Target
from engine.limits import LAYOUTS_MAX
from engine.request import Layout, Ledger, Request, Response
from engine.scheduling.job import Job
from engine.tensor import Tensor

Values = list[Tensor | None]
"""What the slots of one run hold."""


class Run(Protocol):
    """What a call needs of the run it belongs to."""

    job: Job

    def tell(self, event: NodeJob, /) -> None:
        """This job has ended."""

    def pass_on(self, response: Response) -> None:
        """One of the many responses of the node that streams."""


class NodeJob(Job):
    """One call of a target for a node. `ready_ns`: when the node's inputs were there; `stand_in`: it is a fallback's."""

    __slots__ = ("call", "ready_ns", "run", "stand_in")

    call: Call
    run: Run
    ready_ns: int
    stand_in: bool


def first_there(values: Values, choices: Choices) -> Tensor | None:
    """The tensor in the first slot that holds one."""
    for slot in choices:
        tensor = values[slot]
        if tensor is not None:
            return tensor
    return None


class Call:
    """A target with its wires, called for `node`. Shared by all runs of a plan; any thread.

    `gives`: output name and the slot it goes to. `plain`: nothing is declared of the node that could keep it from being called,
    bound it or stand in for it. `nested`: the target is a graph, which may end later than `run_at_once` returns.
    """

    __slots__ = (
        "_inner", "_layouts", "_model", "_outputs", "_simple", "_sized", "_version", "_wires", "gives", "nested", "node", "plain",
        "port", "target",
    )  # fmt: skip

    def __init__(self, node: Node, target: Target, wires: Sequence[Wire], graph_inputs: int) -> None:
        self.node, self.target, self.port = node, target, target.port
        self._model, self._version = target.name, target.version
        self._outputs = node.outputs
        self.gives = tuple(zip(node.outputs, node.slots, strict=True))
        self.nested = target.port.nested
        self.plain = node.when is None and node.on_late is None and node.on_error is None and not is_bounded(node)
        self._wires = tuple(wires)
        plain = all(wire.constant is None and len(wire.choices) == 1 for wire in wires)
        self._simple = tuple((wire.name, wire.choices[0]) for wire in wires) if plain else None
        self._inner = any(slot >= graph_inputs for wire in wires for slot in wire.choices)
        named = target.signature.input_named
        self._sized = all(named[wire.name].datatype.size is not None for wire in wires)
        self._layouts: dict[tuple[tuple[int, ...], ...], tuple[Layout, int]] = {}

    def job(self, run: Run, values: Values, rows: int, ready_ns: int, now_ns: int) -> NodeJob:
        """The job for `rows` of `values`, with the run's own deadline.

        Raises as `Signature.check` where an input does not fit, but Internal where other nodes made the inputs: then no caller is
        to blame.
        """
        whole = run.job
        inputs: dict[str, Tensor] = {}
        if self._simple is None:
            self._gather(inputs, values, rows)
        else:
            for name, slot in self._simple:
                tensor = values[slot]
                if tensor is not None:
                    inputs[name] = tensor
        layout: Layout | None = None
        if self._sized and len(inputs) == len(self._wires):
            shapes = tuple([each.array.shape for each in inputs.values()])
            known = self._layouts.get(shapes)
            layout, rows = known if known is not None else self._learn(shapes, inputs)
        else:
            rows = self._checked(inputs)
        asked = whole.request
        request = Request(
            self._model, inputs, self._version, asked.id, self._outputs, asked.deadline, _NO_PARAMETERS, layout,
            asked.priority, asked.trace,
        )  # fmt: skip
        job = NodeJob(request, rows, Ledger(now_ns), ended)
        job.deadline_ns = whole.deadline_ns
        if self.target.streams and whole.part is not None:
            job.part = run.pass_on
        job.run, job.call, job.ready_ns, job.stand_in = run, self, ready_ns, False
        return job

    def rows_in(self, values: Values, rows: int) -> int:
        """How many rows the inputs have, `rows` where the target counts none: in a graph that does not count rows, a node may."""
        if self.target.signature.batchable:
            for wire in self._wires:
                tensor = first_there(values, wire.choices) if wire.constant is None else None
                if tensor is not None:
                    return int(tensor.array.shape[0])
        return rows

    def _gather(self, inputs: dict[str, Tensor], values: Values, rows: int) -> None:
        """Optional inputs that are not there are left out."""
        for wire in self._wires:
            tensor = first_there(values, wire.choices) if wire.constant is None else wire.constant.of(rows)
            if tensor is not None:
                inputs[wire.name] = tensor

    def _learn(self, shapes: tuple[tuple[int, ...], ...], inputs: dict[str, Tensor]) -> tuple[Layout, int]:
        """What requests of these shapes have in common, and their rows."""
        rows = self._checked(inputs)
        row_shapes = tuple((name, each.array.shape[1:]) for name, each in inputs.items())
        known = (Layout(sum(each.bytes_size for each in inputs.values()), row_shapes), rows)
        if len(self._layouts) >= LAYOUTS_MAX:
            self._layouts.clear()
        self._layouts[shapes] = known
        return known

    def _checked(self, inputs: dict[str, Tensor]) -> int:
        try:
            return self.target.signature.check(self.target.name, inputs, self._outputs)
        except InvalidArgument as error:
            if self._inner:
                raise Internal(error.message) from error
            raise


def is_bounded(node: Node) -> bool:
    """Whether a node may be late before its graph is."""
    return node.timeout_ns is not None or node.timeout_share is not None or node.on_late is not None


def ended(job: Job) -> None:
    """The `done` of a job that another thread may end."""
    assert isinstance(job, NodeJob)
    job.run.tell(job)


_NO_PARAMETERS: dict[str, bool | int | float | str] = {}
