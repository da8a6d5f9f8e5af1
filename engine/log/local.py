"""The local log: record batches in segment files of one folder, one partition, offsets that count rows.

An append is answered when the disk has it (`durability: fsync`) or the operating system has (`os`); what several threads
append meanwhile shares one write and one sync. Readers see an entry once it is acknowledged, at once and without the file.
The format is told in engine/log/segment.py and engine/log/frame.py.

On opening, what a crash left of a write that was never acknowledged is cut off and told in a warning. Damage to what was
acknowledged is DataLoss, with file and byte; whoever can do without the rest cuts the file there by hand. One case can't be
told apart: damage to the very last write of a log that was not closed looks like a torn one.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from engine.clock import wall_us
from engine.errors import InvalidArgument, TooLarge, Unavailable, VireoError
from engine.limits import LOG_BATCH_BYTES_MAX
from engine.log.declaration import LocalLogSpec
from engine.log.disk import Disk, disk_fault
from engine.log.folder import Opened, lock_folder, make_folder, open_folder
from engine.log.frame import HEADER_BYTES, Frame, Header
from engine.log.group import GroupCommit, Pending
from engine.log.kept import Kept, log_name
from engine.log.local_reader import PARTITION, LocalReader
from engine.log.log import Appended, LogReader, Offsets, Owner
from engine.log.schema import Layout
from engine.log.segment import SegmentWriter, create_segment

WallClock = Callable[[], int]
"""Microseconds since the Unix epoch."""


class LocalLog:
    """Log. `folder`: where it lives, made where it is not. Nobody else can open it until it is closed.

    Raises Unavailable where the folder is in use or can't be read or written, ResourceExhausted where the disk is full,
    DataLoss where it is damaged, FailedPrecondition where what is stored can't be read as `schema`.
    """

    def __init__(
        self,
        spec: LocalLogSpec,
        schema: pa.Schema,
        folder: Path,
        *,
        clock_us: WallClock = wall_us,
        disk: Disk | None = None,
    ) -> None:
        self._name = log_name(str(folder))
        self._schema = schema
        self._layout = Layout(schema)
        self._folder = folder
        self._sync = spec.durability == "fsync"
        self._segment_bytes = spec.segment_bytes
        self._clock_us = clock_us
        self._disk = disk or Disk()
        self._broken: str | None = None
        self._truncating = threading.Lock()
        self._writing = threading.Lock()
        """Held by who is at the last segment's file."""
        self._lock_file, opened = self._open()
        self._writer = opened.writer
        self._kept = Kept(self._name, schema, opened.segments, opened.latest)
        self._group = GroupCommit(self._name, self._commit)

    def _open(self) -> tuple[int, Opened]:
        try:
            make_folder(self._folder, self._disk)
            lock_file = lock_folder(self._folder, self._name)
            try:
                return lock_file, open_folder(self._folder, self._schema, now_us=self._clock_us(), disk=self._disk)
            except BaseException:
                os.close(lock_file)
                raise
        except OSError as error:
            raise disk_fault(error, self._folder, "open the log") from error

    @property
    def schema(self) -> pa.Schema:
        """Log."""
        return self._schema

    def append(self, batch: pa.RecordBatch) -> Appended:
        """Log. Raises TooLarge past LOG_BATCH_BYTES_MAX. The batch is copied: its buffers are the caller's again on return."""
        fitted = self._layout.of(batch)
        if not fitted.num_rows:
            return Appended(PARTITION, self._kept.latest, self._kept.latest)
        payload = _encoded(fitted, self._name)
        pending = Pending(payload, fitted.num_rows, zlib.crc32(payload))
        self._group.submit(pending)
        return Appended(PARTITION, pending.first, pending.first + pending.rows)

    def reader(self, owner: Owner) -> LogReader:
        """Log. The owner is asked for the place when it reads first."""
        return LocalReader(self._kept, owner)

    def earliest(self) -> Offsets:
        """Log."""
        return {PARTITION: self._kept.earliest}

    def latest(self) -> Offsets:
        """Log."""
        return {PARTITION: self._kept.latest}

    def truncate(self, before: Offsets) -> None:
        """Log. Deletes segments that lie below as a whole; the last one stays. Raises InvalidArgument past the end."""
        if unknown := set(before) - {PARTITION}:
            raise InvalidArgument(f"{self._name}: has partition 0 alone, got {sorted(unknown)}")
        offset = before.get(PARTITION, 0)
        if offset > self._kept.latest:
            raise InvalidArgument(f"{self._name}: offset {offset} is past the end, which is {self._kept.latest}")
        with self._truncating:
            dropped = self._kept.drop(offset)
            try:
                for each in dropped:  # oldest first: a crash between leaves no gap
                    each.path.unlink(missing_ok=True)
                if dropped:
                    self._disk.sync_folder(self._folder)
            except OSError as error:
                raise disk_fault(error, self._folder, "delete what is truncated") from error

    def sync(self) -> None:
        """Returns when the disk has all that was acknowledged so far, whatever `durability` says. Raises Unavailable,
        ResourceExhausted."""
        if not self._sync:
            with self._writing:
                try:
                    self._writer.sync()
                except OSError as error:
                    raise disk_fault(error, self._writer.segment.path, "sync") from error

    def close(self) -> None:
        """Log. Readers that wait, and those that read again, get Unavailable."""
        if not self._group.close():
            return
        self._kept.close()
        with suppress(OSError):  # only the mark is at stake: what was acknowledged is safe without it
            if not self._writer.spoiled and self._broken is None:
                self._writer.seal(self._kept.latest, self._clock_us())
        self._writer.close()
        os.close(self._lock_file)

    def _commit(self, group: Sequence[Pending]) -> None:
        """Writes the group and lets readers see it. Called by one thread at a time."""
        if self._broken is not None:
            raise Unavailable(f"{self._name}: must be opened anew: {self._broken}")
        try:
            with self._writing:
                writer = self._writable()
                buffers, frames = self._framed(group, writer)
                writer.append(buffers, sync=self._sync)
            self._kept.publish(frames)
        except OSError as error:
            raise disk_fault(error, self._writer.segment.path, "append") from error
        except VireoError:
            raise
        except BaseException as error:  # memory, an interrupt: file and offsets may disagree now
            self._broken = repr(error)
            raise
        for pending, frame in zip(group, frames, strict=True):
            pending.first = frame.first

    def _framed(self, group: Sequence[Pending], writer: SegmentWriter) -> tuple[list[bytes | pa.Buffer], list[Frame]]:
        now_us, first, position = self._clock_us(), self._kept.latest, writer.position
        buffers: list[bytes | pa.Buffer] = []
        frames: list[Frame] = []
        for each in group:
            header = Header(first, now_us, writer.position, each.rows, len(each.payload), each.crc)
            buffers += [header.pack(writer.segment.salt), each.payload]
            frames.append(Frame(first, header.next, now_us, position, each.payload))
            first, position = header.next, position + HEADER_BYTES + len(each.payload)
        return buffers, frames

    def _writable(self) -> SegmentWriter:
        """The last segment, or a new one where that is full or can't be trusted."""
        old, latest = self._writer, self._kept.latest
        full = old.position >= self._segment_bytes and latest > old.segment.first
        if not old.spoiled:
            if not full:
                return old
            old.seal(latest, self._clock_us())
        new = create_segment(self._folder, latest, self._schema, created_us=self._clock_us(), disk=self._disk)
        self._kept.begin(new.segment)
        self._writer = new
        old.close()
        return new


def _encoded(batch: pa.RecordBatch, name: str) -> pa.Buffer:
    size = (
        batch.get_total_buffer_size() * batch.num_columns
    )  # a buffer counts once, though several columns may share it
    if size > LOG_BATCH_BYTES_MAX:
        size = batch.nbytes  # exact, and takes 50 times as long
    payload = batch.serialize() if size <= LOG_BATCH_BYTES_MAX else None
    if payload is None or len(payload) > LOG_BATCH_BYTES_MAX:
        size = size if payload is None else len(payload)
        raise TooLarge(f"{name}: a batch of {size} bytes; at most {LOG_BATCH_BYTES_MAX} may be appended at once")
    return payload
