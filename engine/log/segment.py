"""A segment: one file of a local log, named by the offset of its first row: `00000000000000001234.segment`. Format version 1.

A header, the log's schema at that time, and then frames (engine/log/frame.py) to the end. Little-endian:

| bytes | what |
|---|---|
| 0-7 | `VIREOLOG` |
| 8-11 | CRC-32 of all that follows up to the first frame; also the salt of the frames' checksums |
| 12-15 | format version, 1 |
| 16-23 | offset of the first row |
| 24-31 | when the segment was made, microseconds since the Unix epoch |
| 32-35 | bytes of the schema, a multiple of 8 |
| 36-39 | 0 |
| 40- | the schema, an encapsulated Arrow IPC message |

A segment ends where the next one begins: frames past that offset are left from a write that failed, and belong to nobody. The
last segment is written to; the others are sealed and never change.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from engine.errors import DataLoss, FailedPrecondition, quoted
from engine.log.disk import Disk
from engine.log.frame import HEADER_BYTES, MAGIC, Frame, Header, unpack

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".segment"
_MAGIC: Final = b"VIREOLOG"
_HEADER: Final = struct.Struct("<8sIIqqI4x")
_CHECKED_FROM: Final = 12


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment file as its header tells it. `start`: where the first frame lies."""

    path: Path
    first: int
    schema: pa.Schema
    start: int
    salt: int


def segment_path(folder: Path, first: int) -> Path:
    """Where the segment that begins with offset `first` lies."""
    return folder / f"{first:020d}{SUFFIX}"


def create_segment(folder: Path, first: int, schema: pa.Schema, *, created_us: int, disk: Disk) -> SegmentWriter:
    """A new, empty segment, safe on the disk. Raises OSError."""
    columns = schema.remove_metadata().serialize().to_pybytes()
    checked = struct.pack("<IqqI4x", FORMAT_VERSION, first, created_us, len(columns)) + columns
    salt = zlib.crc32(checked)
    content = _MAGIC + salt.to_bytes(4, "little") + checked
    path = segment_path(folder, first)
    file = disk.create(path, content)
    return SegmentWriter(Segment(path, first, schema, len(content), salt), file, disk, len(content), marked=False)


def read_segment(path: Path) -> Segment:
    """What the header of the file says. Raises DataLoss where it is damaged."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_MAGIC):
            raise DataLoss(f"{quoted(str(path))}: is no segment of a log, or its header is damaged")
        _, salt, version, first, _, schema_bytes = _HEADER.unpack(head)
        columns = file.read(schema_bytes)
    if zlib.crc32(columns, zlib.crc32(head[_CHECKED_FROM:])) != salt:
        raise DataLoss(f"{quoted(str(path))}: the header is damaged (checksum)")
    if version != FORMAT_VERSION:
        raise FailedPrecondition(f"{quoted(str(path))}: format version {version}, this program reads {FORMAT_VERSION}")
    if path != segment_path(path.parent, first):
        raise DataLoss(f"{quoted(str(path))}: begins with offset {first} and is named otherwise")
    return Segment(path, first, pa.ipc.read_schema(pa.py_buffer(columns)), _HEADER.size + len(columns), salt)


class SegmentWriter:
    """The last segment of a log, open to be written. One thread at a time.

    `position` is where the acknowledged bytes end. What raised is cut away; a segment that is `spoiled` (that cut failed, or a
    sync did, after which the kernel may have dropped the bytes: Rebello et al., "Can Applications Recover from fsync
    Failures?", ATC 2020) takes nothing more: the log goes on in a new one.
    """

    def __init__(self, segment: Segment, file: int, disk: Disk, position: int, *, marked: bool) -> None:
        self.segment = segment
        self.position = position
        self.spoiled = False
        self._file = file
        self._disk = disk
        self._marked = marked

    def append(self, buffers: Sequence[bytes | pa.Buffer], *, sync: bool) -> None:
        """Whole frames, all of them or none. Raises OSError."""
        try:
            self._disk.write(self._file, buffers, self.position)
        except BaseException:
            self._cut()
            raise
        if sync:
            self.sync()
        self.position += sum(len(each) for each in buffers)
        self._marked = False

    def seal(self, next_offset: int, now_us: int) -> None:
        """Marks the end and makes all of it safe. Raises OSError."""
        if not self._marked:
            mark = Header(next_offset, now_us, self.position, 0, 0, 0)
            self.append([mark.pack(self.segment.salt)], sync=True)
            self._marked = True

    def close(self) -> None:
        """Gives the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def sync(self) -> None:
        """All of it is safe on the disk when it returns. Raises OSError."""
        try:
            self._disk.sync(self._file)
        except BaseException:
            self.spoiled = True
            self._cut()
            raise

    def _cut(self) -> None:
        try:
            self._disk.truncate(self._file, self.position)
        except OSError:
            self.spoiled = True


class SegmentMap:
    """A segment's file, mapped: batches read from it share its memory, which lives as long as they do."""

    def __init__(self, segment: Segment) -> None:
        """Raises OSError."""
        self.segment = segment
        with segment.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        with suppress(OSError):
            mapped.madvise(mmap.MADV_SEQUENTIAL)
        self.bytes = memoryview(mapped)
        self._buffer = pa.py_buffer(mapped)

    def header(self, position: int, expected: int) -> Header | None:
        """The frame at `position`, whole by its header, that goes on at offset `expected`; None where there is no such."""
        found = unpack(self.bytes, position, self.segment.salt)
        if found is None or found.first != expected:
            return None
        return found if position + HEADER_BYTES + found.payload_bytes <= len(self.bytes) else None

    def payload(self, position: int, header: Header) -> pa.Buffer | None:
        """Of the frame at `position`; None where its checksum says that it is damaged."""
        begin = position + HEADER_BYTES
        end = begin + header.payload_bytes
        if zlib.crc32(self.bytes[begin:end]) != header.payload_crc:
            return None
        return self._buffer.slice(begin, header.payload_bytes)

    def frames(self, position: int, first: int, *, offset: int, until: int) -> Iterator[Frame]:
        """Frames with rows from `offset` to `until` - 1, checked. `position`: of the frame with offset `first` <= `offset`.

        Raises DataLoss, naming file and offset, at a frame that is damaged.
        """
        while first < until:
            header = self.header(position, first)
            if header is None:
                raise self.damaged(position, first)
            if header.rows and header.next > offset:
                payload = self.payload(position, header)
                if payload is None:
                    raise self.damaged(position, first)
                yield Frame(first, header.next, header.appended_us, position, payload)
            position += HEADER_BYTES + header.payload_bytes
            first = header.next

    def acknowledged_after(self, position: int) -> bool:
        """Whether any frame further on says that the bytes at `position` had been acknowledged."""
        data, salt = self.bytes.obj, self.segment.salt
        assert isinstance(data, mmap.mmap)
        at = data.find(MAGIC, position + 1)
        while at >= 0:
            header = unpack(self.bytes, at, salt)
            if header is not None and header.acknowledged > position:
                return True
            at = data.find(MAGIC, at + 1)
        return False

    def damaged(self, position: int, offset: int) -> DataLoss:
        """What to raise where an acknowledged frame can't be read."""
        return DataLoss(
            f"{quoted(str(self.segment.path))}: damaged at byte {position}: offset {offset} of the log can't be read"
        )
