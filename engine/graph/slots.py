"""Where each tensor of a graph lies, and what is known of it while the graph is resolved."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from engine.errors import FailedPrecondition, quoted
from engine.graph.plan import Choices, Slot
from engine.graph.reference import Reference, parse_reference
from engine.graph.shapes import Shape, both, either, fits, told
from engine.servables.signature import TensorSpec
from engine.tensor import DataType


@dataclass(slots=True)
class _Content:
    """`shape` is what everybody says of it together; `because`, in words, who last said more."""

    datatype: DataType
    shape: Shape
    because: str = ""


class Slots:
    """`add` in the order of the slots; then the rest may be asked by references as they are written."""

    def __init__(self, nodes: Collection[str]) -> None:
        self._nodes = nodes
        self._slots: dict[Reference, Slot] = {}
        self._contents: list[_Content] = []

    def __len__(self) -> int:
        return len(self._contents)

    def add(self, reference: Reference, datatype: DataType, shape: Shape) -> None:
        """The next slot is of this tensor."""
        assert reference not in self._slots, "a tensor has one source"
        self._slots[reference] = len(self._contents)
        self._contents.append(_Content(datatype, shape))

    def of(self, reference: Reference) -> Slot:
        """Where it lies."""
        return self._slots[reference]

    def slot(self, text: str) -> Slot:
        """Where the tensor lies that `text` names."""
        return self._slots[parse_reference(text, self._nodes)]

    def choices(self, texts: Sequence[str]) -> Choices:
        """The slots of several."""
        return tuple(self.slot(each) for each in texts)

    def datatype(self, text: str) -> DataType:
        """Of the tensor that `text` names."""
        return self._contents[self.slot(text)].datatype

    def shape(self, reference: Reference) -> Shape:
        """What is known of it."""
        return self._contents[self._slots[reference]].shape

    def check(self, text: str, into: TensorSpec) -> None:
        """Raises FailedPrecondition where the tensor that `text` names is never what `into` takes."""
        found = self._contents[self.slot(text)]
        if found.datatype is not into.datatype or not fits(found.shape, into.shape):
            raise FailedPrecondition(
                f"expected {told(into.datatype, into.shape)}, {quoted(text)} gives {told(found.datatype, found.shape)}"
                f"{found.because}"
            )

    def narrow(self, text: str, into: TensorSpec, taker: str) -> None:
        """The tensor is, whenever the graph runs to its end, what `taker` takes."""
        content = self._contents[self.slot(text)]
        shape = both(content.shape, into.shape)
        if shape != content.shape:
            content.shape, content.because = shape, f", for {taker} takes {told(into.datatype, into.shape)}"

    def joined(self, name: str, texts: Sequence[str]) -> TensorSpec:
        """One of several tensors, called `name`. Raises FailedPrecondition where they differ in more than free sizes."""
        first = self._contents[self.slot(texts[0])]
        for text in texts[1:]:
            self.check(text, TensorSpec(texts[0], first.datatype, first.shape))
        return TensorSpec(name, first.datatype, either(self._contents[self.slot(each)].shape for each in texts))
