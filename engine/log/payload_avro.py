"""One Avro record a message, written under a schema that the log declares.

Confluent's header (a zero byte and the schema's id in four more) is expected and written where the log declares the id, and only
there: records may begin with the same bytes, so that it can't be told from looking. A message of another schema id is bad.
Fields that are no columns are ignored. Logical types: timestamps and dates as such (a plain long is a number as in JSON),
decimal as float, uuid as text.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from engine.errors import InvalidArgument, SpecError, TooLarge, nearest, quoted
from engine.log.payload import NO_PAYLOAD, Decoded, Strangers, rows_to_batch

_HEADER_BYTES: Final = 5
_CONVERTED: Final[Mapping[str, Callable[[Any], object]]] = {"decimal": float, "uuid": str}


class AvroPayload:
    """Payload. `avro_schema` is a record schema's JSON, or the path of a file with it."""

    rows_apart = True

    def __init__(self, schema: pa.Schema, avro_schema: str | None, schema_id: int | None = None) -> None:
        import fastavro

        self._schema = schema
        if schema_id is not None and not 0 <= schema_id < 1 << 32:
            raise SpecError(f"kafka.avro_schema_id: expected 0 to {(1 << 32) - 1}, got {schema_id}")
        self._schema_id = schema_id
        self._header = b"" if schema_id is None else struct.pack(">BI", 0, schema_id)
        self._record = _record(avro_schema)
        self._parsed: Any = _parsed(self._record)
        self._read, self._write = fastavro.schemaless_reader, fastavro.schemaless_writer
        self.strangers = Strangers(schema)
        logical = {each["name"]: _logical(each["type"]) for each in self._record["fields"]}
        for field in schema:
            if field.name not in logical and not field.nullable:
                raise SpecError(
                    f"kafka.avro_schema: has no field {quoted(field.name)}, which is not nullable{nearest(field.name, logical)}"
                )
        self.strangers.meet(list(logical))
        self._logical = logical

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Payload."""
        rows: list[dict[str, Any]] = []
        source: list[int] = []
        bad: dict[int, str] = {}
        for position, value in enumerate(values):
            if value is None:
                bad[position] = NO_PAYLOAD
                continue
            try:
                rows.append(self._one(value))
                source.append(position)
            except (
                Exception
            ) as error:  # fastavro raises whatever the damage leads to: EOFError, IndexError, KeyError ...
                bad[position] = f"not an Avro record of the declared schema: {type(error).__name__} {error}".rstrip()
                if not self._header and _schema_id(value) is not None:
                    bad[position] += (
                        f" (it may carry the header of schema id {_schema_id(value)}: declare avro_schema_id)"
                    )
        columns = [self._column(rows, field.name) for field in self._schema]
        batch, refused = rows_to_batch(columns, self._schema)
        bad |= {source[row]: why for row, why in refused.items()}
        kept = np.array([each for row, each in enumerate(source) if row not in refused], np.int64)
        return Decoded(batch, kept, bad)

    def _one(self, value: bytes) -> dict[str, Any]:
        if not value.startswith(self._header):
            raise ValueError(f"expected schema id {self._schema_id}, got {_schema_id(value)}")
        stream = BytesIO(value)
        stream.seek(len(self._header))
        record: dict[str, Any] = self._read(stream, self._parsed, None)  # type: ignore[assignment]  # checked at the start
        if stream.tell() != len(value):
            raise ValueError(f"{len(value) - stream.tell()} bytes follow the record")
        return record

    def _column(self, rows: list[dict[str, Any]], name: str) -> list[object]:
        convert = _CONVERTED.get(self._logical.get(name, ""))
        if convert is None:
            return [each.get(name) for each in rows]
        return [None if (value := each.get(name)) is None else convert(value) for each in rows]

    def encode(self, batch: pa.RecordBatch, bytes_max: int) -> list[bytes]:
        """Payload."""
        fitted = [self._encodable(column, field) for column, field in zip(batch.columns, batch.schema, strict=True)]
        payloads = []
        for number, row in enumerate(pa.RecordBatch.from_arrays(fitted, names=batch.schema.names).to_pylist()):
            stream = BytesIO(self._header)
            stream.seek(len(self._header))
            try:
                self._write(stream, self._parsed, row)
            except Exception as error:  # fastavro raises whatever the mismatch leads to
                raise InvalidArgument(
                    f"row {number} does not fit kafka.avro_schema: {type(error).__name__} {error}"
                ) from error
            payloads.append(stream.getvalue())
            if len(payloads[-1]) > bytes_max:
                raise TooLarge(f"row {number} is a message of {len(payloads[-1])} bytes, the most is {bytes_max}")
        return payloads

    def _encodable(self, column: pa.Array, field: pa.Field) -> pa.Array:
        logical = self._logical.get(field.name)
        try:
            if pa.types.is_timestamp(field.type):
                if not logical:
                    return column.cast(pa.int64())
                return column.cast(pa.timestamp("ms", "UTC")) if logical.endswith("millis") else column
            return column.cast(pa.int32()) if pa.types.is_date(field.type) and not logical else column
        except pa.ArrowInvalid as error:
            raise InvalidArgument(f"column {quoted(field.name)}: {logical} can't hold every value: {error}") from error


def _schema_id(value: bytes) -> int | None:
    """Of the header that this payload begins with, or seems to."""
    return int.from_bytes(value[1:_HEADER_BYTES]) if value[:1] == b"\0" and len(value) > _HEADER_BYTES else None


def _record(given: str | None) -> dict[str, Any]:
    if given is None:
        raise SpecError("kafka.avro_schema: format avro needs the schema that messages are written under")
    try:
        text = given if given.lstrip().startswith(("{", "[")) else Path(given).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise SpecError(f"kafka.avro_schema: neither JSON nor a file with it: {error}") from error
    if not isinstance(found, dict) or found.get("type") != "record":
        raise SpecError("kafka.avro_schema: expected a record schema")
    return found


def _parsed(record: dict[str, Any]) -> object:
    import fastavro

    try:
        return fastavro.parse_schema(record)
    except Exception as error:  # fastavro raises KeyError and the like for what is missing
        raise SpecError(f"kafka.avro_schema: {type(error).__name__} {error}") from error


def _logical(kind: object) -> str:
    """The logical type of a field, or of the one branch of its union that is not null."""
    if isinstance(kind, list):
        return next((_logical(each) for each in kind if each != "null"), "")
    return str(kind.get("logicalType", "")) if isinstance(kind, dict) else ""
