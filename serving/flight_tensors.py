"""Columns of a record batch as a model's inputs, and its outputs as columns. Pure.

A column of numbers is a tensor of one number a row, a fixed-size list of d numbers one of d a row, lists of lists
likewise; text and binary are BYTES.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import BF16, Array, InvalidArgument, Signature, Tensor, TensorSpec, nearest, quoted


def model_inputs(signature: Signature, batch: pa.RecordBatch) -> dict[str, Tensor]:
    """A tensor for each column. Raises InvalidArgument naming the column, and where it can the row."""
    specs = {each.name: each for each in signature.inputs}
    for name in batch.schema.names:
        if name not in specs:
            raise InvalidArgument(f"unknown column {quoted(name)}{nearest(name, specs)}")
    return {name: input_tensor(specs[name], batch.column(name)) for name in batch.schema.names}


def input_tensor(spec: TensorSpec, column: pa.Array) -> Tensor:
    """The column as one input, a row of it a row. Raises as `model_inputs`."""
    sizes: list[int] = []
    rows, values = len(column), column
    while pa.types.is_fixed_size_list(values.type):
        _check_no_nulls(spec.name, values, math.prod(sizes))
        sizes.append(values.type.list_size)
        values = values.flatten()
    _check_no_nulls(spec.name, values, math.prod(sizes))
    if not sizes and len(spec.shape) > 1:
        sizes = [1] * (len(spec.shape) - 1)
    return Tensor(spec.datatype, _elements(spec, values).reshape(rows, *sizes))


def _check_no_nulls(name: str, values: pa.Array, each_row: int) -> None:
    if values.null_count:
        at = pc.index(values.is_null(), True).as_py()
        raise InvalidArgument(f"row {at // max(1, each_row)}: column {quoted(name)} is null")


def _elements(spec: TensorSpec, values: pa.Array) -> Array:
    datatype = spec.datatype
    if datatype.size is None:
        return _strings(spec, values)
    wanted = pa.float32() if datatype is BF16 else pa.from_numpy_dtype(datatype.dtype)
    numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if pa.types.is_boolean(wanted) != pa.types.is_boolean(values.type) or not (numeric or pa.types.is_boolean(wanted)):
        raise InvalidArgument(f"column {quoted(spec.name)}: expected {datatype.name}, got {values.type}")
    try:
        array = values.cast(wanted).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise InvalidArgument(f"column {quoted(spec.name)}: a value does not fit {datatype.name}: {error}") from error
    if datatype is BF16:
        return Tensor.from_values(spec.name, datatype, array.shape, array).array
    return np.ascontiguousarray(array, datatype.dtype)


def _strings(spec: TensorSpec, values: pa.Array) -> Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        found = values.cast(pa.large_binary()).to_pylist() if not pa.types.is_integer(values.type) else None
    except pa.ArrowException:
        found = None
    if found is None:
        raise InvalidArgument(f"column {quoted(spec.name)}: expected text or binary, got {values.type}")
    array = np.empty(len(found), object)
    array[:] = found
    return array


def model_batch(outputs: Mapping[str, Tensor], rows: int) -> pa.RecordBatch:
    """A column for each output. Raises InvalidArgument where one has not a row for each of the input."""
    return pa.RecordBatch.from_pydict({name: _column(name, each, rows) for name, each in outputs.items()})


def _column(name: str, tensor: Tensor, rows: int) -> pa.Array:
    if tensor.shape[:1] != (rows,):
        raise InvalidArgument(
            f"output {quoted(name)} of shape {list(tensor.shape)} has not a row for each of {rows} rows"
        )
    made = flat_values(tensor)
    sizes = tensor.shape[1:]
    if math.prod(sizes) != 1:
        for size in reversed(sizes):
            made = pa.FixedSizeListArray.from_arrays(made, size)
    return made


def flat_values(tensor: Tensor) -> pa.Array:
    """All elements, row-major: BYTES as binary, BF16 as float32."""
    flat = tensor.values.ravel()
    return pa.array(flat.tolist(), pa.binary()) if tensor.datatype.size is None else pa.array(flat)
