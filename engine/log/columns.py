"""Columns of tables that somebody brings, by name: as one flat array, or as instants."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from engine.errors import InvalidArgument, nearest, quoted


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column by name. Raises InvalidArgument where the table has none or several."""
    count = table.column_names.count(name)
    if count != 1:
        known = nearest(name, table.column_names)
        raise InvalidArgument(f"the table has {count or 'no'} columns {quoted(name)}{known if not count else ''}")
    return table.column(name)


def flat(values: pa.Array | pa.ChunkedArray) -> Any:  # noqa: ANN401  a pa.Array of any kind
    """One array of plain values: chunks joined, dictionaries decoded, texts with 64-bit offsets, so that none overflows."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        values = values.cast(pa.large_string())
    elif pa.types.is_binary(kind):
        values = values.cast(pa.large_binary())
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def instants(table: pa.Table, name: str) -> Any:  # noqa: ANN401  a pa.Array
    """A column of instants as int64 microseconds since the epoch, nulls kept; whole numbers are that already.

    Raises InvalidArgument where there is no such column, and for other types.
    """
    values = flat(column_of(table, name))
    kind = values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        values = values.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
    elif not pa.types.is_integer(kind):
        raise InvalidArgument(f"column {quoted(name)}: expected a timestamp or whole microseconds, got {kind}")
    try:
        return values.cast(pa.int64())
    except pa.ArrowException as error:
        raise InvalidArgument(f"column {quoted(name)}: {error}") from error
