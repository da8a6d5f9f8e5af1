"""A graph resolved against what is loaded: who computes which node, and where each tensor lies. Values only.

Tensors of one run lie in a list, each (node, output) in its own slot: the graph's inputs first, in their declared order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.graph.declaration import CachedSpec
from engine.graph.port import Target
from engine.servables.signature import Signature, TensorSpec
from engine.tensor import Array, Tensor

Slot = int
"""Index into the values of a run."""

Choices = tuple[Slot, ...]
"""Slots of which the first that holds a tensor is taken."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One input of a node: from `choices`, or, where `constant` is set, the same for every request."""

    name: str
    choices: Choices
    constant: Constant | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor made of a declared value. With `rows`, it is one row, repeated for as many as the request has."""

    tensor: Tensor
    rows: bool

    def of(self, rows: int) -> Tensor:
        """The tensor for a request of `rows`."""
        if not self.rows:
            return self.tensor
        array: Array = self.tensor.array.repeat(rows, axis=0) if rows != 1 else self.tensor.array
        return Tensor(self.tensor.datatype, array)


@dataclass(frozen=True, slots=True)
class Condition:
    """True where any element of the tensor in the first filled slot of `choices` compares so with `operand`."""

    choices: Choices
    operator: Literal["", ">", ">=", "<", "<=", "==", "!="]
    operand: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """Exactly one of the three: fixed outputs by slot, a lighter target with its own wires, or an earlier answer.

    Of a `target`, its output `outputs[i]` goes to slot `slots[i]`, as with a node. `cached_key` are the slots of the key.
    """

    values: tuple[tuple[Slot, Constant], ...] | None = None
    target: Target | None = None
    wires: tuple[Wire, ...] = ()
    cached: CachedSpec | None = None
    cached_key: Choices = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One planned call. `needs` are indexes of the nodes it waits for, all lower than its own.

    `outputs` are those that anybody uses (all where it is the streaming end), and `slots` where they go. A node runs
    when each of `needs` is decided: answered, skipped, or stood in for.
    """

    index: int
    name: str
    target: Target
    wires: tuple[Wire, ...]
    needs: tuple[int, ...]
    consumers: tuple[int, ...]
    outputs: tuple[str, ...]
    slots: tuple[Slot, ...]
    when: Condition | None = None
    otherwise: tuple[tuple[Slot, Constant], ...] = ()
    timeout_ns: int | None = None
    timeout_share: float | None = None
    on_error: Fallback | None = None
    on_late: Fallback | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the graph."""

    spec: TensorSpec
    choices: Choices


@dataclass(frozen=True, slots=True)
class PlannedColumn:
    """One column of a record: a tensor in the first filled slot of `choices`, or, where these are empty, the word `word`."""

    name: str
    choices: Choices = ()
    word: str = ""


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    """Rows for a log, for each request answered. See `RecordSpec`; a tensor that is not there is null in its rows."""

    name: str
    log: str
    columns: tuple[PlannedColumn, ...]
    when: Condition | None = None
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole graph. `nodes` are in an order in which each comes after what it needs.

    `input_names[i]` lies in slot i. `streams`: its last node answers with many responses, and so does the graph.
    """

    name: str
    signature: Signature
    input_names: tuple[str, ...]
    slots: int
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    slo_ns: int | None
    streams: bool = False
    records: tuple[PlannedRecord, ...] = ()

    @property
    def targets(self) -> list[Target]:
        """All that its runs may call: of its nodes, and of what stands in for them."""
        fallbacks = [each for node in self.nodes for each in (node.on_late, node.on_error) if each is not None]
        return [node.target for node in self.nodes] + [each.target for each in fallbacks if each.target is not None]
