"""How tensors of a graph fit each other, and tensors made of declared values. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from engine.declaration import TensorDeclaration, Value
from engine.errors import FailedPrecondition
from engine.graph.known import value_mismatch
from engine.graph.plan import Constant
from engine.servables.signature import ANY, TensorSpec
from engine.tensor import Array, DataType, Tensor, element_count

Shape = tuple[int, ...]


def told(datatype: DataType, shape: Shape) -> str:
    """For messages: FP32 [-1, 64]."""
    return f"{datatype.name} {list(shape)}"


def fits(one: Shape, other: Shape) -> bool:
    """Whether a tensor can be of both shapes."""
    return len(one) == len(other) and all(ANY in (a, b) or a == b for a, b in zip(one, other, strict=True))


def both(one: Shape, other: Shape) -> Shape:
    """What is known of a tensor that is of both shapes, which fit each other."""
    return tuple(b if a == ANY else a for a, b in zip(one, other, strict=True))


def sized(shape: Shape, known: Shape) -> Shape:
    """`shape` with its free sizes, all but that of the rows, as they are known from elsewhere."""
    return (*shape[:1], *both(shape, known)[1:])


def either(shapes: Iterable[Shape]) -> Shape:
    """What is known of a tensor that is of one of the shapes, which fit each other: sizes in which they differ are free."""
    return tuple(sizes[0] if len(set(sizes)) == 1 else ANY for sizes in zip(*shapes, strict=True))


def constant_of(value: Value | tuple[Value, ...], spec: TensorSpec, *, batchable: bool) -> Constant:
    """A scalar fills the shape, as one row where dimension 0 is free; a list is one row where the servable is `batchable`,
    else all of the tensor. Raises FailedPrecondition where it does not fit."""
    problem = value_mismatch(value, TensorDeclaration(spec.datatype.name, spec.shape))
    if problem is not None:
        raise FailedPrecondition(problem)
    free = spec.shape[:1] == (ANY,)
    if isinstance(value, tuple):
        shape = _listed(len(value), spec, (1, *spec.shape[1:]) if free and batchable else spec.shape)
        array = Tensor.from_values(spec.name, spec.datatype, shape, value).array
        return _sealed(spec.datatype, array, rows=free and batchable)
    shape = (1, *spec.shape[1:]) if free else spec.shape
    if ANY in shape:
        raise FailedPrecondition(f"one value for {told(spec.datatype, spec.shape)} needs a fixed shape; give a list")
    element_count(spec.name, shape)
    one = Tensor.from_values(spec.name, spec.datatype, (), [value]).array
    return _sealed(spec.datatype, np.full(shape, one.item() if one.dtype.hasobject else one, one.dtype), rows=free)


def _listed(count: int, spec: TensorSpec, shape: Sequence[int]) -> Shape:
    """`shape` with its free size so that it holds `count` values."""
    fixed = math.prod(size for size in shape if size != ANY)
    open_sizes = list(shape).count(ANY)
    if open_sizes > 1 or (count != fixed if not open_sizes else not fixed or count % fixed):
        raise FailedPrecondition(f"a list of {count} values makes no {told(spec.datatype, spec.shape)}")
    return tuple(count // fixed if size == ANY else size for size in shape)


def _sealed(datatype: DataType, array: Array, *, rows: bool) -> Constant:
    array.flags.writeable = False  # all requests share it
    return Constant(Tensor(datatype, array), rows)
