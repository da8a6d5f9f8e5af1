"""All that a log keeps now, read from its first entry on: beside whoever writes it, and outside of any consumer group."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from engine.errors import Unavailable
from engine.log.declaration import LogSpec
from engine.log.local_past import LocalPast
from engine.log.log import Chunk, LogReader, Offsets, Owner

ARRIVAL: Final = "_appended"
PARTITION: Final = "_partition"
"""Columns that are added: when a row was appended, and where."""

_CHUNK_ROWS: Final = 1 << 16
_INSTANT: Final = pa.timestamp("us", "UTC")


class ReadableLog(Protocol):
    """The part of a Log that is needed to read it."""

    @property
    def schema(self) -> pa.Schema:
        """As of a Log."""

    def reader(self, owner: Owner) -> LogReader:
        """As of a Log."""

    def earliest(self) -> Offsets:
        """As of a Log."""

    def latest(self) -> Offsets:
        """As of a Log."""

    def close(self) -> None:
        """As of a Log."""


@dataclass(slots=True)
class _FromTheStart:
    """Reads all partitions from the earliest entry kept, and folds nothing."""

    def assigned(self, partitions: Collection[int]) -> Offsets:
        return {}

    def revoked(self, partitions: Collection[int]) -> None:
        pass


def open_past(declared: LogSpec, schema: pa.Schema, path_of: Callable[[str], Path]) -> ReadableLog:
    """The log, to read all of it; `path_of` places the path it names. Nobody loses a partition, nothing is changed.

    Raises NotFound where there is no local log, Unavailable where a topic cannot be reached.
    """
    if declared.local is not None:
        return LocalPast(path_of(declared.local.path), schema)
    assert declared.kafka is not None
    from engine.log.kafka import KafkaLog

    return KafkaLog(replace(declared.kafka, group=None), schema)


def tables_of(log: ReadableLog, timeout_s: float = 60.0) -> Iterator[pa.Table]:
    """All entries that the log keeps when it is begun, in its order, some at a time, with `ARRIVAL` and `PARTITION`.

    Of a log shared by a consumer group it would take partitions away from those who serve: `open_past` leaves the group.
    Raises Unavailable where nothing comes for `timeout_s`.
    """
    end = {partition: offset for partition, offset in log.latest().items() if offset > log.earliest().get(partition, 0)}
    reader, at = log.reader(_FromTheStart()), dict.fromkeys(end, 0)
    try:
        while any(at[partition] < offset for partition, offset in end.items()):
            chunks = reader.read(_CHUNK_ROWS, timeout_s)
            if not chunks:
                raise Unavailable(f"the log gave nothing for {timeout_s:g} s, at {at} of {end}")
            for chunk in chunks:
                at[chunk.partition] = chunk.next
                yield _arrived(chunk)
    finally:
        reader.close()


def past_schema(schema: pa.Schema) -> pa.Schema:
    """Of those tables, for a log of `schema`."""
    return schema.append(pa.field(ARRIVAL, _INSTANT)).append(pa.field(PARTITION, pa.int32()))


def read_log(log: ReadableLog, timeout_s: float = 60.0) -> pa.Table:
    """`tables_of` as one, in memory: a past that judges itself."""
    tables = list(tables_of(log, timeout_s))
    return pa.concat_tables(tables) if tables else past_schema(log.schema).empty_table()


def _arrived(chunk: Chunk) -> pa.Table:
    arrival = pa.array(chunk.appended_us, pa.int64()).cast(_INSTANT)
    partition = pa.array([chunk.partition] * chunk.batch.num_rows, pa.int32())
    return pa.Table.from_batches([chunk.batch]).append_column(ARRIVAL, arrival).append_column(PARTITION, partition)
