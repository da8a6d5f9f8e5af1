"""A log's entries as one file that any tool reads: Parquet, or an Arrow IPC file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from engine.errors import InvalidArgument, NotFound, nearest, quoted
from engine.log.disk import DRAFT_SUFFIX, disk_fault, put_in_place
from engine.log.past import ReadableLog, open_past, tables_of
from engine.log.schema import arrow_schema
from engine.table_files import ARROW_SUFFIXES, PARQUET_SUFFIX, endings

if TYPE_CHECKING:
    from engine.spec import Spec


def export_log(spec: Spec, name: str, path: Path) -> int:
    """Writes what the log `name` of `spec` keeps now, in its order, as `path` ends (see `engine.table_files`). Rows written.

    The log may be in use: nothing of it is changed. The file is replaced as a whole, once all of it is written.
    Raises NotFound for a log that is not there, InvalidArgument for another kind of file, Unavailable or ResourceExhausted
    where it cannot be written or the log cannot be read, DataLoss where the log is damaged.
    """
    make = _writer_of(path)
    schema, log = _opened(spec, name)
    draft = path.with_name(f"{path.name}.{uuid4().hex}{DRAFT_SUFFIX}")
    rows = 0
    try:
        with draft.open("xb") as file, make(file, schema) as writer:
            for table in tables_of(log):
                writer.write_table(table.select(schema.names))
                rows += table.num_rows
        put_in_place(draft, path)
    except OSError as error:
        raise disk_fault(error, path, "export the log") from error
    finally:
        log.close()
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return rows


def rows_of_log(spec: Spec, name: str, rows_max: int) -> pa.Table:
    """The first `rows_max` rows that the log `name` of `spec` keeps now, in its order. Raises as `export_log` where it cannot be
    read."""
    schema, log = _opened(spec, name)
    found: list[pa.Table] = []
    rows = 0
    try:
        for table in tables_of(log):
            found.append(table.select(schema.names).slice(0, rows_max - rows))
            rows += found[-1].num_rows
            if rows == rows_max:
                break
    finally:
        log.close()
    return pa.concat_tables(found) if found else schema.empty_table()


def _opened(spec: Spec, name: str) -> tuple[pa.Schema, ReadableLog]:
    if name not in spec.logs:
        raise NotFound(f"no log {quoted(name)}{nearest(name, spec.logs)}")
    schema = arrow_schema(spec.logs[name].schema, f"logs.{name}.schema")
    return schema, open_past(spec.logs[name], schema, spec.path)


def _writer_of(path: Path) -> Callable[[Any, pa.Schema], Any]:
    if path.suffix == PARQUET_SUFFIX:
        import pyarrow.parquet as pq

        return pq.ParquetWriter  # type: ignore[no-any-return]
    if path.suffix in ARROW_SUFFIXES:
        return pa.ipc.new_file  # type: ignore[no-any-return]
    raise InvalidArgument(f"{quoted(str(path))}: expected a name that ends with {endings()}")
