"""Card events as Arrow batches, seeded: what every part of the benchmark `features` is fed with.

Columns: card (int64, the entity), at (event time), amount (float64), other (float64, another amount), merchant (int64).
Times ascend but for one row in twenty, which comes up to two seconds late.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SECOND_US = 1_000_000
START_US = 1_767_225_600 * SECOND_US
"""2026-01-01, in UTC."""

MERCHANTS = 50_000
KNOWN_S = 600
LATE_SHARE, LATE_US_MAX = 0.05, 2 * SECOND_US
ZIPF = 1.1
BLOCK_ROWS = 1 << 20
SCHEMA = pa.schema(
    [
        pa.field("card", pa.int64()),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("amount", pa.float64()),
        pa.field("other", pa.float64()),
        pa.field("merchant", pa.int64()),
    ]
)
Ints = npt.NDArray[np.int64]
Skew = Literal["uniform", "zipf"]


@dataclass(frozen=True, slots=True)
class Stream:
    """`events` of `entities` cards, evenly spread over `span_s` seconds. First come `known` events of each, KNOWN_S apart."""

    entities: int
    events: int
    skew: Skew = "uniform"
    span_s: int = 3600
    seed: int = 1
    known: int = 1

    @property
    def prefill(self) -> int:
        """Rows that come first."""
        return self.known * self.entities

    @property
    def name(self) -> str:
        """A file name that no other stream has."""
        told = repr(sorted(asdict(self).items())).encode()
        return f"{self.skew}-{self.entities}-{self.events}-{blake2b(told, digest_size=6).hexdigest()}.arrow"


def event_batch(cards: Ints, at_us: Ints, rng: np.random.Generator) -> pa.RecordBatch:
    """A batch of these cards and times; amounts and merchants are drawn."""
    rows = len(cards)
    amounts = np.round(rng.lognormal(3.0, 1.0, rows), 2)
    others, merchants = np.round(rng.lognormal(2.0, 1.0, rows), 2), rng.integers(0, MERCHANTS, rows)
    times = pa.array(at_us).cast(SCHEMA.field("at").type)
    columns = [pa.array(cards), times, pa.array(amounts), pa.array(others), pa.array(merchants)]
    return pa.record_batch(columns, schema=SCHEMA)


def blocks(stream: Stream) -> Iterator[pa.RecordBatch]:
    """The stream in blocks of at most BLOCK_ROWS rows."""
    rng = np.random.default_rng(stream.seed)
    names = rng.permutation(stream.entities).astype(np.int64)
    weights = np.cumsum(1.0 / np.arange(1, stream.entities + 1) ** ZIPF) if stream.skew == "zipf" else None
    for number in range(stream.known):
        at_us = START_US - (stream.known - number) * KNOWN_S * SECOND_US
        for first in range(0, stream.entities, BLOCK_ROWS):
            cards = names[first : first + BLOCK_ROWS]
            yield event_batch(cards, np.full(len(cards), at_us, np.int64), rng)
    for first in range(0, stream.events, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, stream.events - first)
        if weights is None:
            cards = rng.integers(0, stream.entities, rows)
        else:
            drawn = np.searchsorted(weights, rng.random(rows) * weights[-1])
            cards = names[np.minimum(drawn, stream.entities - 1)]
        yield event_batch(cards, times_of(stream, first, rows, rng), rng)


def times_of(stream: Stream, first: int, rows: int, rng: np.random.Generator) -> Ints:
    """Event times of rows `first` and on, the late ones put back."""
    ascending = (first + np.arange(rows)) * (stream.span_s * SECOND_US) // max(stream.events, 1)
    late = np.where(rng.random(rows) < LATE_SHARE, rng.integers(0, LATE_US_MAX, rows), 0)
    times: Ints = START_US + np.maximum(ascending - late, 0).astype(np.int64)
    return times


def stream_file(stream: Stream, folder: Path) -> Path:
    """The stream as an Arrow IPC file in `folder`, written now if it is missing."""
    file = folder / stream.name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}.tmp")
        with pa.ipc.new_file(unfinished, SCHEMA) as writer:
            for block in blocks(stream):
                writer.write_batch(block)
        unfinished.replace(file)
    return file


def read_stream(file: Path) -> pa.Table:
    """The stream in memory, in one piece."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all().combine_chunks()


def newest_us(table: pa.Table) -> int:
    """The event time of the newest event."""
    return int(table["at"].cast(pa.int64()).to_numpy().max())


def batches(table: pa.Table, rows: int, first: int = 0, end: int | None = None) -> list[pa.RecordBatch]:
    """Rows `first` to `end` in batches of `rows` (the last may be shorter), each with buffers of its own, as a log gives."""
    part = table.slice(first, None if end is None else end - first)
    return [own_batch(part.slice(at, rows)) for at in range(0, part.num_rows, rows)]


def own_batch(part: pa.Table) -> pa.RecordBatch:
    """A copy that shares no buffer with the whole."""
    columns = [pa.array(column.to_numpy()).cast(column.type) for column in part.columns]
    return pa.record_batch(columns, schema=part.schema)
