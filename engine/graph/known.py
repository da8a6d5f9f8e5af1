"""What is known of servables before anything is loaded, and whether tensors and declared values fit each other. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.declaration import TensorDeclaration, Value
from engine.errors import quoted
from engine.tensor import DATATYPES

Tensors = Mapping[str, TensorDeclaration | None]
"""By name; None where only loading tells what it is."""


@dataclass(frozen=True, slots=True)
class Known:
    """A servable whose tensors' names the spec tells. `kind` in words, such as "function"; `rows`: dimension 0 of each counts
    independent rows for certain."""

    kind: str
    inputs: Tensors
    outputs: Tensors
    rows: bool = False


def mismatch(got: TensorDeclaration | None, wanted: TensorDeclaration | None) -> str | None:
    """Why a tensor declared as `got` never fits where `wanted` is; None where it may. A free dimension fits any."""
    if got is None or wanted is None:
        return None
    if got.datatype != wanted.datatype:
        return f"expected datatype {wanted.datatype}, got {got.datatype}"
    sizes = zip(got.shape, wanted.shape, strict=False)
    if len(got.shape) == len(wanted.shape) and all(-1 in (one, other) or one == other for one, other in sizes):
        return None
    return f"expected shape {list(wanted.shape)}, got {list(got.shape)}"


def joined(one: TensorDeclaration | None, other: TensorDeclaration | None) -> TensorDeclaration | None:
    """What either of two tensors that fit each other is: dimensions in which they differ are free."""
    if one is None or other is None:
        return one or other
    shape = tuple(left if left == right else -1 for left, right in zip(one.shape, other.shape, strict=True))
    return TensorDeclaration(one.datatype, shape)


def value_mismatch(
    value: Value | tuple[Value, ...], wanted: TensorDeclaration | None, *, rows: bool = False
) -> str | None:
    """Why a declared value is none of tensor `wanted`; None where it may be one. With `rows` a list is one row."""
    if wanted is None:
        return None
    if not isinstance(value, tuple):
        return _scalar_mismatch(value, wanted.datatype)
    if rows and wanted.shape[:1] == (-1,):
        wanted = TensorDeclaration(wanted.datatype, wanted.shape[1:])
        one = "one row of "
    else:
        one = ""
    fixed = math.prod(size for size in wanted.shape if size != -1)
    if len(value) != fixed if -1 not in wanted.shape else (not fixed or len(value) % fixed):
        some = "a multiple of " if -1 in wanted.shape else ""
        return f"expected {one}{some}{fixed} values for shape {list(wanted.shape)}, got {len(value)}"
    return next((problem for each in value if (problem := _scalar_mismatch(each, wanted.datatype))), None)


def _scalar_mismatch(value: Value, datatype: str) -> str | None:
    dtype = DATATYPES[datatype].dtype
    if datatype == "BOOL":
        return None if isinstance(value, bool) else f"expected true or false for BOOL, got {_written(value)}"
    if datatype == "BYTES":
        return None if isinstance(value, str) else f"expected text for BYTES, got {_written(value)}"
    if isinstance(value, bool | str):
        return f"expected a number for {datatype}, got {_written(value)}"
    if dtype.kind == "f" or datatype == "BF16":
        largest = float(np.finfo(dtype if dtype.kind == "f" else np.float32).max)
        fits = not math.isfinite(value) or -largest <= value <= largest
        return None if fits else f"{datatype} holds no number as large as {_written(value)}"
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if isinstance(value, float) or not low <= value <= high:
        return f"expected a whole number from {low} to {high} for {datatype}, got {_written(value)}"
    return None


def _written(value: Value) -> str:
    return quoted(value) if isinstance(value, str) else quoted(str(value).lower())
