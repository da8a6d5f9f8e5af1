"""An Arrow IPC stream a message, of any number of rows: the fastest payload by far, since columns are taken as they lie.

Columns may come in any order, of other types that lose nothing (`engine.log.schema.conform`), nullable ones may be left out;
unknown ones are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from engine.errors import InvalidArgument, TooLarge
from engine.log.payload import NO_PAYLOAD, Decoded, Strangers
from engine.log.schema import conform

_REFUSALS = (pa.ArrowException, InvalidArgument, OSError, ValueError, TypeError, OverflowError, MemoryError)


class ArrowPayload:
    """Payload."""

    rows_apart = False

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._known = frozenset(schema.names)
        self.strangers = Strangers(schema)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Payload."""
        batches: list[pa.RecordBatch] = []
        counts = np.zeros(len(values), np.int64)
        bad: dict[int, str] = {}
        for position, value in enumerate(values):
            if value is None:
                bad[position] = NO_PAYLOAD
                continue
            try:
                found = self._open(value)
            except _REFUSALS as error:
                bad[position] = f"not an Arrow IPC stream that fits: {str(error) or type(error).__name__}"
                continue
            batches += found
            counts[position] = sum(each.num_rows for each in found)
        source = np.repeat(np.arange(len(values), dtype=np.int64), counts)
        return Decoded(_joined(batches, self._schema), source, bad)

    def _open(self, value: bytes) -> list[pa.RecordBatch]:
        with pa.ipc.open_stream(pa.py_buffer(value)) as stream:
            names = stream.schema.names
            known = names if self._known.issuperset(names) else [each for each in names if each in self._known]
            if len(known) < len(names):
                self.strangers.meet(names)
            batches = list(stream)
        if len(known) < len(names):
            batches = [each.select(known) for each in batches]
        return [conform(each, self._schema) for each in batches]

    def encode(self, batch: pa.RecordBatch, bytes_max: int) -> list[bytes]:
        """Payload. One message for the whole batch, halved until each part fits."""
        payload: bytes = arrow_stream(batch).to_pybytes()
        if len(payload) <= bytes_max:
            return [payload]
        if batch.num_rows == 1:
            raise TooLarge(f"one row is a message of {len(payload)} bytes, the most is {bytes_max}")
        half = batch.num_rows // 2
        return self.encode(batch.slice(0, half), bytes_max) + self.encode(batch.slice(half), bytes_max)


def arrow_stream(batch: pa.RecordBatch) -> pa.Buffer:
    """One batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return pa.RecordBatch.from_arrays([pa.array([], each.type) for each in schema], schema=schema)
    return pa.concat_batches(batches)
