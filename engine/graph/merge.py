"""Rows of one request taken apart, and what was answered for them put together again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from engine.errors import Internal, quoted
from engine.tensor import Tensor

Indexes = npt.NDArray[np.intp]
"""Rows of the whole, ascending."""


def rows_at(tensors: Mapping[str, Tensor], rows: Indexes) -> dict[str, Tensor]:
    """Copies of these rows."""
    return {name: Tensor(each.datatype, each.array[rows]) for name, each in tensors.items()}


def merge(where: str, parts: Sequence[tuple[Indexes | None, Mapping[str, Tensor]]], rows: int) -> dict[str, Tensor]:
    """Tensors of `rows` rows, each part's in their places; the parts hold each row once. Raises Internal, beginning with
    `where`, where a part has not as many rows as it should, or rows of another kind than the first."""
    merged: dict[str, Tensor] = {}
    for name, first in parts[0][1].items():
        whole = np.empty((rows, *first.shape[1:]), first.array.dtype)
        for indexes, tensors in parts:
            assert indexes is not None
            part = tensors[name]
            expected = (len(indexes), *first.shape[1:])
            if part.shape != expected or part.datatype is not first.datatype:
                raise Internal(
                    f"{where}: output {quoted(name)} of one variant is {part.datatype} {list(part.shape)}, "
                    f"expected {first.datatype} {list(expected)} as another's"
                )
            whole[indexes] = part.array
        merged[name] = Tensor(first.datatype, whole)
    return merged
