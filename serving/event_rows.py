"""Events that came as rows, {column: value} each, turned into a record batch. Pure.

A value that does not fit is told by its place, such as `rows[3].amount`, with what was expected and what came. Whole
columns are converted at once; only where that fails is the one at fault looked for.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from engine import InvalidArgument, nearest, quoted

Place = Callable[[int], str]
"""How a caller calls the value at an index."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NONE: Final = type(None)
_SHOWN_BITS_MAX: Final = 256


def rows_batch(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """`rows` as a batch with those columns of `schema` that occur in them.

    Raises InvalidArgument for an unknown column, a value of another type or out of range, null where the schema forbids it.
    """
    named = set().union(*rows) if rows else set()
    if unknown := named - set(schema.names):
        raise _unknown(schema, rows, unknown)
    fields = [each for each in schema if each.name in named or not each.nullable]
    arrays = [_field_column(each, rows) for each in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _unknown(schema: pa.Schema, rows: Sequence[Mapping[str, Any]], unknown: set[str]) -> InvalidArgument:
    index, name = next((index, name) for index, row in enumerate(rows) for name in row if name in unknown)
    return InvalidArgument(f"rows[{index}]: unknown column {quoted(name)}{nearest(name, schema.names)}")


def _field_column(field: pa.Field, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    name = field.name
    values = [row.get(name) for row in rows]
    return column(field.type, values, lambda index: f"rows[{index}].{name}", nullable=field.nullable)


def column(kind: pa.DataType, values: Sequence[Any], place: Place, *, nullable: bool = True) -> pa.Array:
    """Python values (None for null) as an array of `kind`. Raises InvalidArgument naming `place(index)` of the first at fault."""
    reading = _reading(kind)
    if not nullable and None in values:
        index = values.index(None)
        raise InvalidArgument(f"{place(index)}: expected {reading.expected}, got null")
    if set(map(type, values)) <= reading.plain:
        try:
            return _whole(kind, values)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            pass  # one of them is at fault: which, is found below
    return pa.array([_read(reading, each, place, index) for index, each in enumerate(values)], kind)


def _whole(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    if pa.types.is_timestamp(kind) and any(type(each) is str for each in values):
        return pa.array(values, pa.string()).cast(kind)
    made = pa.array(values, kind)
    if pa.types.is_float32(kind) and np.isinf(made.to_numpy(zero_copy_only=False)).any():
        raise OverflowError("beyond float32")
    return made


class _Reading:
    """How values of an Arrow type are read: in words, the Python types pyarrow converts rightly, and one by one."""

    def __init__(self, expected: str, plain: set[type], one: Callable[[Any], Any]) -> None:
        self.expected = expected
        self.plain = plain | {_NONE}
        self.one = one


def _read(reading: _Reading, value: Any, place: Place, index: int) -> Any:  # noqa: ANN401
    if value is None:
        return None
    try:
        return reading.one(value)
    except (ValueError, TypeError, OverflowError):
        raise InvalidArgument(f"{place(index)}: expected {reading.expected}, got {shown(value)}") from None


def shown(value: object) -> str:
    """A caller's value in an error message: its kind, and its beginning."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return f"text {quoted(value)}"
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS_MAX:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, int | float):
        return f"number {value}"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return type(value).__name__


def _reading(kind: pa.DataType) -> _Reading:
    for is_one, reading in _READINGS:
        if is_one(kind):
            return reading(kind)
    raise InvalidArgument(f"values of type {kind} cannot be sent as rows; send Arrow")


def _boolean(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole_number(kind: pa.DataType) -> Callable[[Any], int]:
    bits = kind.bit_width
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if pa.types.is_signed_integer(kind) else (0, 1 << bits)

    def read(value: Any) -> int:  # noqa: ANN401
        number = _integral(value)
        if not low <= number < high:
            raise OverflowError
        return number

    return read


def _integral(value: Any) -> int:  # noqa: ANN401
    """A whole number, a float that is one, or (what JSON and doubles cannot carry) its digits as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if isinstance(value, str) and not (len(value) <= 20 and value.isascii() and value.lstrip("-").isdigit()):
        raise ValueError
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _number(kind: pa.DataType) -> Callable[[Any], float]:
    largest = float(np.finfo(kind.to_pandas_dtype()).max)

    def read(value: Any) -> float:  # noqa: ANN401
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError
        number = float(value)
        if math.isfinite(number) and abs(number) > largest:
            raise OverflowError
        return number

    return read


def timestamp_us(value: Any) -> int:  # noqa: ANN401
    """Microseconds since the Unix epoch, of ISO 8601 text with a zone or of a whole number of them. Raises ValueError, TypeError,
    OverflowError."""
    if isinstance(value, str):
        read = datetime.fromisoformat(value)
        if read.tzinfo is None:
            raise ValueError("no zone")
        return (read - _EPOCH) // _MICROSECOND
    number = _integral(value)
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError
    return number


def _date(value: Any) -> date:  # noqa: ANN401
    if not isinstance(value, str):
        raise TypeError
    return date.fromisoformat(value)


def _binary(value: Any) -> bytes:  # noqa: ANN401
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _text(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise TypeError
    value.encode()
    return value


def _binary_or_text(kind: pa.DataType) -> _Reading:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _Reading("binary as base64 text", {bytes}, _binary)
    return _Reading("text", {str}, _text)


_TIME: Final = "a time (ISO 8601 with a zone, such as 2026-11-26T10:00:00Z, or whole microseconds)"
_READINGS: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], _Reading]], ...]] = (
    (pa.types.is_boolean, lambda _: _Reading("true or false", {bool}, _boolean)),
    (pa.types.is_integer, lambda kind: _Reading(f"a whole number ({kind})", {int}, _whole_number(kind))),
    (pa.types.is_floating, lambda kind: _Reading(f"a number ({kind})", {int, float}, _number(kind))),
    (pa.types.is_timestamp, lambda _: _Reading(_TIME, {str}, timestamp_us)),
    (pa.types.is_date32, lambda _: _Reading("a date such as 2026-11-26", set(), _date)),
    (
        lambda kind: kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
        _binary_or_text,
    ),
)
