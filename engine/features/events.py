"""A chunk of a log as the addresses that the ingest kernel reads: Arrow's own buffers wherever they will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.features.hashing import filled, hash_keys, hash_values
from engine.features.view import Column, ColumnKind, View
from kernels import record

_TYPES = {
    pa.float64(): record.F64, pa.float32(): record.F32, pa.int64(): record.I64, pa.int32(): record.I32,
    pa.int16(): record.I16, pa.int8(): record.I8, pa.uint64(): record.U64, pa.uint32(): record.U32,
    pa.uint16(): record.U16, pa.uint8(): record.U8, pa.bool_(): record.BITS,
}  # fmt: skip

Texts = Mapping[int, "TextCodes"]


class TextCodes:
    """The codes of one column's texts: 0, 1, 2 ... by first appearance. One thread encodes; any may decode what it was given."""

    __slots__ = ("_codes", "texts")

    def __init__(self, texts: list[str] | None = None) -> None:
        self.texts: list[str] = texts or []
        self._codes = {text: code for code, text in enumerate(self.texts)}

    def encode(self, values: pa.Array) -> npt.NDArray[np.int64]:
        """int64 [n]; what is null gets some code."""
        encoded = values.dictionary_encode()
        known = np.array([self._code(text) for text in encoded.dictionary.to_pylist()], np.int64)
        if not len(known):
            return np.zeros(len(values), np.int64)
        codes: npt.NDArray[np.int64] = known[filled(encoded.indices, 0)]
        return codes

    def _code(self, text: str) -> int:
        code = self._codes.get(text)
        if code is None:
            code = self._codes[text] = len(self.texts)
            self.texts.append(text)
        return code


@dataclass(slots=True)
class Events:
    """`sources` as `kernels.record` describes them. `kept` are the buffers behind the addresses: hold it while they are used."""

    rows: int
    sources: npt.NDArray[np.int64]
    kept: list[Any] = field(default_factory=list)

    def array(self, source: int, kind: int, values: npt.NDArray[Any], nulls: pa.Array | None = None) -> None:
        """A contiguous numpy array as a source, with the nulls of an Arrow array of the same rows."""
        self.kept.append(values)
        validity, first = _validity(nulls) if nulls is not None and nulls.null_count else (0, 0)
        if first:  # the kernel counts both from the same first element
            values = np.concatenate([np.zeros(first, values.dtype), values])
            self.kept.append(values)
        self.kept.append(nulls)
        self.sources[source] = values.ctypes.data, kind, validity, first

    def arrow(self, source: int, values: pa.Array) -> None:
        """An Arrow array of a type that kernels read, as it is."""
        self.kept.append(values)
        validity, first = _validity(values)
        self.sources[source] = values.buffers()[1].address, _TYPES.get(values.type, record.I64), validity, first


def _validity(values: pa.Array) -> tuple[int, int]:
    bitmap = values.buffers()[0] if values.null_count else None
    return (0 if bitmap is None else bitmap.address), values.offset


def events_of(view: View, batch: pa.RecordBatch, appended_us: npt.NDArray[np.int64], texts: Texts) -> Events:
    """What the kernel reads of a batch of the view's source. `texts` has the codes of each CODE column of texts."""
    rows = batch.num_rows
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    events = Events(rows, np.zeros((record.SOURCE_COLUMNS + len(view.columns) + len(view.masks), 4), np.int64))
    _add_identity(events, view, columns)
    events.array(record.SOURCE_ARRIVAL, record.I64, np.ascontiguousarray(appended_us, np.int64))
    if view.where is not None:
        events.arrow(record.SOURCE_WHERE, view.where.evaluate(columns, rows))
    for number, column in enumerate(view.columns):
        _add_column(
            events, record.SOURCE_COLUMNS + number, column, column.value.evaluate(columns, rows), texts.get(number)
        )
    for number, mask in enumerate(view.masks):
        events.arrow(record.SOURCE_COLUMNS + len(view.columns) + number, mask.evaluate(columns, rows))
    return events


def _add_identity(events: Events, view: View, columns: Mapping[str, pa.Array]) -> None:
    """Time, entity and event id."""
    events.arrow(record.SOURCE_TIME, columns[view.event_time])
    keys, checks = hash_keys(columns[view.entity])
    events.array(record.SOURCE_KEY, record.U64, keys, columns[view.entity])
    if checks is not None:
        events.array(record.SOURCE_CHECK, record.U32, checks)
    if view.event_id is not None:
        events.array(record.SOURCE_ID, record.U64, hash_values(columns[view.event_id]), columns[view.event_id])


def _add_column(events: Events, source: int, column: Column, values: pa.Array, codes: TextCodes | None) -> None:
    if column.kind is ColumnKind.HASH:
        events.array(source, record.U64, hash_values(values), values)
    elif codes is not None:
        events.array(source, record.I64, codes.encode(values), values)
    elif values.type in _TYPES:
        events.arrow(source, values)
    else:
        number = pa.float64() if column.kind is ColumnKind.NUMBER else pa.int64()
        events.arrow(source, (values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).cast(number))
