"""The tensors a servable takes and gives, and the check of a request against them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from engine.declaration import TensorDeclaration
from engine.errors import InvalidArgument, nearest, quoted
from engine.limits import LAYOUTS_MAX
from engine.request import Layout, Request
from engine.tensor import DATATYPES, DataType, Tensor

ANY = -1
"""A dimension that may have any size."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and shape of one input or output; `shape` includes the batch dimension, `ANY` where it varies.

    `embedder`: model and version that an input's values must come from, where a graph wires a node to it.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    optional: bool = False
    embedder: tuple[str, int] | None = None

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of `shape` fits."""
        if len(shape) != len(self.shape):
            return False
        for got, want in zip(shape, self.shape, strict=True):  # noqa: SIM110  half the time of all(...)
            if got != want and want != ANY:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Reshape:
    """The shape that callers know and the model's own, of as many elements, without the rows of what batches; no size is free."""

    outside: tuple[int, ...]
    inside: tuple[int, ...]


def declared_specs(declared: Mapping[str, TensorDeclaration]) -> tuple[TensorSpec, ...]:
    """The tensors that a spec declares, in its order."""
    return tuple(
        TensorSpec(name, DATATYPES[each.datatype], each.shape, each.optional) for name, each in declared.items()
    )


@dataclass(frozen=True)
class Signature:
    """What a servable promises. `batchable`: dimension 0 of every tensor counts independent rows.

    `rows_max` bounds the rows of one request (None: only the general bounds hold).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batchable: bool = False
    rows_max: int | None = None

    @cached_property
    def input_named(self) -> Mapping[str, TensorSpec]:
        """The inputs by name."""
        return {each.name: each for each in self.inputs}

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the model's order."""
        return tuple(each.name for each in self.outputs)

    @cached_property
    def _required(self) -> frozenset[str]:
        return frozenset(each.name for each in self.inputs if not each.optional)

    @cached_property
    def _rows_of_layout(self) -> dict[Layout, int]:
        return {}

    def rows_of(self, request: Request) -> int:
        """As `check`, which is asked once for all requests of one layout."""
        layout, known = request.layout, self._rows_of_layout
        rows = known.get(layout) if layout is not None else None
        if rows is None:
            rows = self.check(request.model, request.inputs, request.outputs)
            if layout is not None:
                if len(known) >= LAYOUTS_MAX:
                    known.clear()
                known[layout] = rows
        return rows

    def check(self, model: str, inputs: Mapping[str, Tensor], outputs: tuple[str, ...]) -> int:
        """Rows of the request (1 where the servable is not batchable); InvalidArgument where it breaks the promise."""
        known = self.input_named
        for name, tensor in inputs.items():
            spec = known.get(name)
            if spec is None:
                raise InvalidArgument(f"model {quoted(model)} has no input {quoted(name)}{nearest(name, known)}")
            if tensor.datatype is not spec.datatype or not spec.takes(tensor.array.shape):
                raise _mismatch(model, spec, tensor)
        if len(inputs) < len(known) and (missing := self._required - inputs.keys()):
            raise InvalidArgument(f"model {quoted(model)}: missing input {', '.join(map(quoted, sorted(missing)))}")
        for name in outputs:
            if name not in self.output_names:
                raise InvalidArgument(
                    f"model {quoted(model)} has no output {quoted(name)}{nearest(name, self.output_names)}"
                )
        return self._rows(model, inputs) if self.batchable else 1

    def _rows(self, model: str, inputs: Mapping[str, Tensor]) -> int:
        rows: int | None = None
        for tensor in inputs.values():
            count = tensor.array.shape[0]
            if rows is not None and count != rows:
                counts = {name: each.array.shape[0] for name, each in inputs.items()}
                raise InvalidArgument(f"model {quoted(model)}: inputs disagree on the number of rows: {counts}")
            rows = count
        if rows is None:
            return 1
        if rows == 0:
            raise InvalidArgument(f"model {quoted(model)}: zero rows, at least 1 is needed")
        if self.rows_max is not None and rows > self.rows_max:
            raise InvalidArgument(
                f"model {quoted(model)}: {rows} rows, at most {self.rows_max} are allowed (max_batch_size)"
            )
        return rows


def _mismatch(model: str, spec: TensorSpec, tensor: Tensor) -> InvalidArgument:
    if tensor.datatype is not spec.datatype:
        return InvalidArgument(
            f"model {quoted(model)}, input {quoted(spec.name)}: expected datatype {spec.datatype}, got {tensor.datatype}"
        )
    return InvalidArgument(
        f"model {quoted(model)}, input {quoted(spec.name)}: expected shape {list(spec.shape)}, got {list(tensor.shape)}"
    )
