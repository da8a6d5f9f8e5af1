"""A log's columns as an Arrow schema: declared, compared with what is stored, and laid over every batch. Pure, but for pyarrow.

Values are never changed to fit. A batch may bring other types than declared where every value stays exactly what it was:
narrower numbers, other time units that divide exactly, dictionary-encoded, large and view strings. A timestamp without a time
zone is read as UTC, which is what the declared type says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from engine.errors import FailedPrecondition, InvalidArgument, SpecError, nearest, quoted
from engine.limits import NAME_CHARS_MAX
from engine.log.declaration import ColumnSpec

COLUMNS_MAX: Final = 1024
"""Of one log."""

TYPES: Final[Mapping[str, pa.DataType]] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
}
"""A declared column type to Arrow's."""

_NAMES: Final = {found: name for name, found in TYPES.items()}

_EXACT_INTEGER_BITS: Final = {32: 24, 64: 53}
"""Bits of a float to the width of whole numbers it holds exactly."""

_OTHER_LAYOUTS: Final = {
    pa.string(): (pa.large_string(), pa.string_view()),
    pa.binary(): (pa.large_binary(), pa.binary_view()),
}


def arrow_schema(columns: Mapping[str, ColumnSpec | str], where: str = "schema") -> pa.Schema:
    """The declared columns in their order. Raises SpecError that begins with `where` and names the column."""
    if not 1 <= len(columns) <= COLUMNS_MAX:
        raise SpecError(f"{where}: a log has 1 to {COLUMNS_MAX} columns, got {len(columns)}")
    return pa.schema([_field(name, column, where) for name, column in columns.items()])


def _field(name: str, column: ColumnSpec | str, where: str) -> pa.Field:
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        raise SpecError(f"{where}: a column's name has 1 to {NAME_CHARS_MAX} characters, got {quoted(name)}")
    declared = column if isinstance(column, ColumnSpec) else ColumnSpec(column)  # type: ignore[arg-type]  # checked below
    found = TYPES.get(declared.type)
    if found is None:
        hint = nearest(str(declared.type), TYPES)
        raise SpecError(f"{where}.{name}: unknown column type {quoted(str(declared.type))}{hint}")
    return pa.field(name, found, declared.nullable)


def evolve(stored: pa.Schema, declared: pa.Schema) -> None:
    """Whether what was written under `stored` can be read as `declared`; raises FailedPrecondition that names the column.

    Columns may be added where they are nullable (old entries read as null), moved, made nullable, and widened where every value
    stays exact; none may be removed, narrowed, added without nulls, or made not nullable.
    """
    for old in stored:
        if old.name not in declared.names:
            raise FailedPrecondition(
                f"column {quoted(old.name)}: the log holds values of it and the declared schema has none"
                f"{nearest(old.name, declared.names)}; a column can't be removed"
            )
        new = declared.field(old.name)
        if not _widens(old.type, new.type):
            raise FailedPrecondition(
                f"column {quoted(old.name)}: the log holds {_named(old.type)}, declared is {_named(new.type)}, "
                "which can't hold all its values"
            )
        if old.nullable and not new.nullable:
            raise FailedPrecondition(
                f"column {quoted(old.name)}: the log may hold nulls of it, declared is nullable: false"
            )
    for new in declared:
        if new.name not in stored.names and not new.nullable:
            raise FailedPrecondition(
                f"column {quoted(new.name)}: the log's older entries have no value of it; declare it nullable"
            )


def conform(batch: pa.RecordBatch, schema: pa.Schema, *, sound: bool = False) -> pa.RecordBatch:
    """`batch` with exactly the columns of `schema`, in order; the batch itself where it has them already.

    Buffers are shared wherever the type is the same. Missing nullable columns are null. `sound`: the buffers are known to be
    well formed (they come from a checksummed frame); otherwise they are checked first, UTF-8 included, about 7 ns a text, since
    a stored bad batch would break every reader. Raises InvalidArgument that names the column, the expected and the actual type.
    """
    return Layout(schema).of(batch, sound=sound)


class Layout:
    """`conform` for many batches of one schema: what is asked of it is asked once, for which pyarrow makes an object a field."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._never_null = [(at, field.name) for at, field in enumerate(schema) if not field.nullable]

    def of(self, batch: pa.RecordBatch, *, sound: bool = False) -> pa.RecordBatch:
        """See `conform`."""
        if not sound:
            _check_buffers(batch)
        schema = self.schema
        if batch.schema.equals(schema):
            fitted = batch
        else:
            _check_names(batch, schema)
            fitted = pa.RecordBatch.from_arrays([_column(batch, field) for field in schema], schema=schema)
        for at, name in self._never_null:
            column = fitted.column(at)
            if column.null_count:
                raise InvalidArgument(
                    f"column {quoted(name)}: is not nullable, {column.null_count} of {len(column)} rows are null"
                )
        return fitted


def _check_buffers(batch: pa.RecordBatch) -> None:
    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        raise InvalidArgument(f"the record batch is corrupt: {error}") from error


def _check_names(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    seen: set[str] = set()
    for name in batch.schema.names:
        if name not in schema.names:
            raise InvalidArgument(f"column {quoted(name)}: not in the log's schema{nearest(name, schema.names)}")
        if name in seen:
            raise InvalidArgument(f"column {quoted(name)}: given twice")
        seen.add(name)


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    index = batch.schema.get_field_index(field.name)
    if index < 0:
        return _absent(batch, field)
    column = batch.column(index)
    if column.type == field.type:
        return column
    plain = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not _fits(plain, field.type):
        raise InvalidArgument(f"column {quoted(field.name)}: expected {_named(field.type)}, got {_named(column.type)}")
    try:
        return _cast(column, field.type)
    except pa.ArrowException as error:
        raise InvalidArgument(
            f"column {quoted(field.name)}: expected {field.type}, got {column.type}: {error}"
        ) from error


def _absent(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if not field.nullable:
        raise InvalidArgument(
            f"column {quoted(field.name)}: is not nullable and missing{nearest(field.name, batch.schema.names)}"
        )
    return pa.nulls(batch.num_rows, field.type)


def _cast(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    return column.cast(wanted, safe=True)


def _named(found: pa.DataType) -> str:
    return _NAMES.get(found, str(found))


def _fits(actual: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of `actual` may be exact in `wanted`; the cast decides where it hangs on each value."""
    types = pa.types
    if types.is_null(actual) or _widens(actual, wanted):
        return True
    both_times = types.is_timestamp(actual) and types.is_timestamp(wanted)
    both_dates = types.is_date(actual) and types.is_date(wanted)
    return bool(both_times or both_dates)


def _widens(actual: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of `actual` is exact in `wanted`."""
    types = pa.types
    if actual == wanted or actual in _OTHER_LAYOUTS.get(wanted, ()):
        return True
    if types.is_fixed_size_binary(actual):
        return bool(types.is_binary(wanted))
    if types.is_integer(wanted):
        grows = types.is_integer(actual) and actual.bit_width < wanted.bit_width
        return bool(grows and (types.is_unsigned_integer(actual) or types.is_signed_integer(wanted)))
    if types.is_floating(wanted) and types.is_integer(actual):
        return bool(actual.bit_width < _EXACT_INTEGER_BITS[wanted.bit_width])
    return bool(types.is_floating(wanted) and types.is_floating(actual) and actual.bit_width < wanted.bit_width)
