"""Tensors and words as columns of a log: types checked, nothing bent to fit. Used by the thread that writes records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import InvalidArgument, quoted
from engine.tensor import BF16, Array, DataType, Tensor

Indexes = npt.NDArray[np.intp]

_STEPS = {pa.types.is_timestamp: pa.int64(), pa.types.is_date32: pa.int32()}
"""Whole numbers become these on their way to times and dates."""

_REPEATED_ROWS_MAX = 512
"""Words of fewer are repeated before Arrow has them: its own way to repeat takes 40 µs before it begins."""


def make_ready() -> None:
    """Arrow looks for other libraries when it makes its first array, which may take a second."""
    pa.array([0])


def column_of(
    tensors: Sequence[Tensor | None], chosen: Sequence[Indexes], rows: Sequence[int], field: pa.Field
) -> pa.Array:
    """One column of `field`'s type: of each tensor, which has `rows` values or one for all of them, the `chosen`; nulls where
    there is none.

    Raises InvalidArgument, naming the column, where a value does not fit; NaN is a value.
    """
    counts = [len(each) for each in chosen]
    datatype = next((each.datatype for each in tensors if each is not None), None)
    if datatype is None:
        return pa.nulls(sum(counts), field.type)
    parts = [_values(*each, datatype, field.name) for each in zip(tensors, chosen, rows, strict=True)]
    missing = None
    if any(each is None for each in tensors):
        missing = np.repeat([each is None for each in tensors], counts)
    values = np.concatenate(parts) if len(parts) > 1 else parts[0]
    try:
        return _cast(values, field.type, missing)
    except (pa.ArrowException, OverflowError) as error:
        raise InvalidArgument(
            f"column {quoted(field.name)}: a value of {datatype} does not fit {field.type}: {error}"
        ) from error


def _values(tensor: Tensor | None, chosen: Indexes, rows: int, datatype: DataType, column: str) -> Array:
    if tensor is None:
        return np.zeros(len(chosen), np.float32 if datatype is BF16 else datatype.dtype)
    if tensor.datatype is not datatype:
        raise InvalidArgument(f"column {quoted(column)}: {tensor.datatype} beside {datatype}")
    flat = tensor.values.ravel()
    if flat.size == rows:
        return flat if len(chosen) == rows else flat[chosen]
    if flat.size != 1:
        raise InvalidArgument(f"column {quoted(column)}: {flat.size} values for {rows} rows")
    return np.repeat(flat, len(chosen))


def _cast(values: Array, wanted: pa.DataType, missing: Array | None) -> pa.Array:
    if values.dtype.hasobject:
        return pa.array(values, pa.binary(), mask=missing).cast(wanted)  # checks that text is UTF-8
    if pa.types.is_floating(wanted) and values.dtype.kind == "f":
        return pa.array(_narrowed(values, np.dtype(wanted.to_pandas_dtype())), mask=missing)
    found = pa.array(values, mask=missing)
    for kind, step in _STEPS.items():
        if kind(wanted):
            found = found.cast(step)
    return found.cast(wanted)


def _narrowed(values: Array, wanted: np.dtype[np.floating]) -> Array:
    with np.errstate(over="ignore"):
        narrowed = values.astype(wanted, copy=False)
    changed = np.isinf(narrowed) & np.isfinite(values)
    if changed.any():
        raise OverflowError(str(values[changed][0]))
    return narrowed


def words_of(words: Sequence[str | int], rows: Sequence[int], field: pa.Field) -> pa.Array:
    """One column: each word `rows` times. Whole numbers are microseconds since the Unix epoch, or plain."""
    try:
        plain = [text_of(each) if isinstance(each, str) else each for each in words]
        if sum(rows) <= _REPEATED_ROWS_MAX:
            return pa.array(np.repeat(np.array(plain, object), rows), field.type)
        return pa.array(plain, field.type).take(pa.array(np.repeat(np.arange(len(words)), rows)))
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise InvalidArgument(f"column {quoted(field.name)}: does not fit {field.type}: {error}") from error


def text_of(text: str) -> str:
    """`text` with what UTF-8 cannot hold escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
