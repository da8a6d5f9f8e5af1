"""Which columns are a model's inputs, which are kept, what the output's are: checked once, before a row is read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from engine import BF16, InvalidArgument, Signature, TensorSpec, nearest, quoted

VERSION_COLUMN: Final = "model_version"
EVERYTHING: Final = "*"
_ANY: Final = -1


@dataclass(frozen=True, slots=True)
class Columns:
    """`inputs`: (model input, column it is read from); `kept`: (column of the output, of the input); `outputs` of the model."""

    inputs: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]

    @property
    def read(self) -> list[str]:
        """The input's columns that are needed, each once."""
        return list(dict.fromkeys(column for _, column in (*self.inputs, *self.kept)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: the column of a model input of another name, columns to keep and as what, the outputs (empty: all)."""

    inputs: Mapping[str, str]
    kept: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()


def resolve_columns(model: str, signature: Signature, schema: pa.Schema, wanted: Wanted) -> Columns:
    """`wanted`, checked against the model and the input's schema. Raises InvalidArgument naming column, expected and actual."""
    for name in wanted.inputs:
        if name not in signature.input_named:
            raise InvalidArgument(
                f"--columns: model {quoted(model)} has no input {quoted(name)}{nearest(name, signature.input_named)}"
            )
    inputs = []
    for spec in signature.inputs:
        column = wanted.inputs.get(spec.name, spec.name)
        if spec.optional and spec.name not in wanted.inputs and column not in schema.names:
            continue
        _check_there(f"model {quoted(model)}, input {quoted(spec.name)}", column, schema)
        _check_type(model, spec, column, schema.field(column).type, batchable=signature.batchable)
        inputs.append((spec.name, column))
    kept = _kept(schema, wanted.kept)
    for name in wanted.outputs:
        if name not in signature.output_names:
            raise InvalidArgument(
                f"--outputs: model {quoted(model)} has no output {quoted(name)}{nearest(name, signature.output_names)}"
            )
    found = Columns(tuple(inputs), kept, wanted.outputs or signature.output_names)
    _check_names(found)
    return found


def _kept(schema: pa.Schema, wanted: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    kept: list[tuple[str, str]] = []
    for name, column in wanted:
        if column == EVERYTHING and column not in schema.names:
            kept += [(each, each) for each in schema.names]
        else:
            _check_there("--keep", column, schema)
            kept.append((name, column))
    return tuple(kept)


def _check_there(what: str, column: str, schema: pa.Schema) -> None:
    count = schema.names.count(column)
    if count != 1:
        problem = "the input has no column" if not count else f"the input has {count} columns called"
        raise InvalidArgument(f"{what}: {problem} {quoted(column)}{'' if count else nearest(column, schema.names)}")


def _check_names(columns: Columns) -> None:
    names = [*(name for name, _ in columns.kept), *columns.outputs, VERSION_COLUMN]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgument(
                f"the output would have two columns {quoted(name)}: keep one by another name (--keep NEW={name})"
            )


def row_shape(shape: Sequence[int], *, depth: int, batchable: bool) -> tuple[int, ...] | None:
    """The dimensions of what a column with lists `depth` deep must have in one row, for an input of `shape`; None: it cannot fit.

    One number is taken for one row of all dimensions 1. An input that is not batchable is one row whole, or its only row.
    """
    dims = tuple(shape[1:]) if batchable else tuple(shape)
    if depth == len(dims):
        return dims
    if not batchable and depth == len(dims) - 1 and dims[0] in (1, _ANY):
        return dims[1:]
    return () if not depth and all(each in (1, _ANY) for each in dims) else None


def list_sizes(kind: pa.DataType) -> tuple[list[int], pa.DataType]:
    """(how many each list has, _ANY where that varies; what is inside them)."""
    sizes: list[int] = []
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size if pa.types.is_fixed_size_list(kind) else _ANY)
        kind = kind.value_type
    return sizes, kind


def _check_type(model: str, spec: TensorSpec, column: str, kind: pa.DataType, *, batchable: bool) -> None:
    sizes, inner = list_sizes(kind)
    dims = row_shape(spec.shape, depth=len(sizes), batchable=batchable)
    fits = dims is not None and all(_ANY in pair or pair[0] == pair[1] for pair in zip(sizes, dims, strict=True))
    if not fits or not _takes(spec, inner):
        shape = [size if size != _ANY else "any" for size in (spec.shape[1:] if batchable else spec.shape)]
        raise InvalidArgument(
            f"column {quoted(column)}: model {quoted(model)}, input {quoted(spec.name)}: expected {spec.datatype.name} of shape "
            f"{shape} a row, got {kind}".replace("'any'", "any")
        )


def _takes(spec: TensorSpec, kind: pa.DataType) -> bool:
    types = pa.types
    if spec.datatype.size is None:
        if types.is_dictionary(kind):
            kind = kind.value_type
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
                    or types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))  # fmt: skip
    if spec.datatype.dtype.kind == "b":
        return bool(types.is_boolean(kind))
    return bool(types.is_integer(kind) or types.is_floating(kind))


def answer_dims(spec: TensorSpec, *, batchable: bool) -> tuple[int, ...]:
    """The dimensions of one row of an output."""
    return spec.shape[1:] if batchable or spec.shape[:1] == (1,) else spec.shape


def output_schema(signature: Signature, schema: pa.Schema, columns: Columns) -> pa.Schema:
    """The output's columns: what is kept, the model's outputs, the version that gave them."""
    specs = {each.name: each for each in signature.outputs}
    fields = [pa.field(name, schema.field(column).type) for name, column in columns.kept]
    for name in columns.outputs:
        fields.append(pa.field(name, _answer_type(specs[name], batchable=signature.batchable)))
    return pa.schema([*fields, pa.field(VERSION_COLUMN, pa.int64())])


def _answer_type(spec: TensorSpec, *, batchable: bool) -> pa.DataType:
    if spec.datatype.size is None:
        kind = pa.binary()
    else:
        kind = pa.float32() if spec.datatype is BF16 else pa.from_numpy_dtype(spec.datatype.dtype)
    dims = answer_dims(spec, batchable=batchable)
    if all(each == 1 for each in dims):
        return kind
    for size in reversed(dims):
        kind = pa.list_(kind) if size == _ANY else pa.list_(kind, size)
    return kind
