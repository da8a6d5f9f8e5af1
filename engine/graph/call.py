"""How a run calls one target of its plan: gathers the inputs, counts the rows, and makes the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine.errors import Internal, InvalidArgument
from engine.graph.plan import Choices, Slot, Wire
from engine.graph.port import Target
from engine.limits import LAYOUTS_MAX
from engine.request import Layout, Ledger, Request
from engine.scheduling.job import Job
from engine.tensor import Tensor

Values = list[Tensor | None]
"""What the slots of one run hold."""


class Run(Protocol):
    """What a call needs of the run it belongs to."""

    job: Job

    def tell(self, event: NodeJob, /) -> None:
        """This job has ended."""


class NodeJob(Job):
    """One call of a target for a node. `ready_ns`: when the node's inputs were there; `stand_in`: it is a fallback's."""

    __slots__ = ("node", "ready_ns", "run", "stand_in")

    run: Run
    node: int
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
    """A target with its wires. Shared by all runs of a plan; any thread."""

    __slots__ = ("_fixed", "_inner", "_layouts", "_simple", "_sized", "_wires", "outputs", "port", "slots", "target")

    def __init__(
        self, target: Target, wires: Sequence[Wire], outputs: Sequence[str], slots: Sequence[Slot], graph_inputs: int
    ) -> None:
        self.target, self.port = target, target.port
        self.outputs, self.slots = tuple(outputs), tuple(slots)
        self._wires = tuple(wires)
        plain = all(wire.constant is None and len(wire.choices) == 1 for wire in wires)
        self._simple = tuple((wire.name, wire.choices[0]) for wire in wires) if plain else None
        self._inner = any(slot >= graph_inputs for wire in wires for slot in wire.choices)
        named = target.signature.input_named
        self._sized = all(named[wire.name].datatype.size is not None for wire in wires)
        self._fixed = len(named) == len(wires)
        self._layouts: dict[tuple[tuple[int, ...], ...], tuple[Layout, int]] = {}

    def gather(self, values: Values, rows: int) -> dict[str, Tensor]:
        """The inputs, by the target's names; optional ones that are not there are left out."""
        inputs: dict[str, Tensor] = {}
        if self._simple is not None:
            for name, slot in self._simple:
                tensor = values[slot]
                if tensor is not None:
                    inputs[name] = tensor
            return inputs
        for wire in self._wires:
            tensor = first_there(values, wire.choices) if wire.constant is None else wire.constant.of(rows)
            if tensor is not None:
                inputs[wire.name] = tensor
        return inputs

    def measure(self, inputs: dict[str, Tensor]) -> tuple[Layout | None, int]:
        """What a request of these inputs has in common with others, and its rows. Raises as `Signature.check`, but Internal
        where other nodes made the inputs: then no caller is to blame."""
        if not self._sized or len(inputs) < len(self._wires):
            return None, self._checked(inputs)
        shapes = tuple([each.array.shape for each in inputs.values()])
        known = self._layouts.get(shapes)
        if known is None:
            rows = self._checked(inputs)
            row_shapes = tuple((name, each.array.shape[1:]) for name, each in inputs.items())
            known = (Layout(sum(each.bytes_size for each in inputs.values()), row_shapes), rows)
            if len(self._layouts) >= LAYOUTS_MAX:
                self._layouts.clear()
            self._layouts[shapes] = known
        return known

    def _checked(self, inputs: dict[str, Tensor]) -> int:
        try:
            return self.target.signature.check(self.target.name, inputs, self.outputs)
        except InvalidArgument as error:
            if self._inner:
                raise Internal(error.message) from error
            raise

    def job(self, run: Run, node: int, inputs: dict[str, Tensor], ready_ns: int, now_ns: int) -> NodeJob:
        """The job, with the run's own deadline. Raises as `measure`."""
        layout, rows = self.measure(inputs)
        parent = run.job.request
        request = Request(
            self.target.name, inputs, self.target.version, parent.id, self.outputs, parent.deadline, _NO_PARAMETERS, layout
        )  # fmt: skip
        request.priority, request.trace = parent.priority, parent.trace
        job = NodeJob(request, rows, Ledger(now_ns), _ended)
        job.deadline_ns = run.job.deadline_ns
        job.run, job.node, job.ready_ns, job.stand_in = run, node, ready_ns, False
        return job


def _ended(job: Job) -> None:
    assert isinstance(job, NodeJob)
    job.run.tell(job)


_NO_PARAMETERS: dict[str, bool | int | float | str] = {}
