"""Messages' payloads to rows of a log and back. It knows no broker: bytes in, record batches out.

One bad payload fails alone: it is told with its position and why, and the others are decoded as if it had not been there.
Whether a payload is good never depends on its neighbours, so that a replay in other chunks gives the same rows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import nearest, quoted

_LOGGER = logging.getLogger(__name__)

STRANGERS_MAX: Final = 100
"""Unknown columns of one log that are remembered."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows, for each the position of the payload it came from (int64 [rows], ascending), and what was bad: position to reason."""

    batch: pa.RecordBatch
    source: npt.NDArray[np.int64]
    bad: dict[int, str]


class Payload(Protocol):
    """One format. Used by one thread at a time."""

    rows_apart: bool
    """Whether every row is a message of its own."""

    def encode(self, batch: pa.RecordBatch, bytes_max: int) -> list[bytes]:
        """Payloads of at most `bytes_max` that hold these rows, in order. The batch has the log's schema.

        Raises InvalidArgument for values the format can't carry, TooLarge for a row that doesn't fit in one message.
        """

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Rows of payloads; None is a message without one."""


class Strangers:
    """Columns that messages carry and the log's schema has not: ignored, as Kafka's consumers do, but said once each."""

    def __init__(self, schema: pa.Schema) -> None:
        self._known = frozenset(schema.names)
        self.names: set[str] = set()

    def meet(self, names: Sequence[str]) -> None:
        """Remembers those that are unknown and warns of each new one."""
        for name in names:
            if name not in self._known and name not in self.names and len(self.names) < STRANGERS_MAX:
                self.names.add(name)
                _LOGGER.warning("column %s of messages is ignored%s", quoted(name), nearest(name, self._known))


NO_PAYLOAD: Final = "the message has no value"


def rows_to_batch(columns: list[list[object]], schema: pa.Schema) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Columns of Python values as a batch, without the rows that have a value of a wrong type, or none where one is needed.

    Gives the batch of the good rows, and the bad: row to reason. Raises nothing.
    """
    bad: dict[int, str] = {}
    arrays = [_array(values, field, bad) for values, field in zip(columns, schema, strict=True)]
    if not bad:
        return pa.RecordBatch.from_arrays(arrays, schema=schema), bad
    good = np.ones(len(columns[0]), bool)
    good[list(bad)] = False
    mask = pa.array(good)
    return pa.RecordBatch.from_arrays([each.filter(mask) for each in arrays], schema=schema), bad


_REFUSALS = (pa.ArrowException, OverflowError, TypeError, ValueError)


def _array(values: list[object], field: pa.Field, bad: dict[int, str]) -> pa.Array:
    make = times if pa.types.is_timestamp(field.type) else pa.array
    try:
        made = make(values, field.type)
    except _REFUSALS:
        made = make([_checked(each, row, field, bad) for row, each in enumerate(values)], field.type)
    if not field.nullable and made.null_count:
        for row in np.flatnonzero(np.asarray(made.is_null())).tolist():
            bad.setdefault(row, f"column {quoted(field.name)}: is missing or null, and not nullable")
    return made


def _checked(value: object, row: int, field: pa.Field, bad: dict[int, str]) -> object:
    make = times if pa.types.is_timestamp(field.type) else pa.array
    try:
        make([value], field.type)
    except _REFUSALS:
        came = quoted(value) if isinstance(value, str) else f"{type(value).__name__} {quoted(repr(value))}"
        bad.setdefault(row, f"column {quoted(field.name)}: expected {field.type}, got {came}")
        return None
    return value


def times(values: list[object], kind: pa.DataType) -> pa.Array:
    """Texts (ISO 8601), datetimes and numbers (`epoch_us`) as microseconds, UTC; what names no time zone is UTC.

    Digits past the microsecond are rounded. Raises ValueError or TypeError for anything else.
    """
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {str}:
        try:
            return pa.array(values, pa.string()).cast(kind)
        except pa.ArrowInvalid:
            pass  # another spelling than Arrow's: nanoseconds, or no time zone
    elif kinds == {int}:
        return epoch_us(pa.array(values, pa.int64()), kind)
    return pa.array([_time(each, kind) for each in values], kind)


def _time(value: object, kind: pa.DataType) -> object:
    import msgspec

    if isinstance(value, bool):
        raise TypeError("a time is no bool")
    if isinstance(value, int):
        return epoch_us(pa.array([value], pa.int64()), kind)[0].as_py()
    if isinstance(value, str):
        from datetime import datetime

        try:
            return msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            return pa.array([value]).cast(kind)[0].as_py()
    return value


def epoch_us(numbers: pa.Array, kind: pa.DataType) -> pa.Array:
    """Whole numbers since the Unix epoch as microseconds, by their size: under 1e11 seconds, under 1e14 milliseconds, under 1e17
    microseconds, else nanoseconds. So read, each lies between 1973 and 5138 (seconds also before)."""
    values = np.asarray(numbers.fill_null(0))
    scaled = values // 1_000
    for bound, factor in ((10**17, 1), (10**14, 1_000), (10**11, 1_000_000)):
        scaled = np.where((-bound < values) & (values < bound), values * factor, scaled)
    mask = np.asarray(numbers.is_null()) if numbers.null_count else None
    return pa.array(scaled, pa.int64(), mask=mask).cast(kind)
