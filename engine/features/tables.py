"""Reading past events from tables: Parquet files and folders, and Delta tables with the version that was read.

Events in order of time are sorted in memory: a table must fit, as the columns that are read of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from engine.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, nearest, quoted

BATCH_ROWS = 1 << 16
"""Of a batch of events in order."""


@dataclass(frozen=True, slots=True)
class OrderedEvents:
    """A table's rows before an instant, in order of event time, rows of equal times as they lie; and the version read."""

    batches: Iterator[pa.RecordBatch]
    version: int | None
    rows: int


def read_table(
    path: str | Path, version: int | None = None, columns: Sequence[str] | None = None
) -> tuple[pa.Table, int | None]:
    """Columns (all where None) of a Parquet file, a folder of them or a Delta table; and the Delta version, None for Parquet.

    Raises NotFound where there is no such table or version, InvalidArgument for columns it has not, DataLoss for files that
    cannot be read.
    """
    source, found = _opened(path, version)
    return _read(source, path, columns), found


def events_in_order(
    path: str | Path, version: int | None, schema: pa.Schema, event_time: str, until_us: int
) -> OrderedEvents:
    """Rows with `event_time` before `until_us`, as batches of `schema`; columns that the table lacks are null if they may be.

    A row without an event time is left out: nobody can say on which side of `until_us` it lies.
    Raises as `read_table`, and InvalidArgument where a column cannot become what the schema says.
    """
    source, found = _opened(path, version)
    names = [each.name for each in schema if each.name in source.schema.names]
    _check_columns(path, source.schema, [event_time, *(each.name for each in schema if not each.nullable)])
    table = _conformed(_read(source, path, names), schema, path)
    at = pc.cast(table.column(event_time), pa.int64())
    table = table.filter(pc.less(at, pa.scalar(until_us, pa.int64())))
    at = pc.cast(table.column(event_time), pa.int64()).to_numpy()
    order = pa.array(np.argsort(at, kind="stable"))
    return OrderedEvents(_batches(table, order), found, table.num_rows)


def _batches(table: pa.Table, order: pa.Array) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(order), BATCH_ROWS):
        yield from table.take(order[start : start + BATCH_ROWS]).combine_chunks().to_batches()


def _opened(path: str | Path, version: int | None) -> tuple[ds.Dataset, int | None]:
    place = Path(path)
    if not place.exists():
        raise NotFound(f"no table at {quoted(str(path))}")
    if (place / "_delta_log").is_dir():
        return _opened_delta(place, version)
    if version is not None:
        raise InvalidArgument(f"{quoted(str(path))} is not a Delta table, so it has no version {version}")
    try:
        source = ds.dataset(place, format="parquet")
    except (pa.ArrowException, OSError) as error:
        raise DataLoss(f"{quoted(str(path))} cannot be read as Parquet: {error}") from error
    if not source.files:
        raise NotFound(f"no Parquet file in {quoted(str(path))}")
    return source, None


def _opened_delta(place: Path, version: int | None) -> tuple[ds.Dataset, int | None]:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise FailedPrecondition(f"{quoted(str(place))} is a Delta table: install vireo[delta] to read it") from error
    try:
        table = DeltaTable(place, version=version)
        return table.to_pyarrow_dataset(), table.version()
    except (DeltaError, OSError) as error:
        which = "" if version is None else f" at version {version}"
        raise NotFound(f"Delta table {quoted(str(place))}{which} cannot be opened: {error}") from error


def _read(source: ds.Dataset, path: str | Path, columns: Sequence[str] | None) -> pa.Table:
    if columns is not None:
        _check_columns(path, source.schema, columns)
    try:
        return source.to_table(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataLoss(f"{quoted(str(path))} cannot be read: {error}") from error


def _check_columns(path: str | Path, schema: pa.Schema, wanted: Iterable[str]) -> None:
    for name in wanted:
        if name not in schema.names:
            raise InvalidArgument(
                f"table {quoted(str(path))} has no column {quoted(name)}{nearest(name, schema.names)}"
            )


def _conformed(table: pa.Table, schema: pa.Schema, path: str | Path) -> pa.Table:
    return pa.table([_column(table, field, path) for field in schema], schema=schema)


def _column(table: pa.Table, field: pa.Field, path: str | Path) -> pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)])
    values = table.column(field.name)
    where = f"table {quoted(str(path))}, column {quoted(field.name)}"
    if _family(values.type) != _family(field.type):
        raise InvalidArgument(f"{where}: expected {field.type}, got {values.type}")
    try:
        values = values.cast(field.type, safe=not pa.types.is_timestamp(field.type))
    except pa.ArrowException as error:
        raise InvalidArgument(f"{where}: expected {field.type}, got {values.type}: {error}") from error
    if values.null_count and not field.nullable:
        raise InvalidArgument(f"{where}: {values.null_count} values are null, which the log's schema forbids")
    return values


def _family(kind: pa.DataType) -> str:
    """What may be cast to what: a text is never parsed, a number never becomes an instant."""
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    for name, tests in _FAMILIES.items():
        if any(test(kind) for test in tests):
            return name
    return str(kind)


_FAMILIES = {
    "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "binary": (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    "instant": (pa.types.is_timestamp,),
    "date": (pa.types.is_date,),
}
