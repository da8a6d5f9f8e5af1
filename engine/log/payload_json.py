"""One JSON object a message, its keys the log's columns.

| column | in JSON | also taken |
|---|---|---|
| timestamp | ISO 8601 text | text without a time zone (UTC); whole numbers: seconds, milli-, micro-, nanoseconds by size |
| date | "2026-11-26" | whole days since 1970-01-01 |
| binary | base64 text | |
| numbers | numbers; whole ones without a fraction | whole numbers where a float is declared |

Unknown keys are ignored; of a key given twice the last counts. JSON has no NaN and no infinity.

Each payload is parsed by msgspec, alone and strictly. Arrow's own JSON reader is a third faster, but takes bytes that are no
UTF-8, merges neighbours, and crashes the process on a lone `null` (pyarrow 26).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from datetime import date
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import InvalidArgument, TooLarge, quoted
from engine.log.payload import NO_PAYLOAD, Decoded, Strangers, rows_to_batch

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
_INT64 = range(-(1 << 63), 1 << 63)
_REFUSALS = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError)
_AT = re.compile(r"^(?P<what>.*) - at `\$\.(?P<column>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<column>.*)`$", re.DOTALL)
_GOT = re.compile(r"got `(?P<came>[^`]*)`")
_YEARS_US: Final = (-62_135_596_800_000_000, 253_402_300_799_999_999)
"""Years 1 to 9999, which ISO 8601 and its readers share."""


class JsonPayload:
    """Payload."""

    rows_apart = True

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.strangers = Strangers(schema)
        names = [f"f{index}" for index in range(len(schema))]
        self._columns = [attrgetter(name) for name in names]
        self._parse = self._parser(names)

    def _parser(self, names: list[str]) -> Callable[[bytes], Any]:
        fields: list[Any] = []
        for name, field in zip(names, self._schema, strict=True):
            kind = _kind(field.type)
            fields.append((name, kind | None, None) if field.nullable else (name, kind))
        rename = dict(zip(names, self._schema.names, strict=True))
        row = msgspec.defstruct("Row", fields, rename=rename, kw_only=True, gc=False)
        parse: Callable[[bytes], Any] = msgspec.json.Decoder(row).decode
        return parse

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Payload."""
        bad: dict[int, str] = {}
        try:
            rows = list(map(self._parse, values))  # type: ignore[arg-type]  # None is a TypeError, looked into below
            source = np.arange(len(rows), dtype=np.int64)
        except (*_REFUSALS, TypeError):
            rows, source = self._one_by_one(values, bad)
        columns = [list(map(each, rows)) for each in self._columns]
        batch, refused = rows_to_batch(columns, self._schema)
        if refused:
            bad |= {int(source[row]): why for row, why in refused.items()}
            source = np.delete(source, list(refused))
        self._look_for_strangers(values)
        return Decoded(batch, source, bad)

    def _one_by_one(self, values: Sequence[bytes | None], bad: dict[int, str]) -> tuple[list[Any], Any]:
        rows: list[Any] = []
        source: list[int] = []
        for position, value in enumerate(values):
            try:
                if value is None:
                    bad[position] = NO_PAYLOAD
                    continue
                rows.append(self._parse(value))
                source.append(position)
            except _REFUSALS as error:
                bad[position] = self._reason(error)
        return rows, np.array(source, np.int64)

    def _reason(self, error: Exception) -> str:
        said = str(error)
        if found := _MISSING.match(said):
            return f"column {quoted(found['column'])}: is missing, and not nullable"
        if found := _AT.match(said):
            index = self._schema.get_field_index(found["column"])
            expected = str(self._schema.field(index).type) if index >= 0 else "something else"
            came = _GOT.search(found["what"])
            what = f"expected {expected}, got {came['came']}" if came else f"expected {expected}: {found['what']}"
            return f"column {quoted(found['column'])}: {what}"
        if isinstance(error, msgspec.ValidationError):
            return f"not one JSON object: {said}"
        return f"not JSON: {'nested too deep' if isinstance(error, RecursionError) else said}"

    def _look_for_strangers(self, values: Sequence[bytes | None]) -> None:
        """In the first payload of each batch: enough to notice a misspelt column, which would be null for ever."""
        try:
            first = orjson.loads(values[0] or b"") if values else None
        except ValueError:
            return
        if isinstance(first, dict):
            self.strangers.meet(list(first))

    def encode(self, batch: pa.RecordBatch, bytes_max: int) -> list[bytes]:
        """Payload."""
        fitted = [_encodable(column, field) for column, field in zip(batch.columns, batch.schema, strict=True)]
        rows = pa.RecordBatch.from_arrays(fitted, names=batch.schema.names).to_pylist()
        payloads = list(map(orjson.dumps, rows))
        for row, payload in enumerate(payloads):
            if len(payload) > bytes_max:
                raise TooLarge(f"row {row} is a message of {len(payload)} bytes, the most is {bytes_max}")
        return payloads


def _kind(kind: pa.DataType) -> Any:  # noqa: ANN401  # a type form
    if pa.types.is_integer(kind):
        low = -(1 << kind.bit_width - 1) if pa.types.is_signed_integer(kind) else 0
        high = (1 << kind.bit_width - (1 if low else 0)) - 1
        # Of uint64 msgspec can't hold the upper bound; Arrow refuses what passes it.
        return Annotated[int, msgspec.Meta(ge=low, le=high if high in _INT64 else None)]
    if pa.types.is_float32(kind):
        return Annotated[float, msgspec.Meta(ge=-_FLOAT32_MAX, le=_FLOAT32_MAX)]
    if pa.types.is_timestamp(kind):
        return str | int
    if pa.types.is_date(kind):
        return date | Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
    return {"bool": bool, "double": float, "string": str, "binary": bytes}[str(kind)]


def _encodable(column: pa.Array, field: pa.Field) -> pa.Array:
    if pa.types.is_floating(field.type):
        odd = pc.sum(pc.invert(pc.is_finite(column))).as_py()
        if odd:
            raise InvalidArgument(
                f"column {quoted(field.name)}: {odd} of {len(column)} values are NaN or infinite, which JSON can't carry"
            )
    elif pa.types.is_timestamp(field.type):
        least, most = (each.as_py() for each in pc.min_max(column.cast(pa.int64())).values())
        if least is not None and not (_YEARS_US[0] <= least and most <= _YEARS_US[1]):
            raise InvalidArgument(f"column {quoted(field.name)}: a time lies outside the years 1 to 9999")
        return column.cast(pa.string())
    elif pa.types.is_date(field.type):
        return column.cast(pa.string())
    elif pa.types.is_binary(field.type):
        texts = [None if each is None else base64.b64encode(each).decode() for each in column.to_pylist()]
        return pa.array(texts, pa.string())
    return column
