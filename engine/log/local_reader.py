"""One consumer's place in a local log: from memory where it keeps up, from mapped files where it lags."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from engine.errors import DataLoss, InvalidArgument, VireoError
from engine.log.disk import disk_fault
from engine.log.frame import Frame
from engine.log.kept import Kept
from engine.log.log import Chunk, Owner
from engine.log.schema import conform
from engine.log.segment import Segment, SegmentMap

PARTITION: Final = 0

MERGED_ROWS_MAX: Final = 4096
MERGED_BYTES_MAX: Final = 256 << 10
"""Batches below both are copied together with their neighbours: a chunk of few rows costs its reader more than the copy."""

CHUNK_BYTES_MAX: Final = 16 << 20
"""A chunk that is copied together takes no more once it has so many."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one frame, all appended at one instant. `bytes`: of its whole frame."""

    first: int
    batch: pa.RecordBatch
    appended_us: int
    bytes: int


class LocalReader:
    """LogReader. `read` from one thread, `close` from any."""

    def __init__(self, kept: Kept, owner: Owner) -> None:
        self._kept = kept
        self._owner = owner
        self._reading = threading.RLock()
        self._closed = threading.Event()
        self._place: int | None = None
        self._last: tuple[Frame, pa.RecordBatch] | None = None
        self._map: SegmentMap | None = None
        self._mapped_until = 0

    def read(self, rows_max: int, timeout_s: float) -> list[Chunk]:
        """LogReader. Chunks share the memory of the log where they are not small; `rows_max` rows in all, no more."""
        if rows_max < 1:
            raise InvalidArgument(f"rows_max: must be 1 or more, got {rows_max}")
        with self._reading:
            if self._closed.is_set():
                return []
            if self._place is None:
                self._place = self._assigned()
            place = self._place
            self._kept.check(place)
            latest = self._kept.wait_past(place, timeout_s, self._closed.is_set)
            if self._closed.is_set():
                return []
            try:
                return chunks_of(self._pieces(min(latest, place + rows_max)))
            except BaseException:
                self._place = place  # what was not handed out is read again
                raise

    def close(self) -> None:
        """LogReader."""
        self._closed.set()
        self._kept.wake()
        with self._reading:
            owned, self._place = self._place is not None, None
            self._last = self._map = None
            if owned:
                self._owner.revoked([PARTITION])

    def _assigned(self) -> int:
        place = self._owner.assigned([PARTITION]).get(PARTITION)
        return self._kept.earliest if place is None else place

    def _pieces(self, until: int) -> list[Piece]:
        """The rows from the place to `until` - 1; the place moves past each that was read. What is in the way of more is raised
        by the next call, which meets it first."""
        pieces: list[Piece] = []
        assert self._place is not None
        try:
            while self._place < until:
                for frame, batch in self._decoded(self._place, until):
                    pieces.append(_piece(frame, batch, self._place, until))
                    self._place = min(frame.next, until)
                    self._last = (frame, batch)
        except VireoError:
            if not pieces:
                raise
        return pieces

    def _decoded(self, offset: int, until: int) -> Iterator[tuple[Frame, pa.RecordBatch]]:
        """Frames from the one that holds `offset` on, in one segment at least, with their batches."""
        if self._last is not None and self._last[0].first <= offset < self._last[0].next:
            yield self._last
            return
        if frames := self._kept.frames_in_memory(offset, until - offset):
            for frame in frames:
                yield frame, self._decode(frame, self._kept.schema)
            return
        segment, end = self._kept.segment_of(offset)
        view = self._mapped(segment, end)
        position, first = self._start(segment, offset)
        for frame in view.frames(position, first, offset=offset, until=min(end, until)):
            yield frame, self._decode(frame, segment.schema)

    def _mapped(self, segment: Segment, end: int) -> SegmentMap:
        """Its file, mapped anew where it has grown."""
        if self._map is None or self._map.segment is not segment or end > self._mapped_until:
            try:
                self._map = SegmentMap(segment)
            except (FileNotFoundError, ValueError) as error:  # gone, or empty
                self._kept.check(segment.first)
                raise DataLoss(f"{self._kept.name}: {segment.path.name} cannot be read: {error}") from error
            except OSError as error:
                raise disk_fault(error, segment.path, "read") from error
            self._mapped_until = end
        return self._map

    def _start(self, segment: Segment, offset: int) -> tuple[int, int]:
        """Where to begin to look: at the frame that was read last, or with the segment. Position and offset."""
        if self._last is not None and segment.first <= self._last[0].first <= offset:
            return self._last[0].position, self._last[0].first
        return segment.start, segment.first

    def _decode(self, frame: Frame, schema: pa.Schema) -> pa.RecordBatch:
        try:
            batch = pa.ipc.read_record_batch(frame.payload, schema)
        except pa.ArrowException as error:
            raise DataLoss(f"{self._kept.name}: the batch at offset {frame.first} can't be decoded: {error}") from error
        return batch if schema is self._kept.schema else conform(batch, self._kept.schema, sound=True)


def _piece(frame: Frame, batch: pa.RecordBatch, begin: int, until: int) -> Piece:
    """The rows of a frame from offset `begin` on, below `until`."""
    count = min(frame.next, until) - begin
    part = batch if count == batch.num_rows else batch.slice(begin - frame.first, count)
    return Piece(begin, part, frame.appended_us, len(frame.payload))


def chunks_of(pieces: list[Piece]) -> list[Chunk]:
    """The pieces in order, small neighbours as one chunk."""
    chunks: list[Chunk] = []
    run: list[Piece] = []
    run_bytes = 0
    for piece in pieces:
        small = piece.batch.num_rows < MERGED_ROWS_MAX and piece.bytes < MERGED_BYTES_MAX
        if run and (not small or run_bytes >= CHUNK_BYTES_MAX):
            chunks.append(_chunk(run))
            run, run_bytes = [], 0
        run.append(piece)
        run_bytes += piece.bytes
        if not small:
            chunks.append(_chunk(run))
            run, run_bytes = [], 0
    return [*chunks, _chunk(run)] if run else chunks


def _chunk(run: list[Piece]) -> Chunk:
    first = run[0].first
    if len(run) == 1:
        batch = run[0].batch
        appended_us = np.full(batch.num_rows, run[0].appended_us, np.int64)
    else:
        batch = pa.concat_batches([each.batch for each in run])
        counts = [each.batch.num_rows for each in run]
        appended_us = np.repeat(np.array([each.appended_us for each in run], np.int64), counts)
    return Chunk(PARTITION, first, first + batch.num_rows, batch, appended_us)
