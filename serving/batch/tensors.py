"""Rows of a batch as a model's inputs, and its outputs as rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import Array, FailedPrecondition, InvalidArgument, Signature, Tensor, TensorSpec, quoted
from serving.batch.columns import VERSION_COLUMN, Columns, answer_dims, list_sizes, row_shape
from serving.flight_tensors import flat_values, input_tensor

_ANY = -1


def inputs_of(signature: Signature, columns: Columns, batch: pa.RecordBatch) -> dict[str, Tensor]:
    """A tensor for each input. Raises InvalidArgument where a row cannot be one, or where rows do not fit together."""
    return {
        name: _input(signature.input_named[name], batch.column(column), batchable=signature.batchable)
        for name, column in columns.inputs
    }


def _input(spec: TensorSpec, column: pa.Array, *, batchable: bool) -> Tensor:
    sizes, _ = list_sizes(column.type)
    dims = row_shape(spec.shape, depth=len(sizes), batchable=batchable) or ()
    regular = _regular(spec.name, column, dims)
    if regular is None:
        shape = (len(column), *(0 if dim == _ANY else dim for dim in dims))
        array: Array = np.empty(shape, spec.datatype.dtype)
    else:
        array = input_tensor(spec, regular).array
    if not batchable and array.ndim - 1 == len(spec.shape):
        array = array[0]  # the only row is the tensor
    return Tensor(spec.datatype, array)


def _regular(name: str, column: pa.Array, dims: Sequence[int]) -> pa.Array | None:
    """`column` with lists of one size each, as the model has it; None where they are all empty."""
    if not dims:
        return column
    if column.null_count:
        raise InvalidArgument(f"column {quoted(name)} is null")
    lengths = pc.list_value_length(column)
    size = dims[0] if dims[0] != _ANY else lengths[0].as_py()
    different = pc.index(pc.not_equal(lengths, size), True).as_py()
    if different >= 0:
        raise InvalidArgument(f"column {quoted(name)} has {lengths[different].as_py()} values, the model takes {size}")
    inner = _regular(name, column.flatten(), dims[1:]) if size else None
    return None if inner is None else pa.FixedSizeListArray.from_arrays(inner, size)


def answers_of(
    signature: Signature, columns: Columns, schema: pa.Schema, batch: pa.RecordBatch, outputs: Mapping[str, Tensor], version: int
) -> pa.RecordBatch:  # fmt: skip
    """Rows of `schema`: kept columns, outputs and version. Raises FailedPrecondition where an output has not a row for each."""
    specs = {each.name: each for each in signature.outputs}
    made = {name: batch.column(column) for name, column in columns.kept}
    for name in columns.outputs:
        kind = schema.field(name).type
        made[name] = _answer(name, specs[name], outputs[name], kind, batch.num_rows, batchable=signature.batchable)
    made[VERSION_COLUMN] = pa.array(np.full(batch.num_rows, version, np.int64))
    return pa.RecordBatch.from_arrays([made[each.name] for each in schema], schema=schema)


def _answer(name: str, spec: TensorSpec, tensor: Tensor, kind: pa.DataType, rows: int, *, batchable: bool) -> pa.Array:
    dims = answer_dims(spec, batchable=batchable)
    shape = tensor.shape if batchable or spec.shape[:1] == (1,) else (1, *tensor.shape)
    if len(shape) - 1 != len(dims) or any(
        dim not in (_ANY, size) for dim, size in zip((rows, *dims), shape, strict=True)
    ):
        raise FailedPrecondition(
            f"output {quoted(name)} has shape {list(tensor.shape)} for {rows} row(s), not a row of {list(dims)} for each"
        )
    values = flat_values(tensor)
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return values
    for index in range(len(dims), 0, -1):
        lists, size = math.prod(shape[:index]), shape[index]
        if dims[index - 1] == _ANY:
            values = pa.ListArray.from_arrays(pa.array(np.arange(lists + 1, dtype=np.int32) * np.int32(size)), values)
        else:
            values = pa.FixedSizeListArray.from_arrays(values, size)
    return values
