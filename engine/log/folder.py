"""The folder of a local log when it is opened: locked, its segments read and checked, a torn tail cut off."""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from engine.errors import DataLoss, FailedPrecondition, NotFound, Unavailable
from engine.log.disk import DRAFT_SUFFIX, Disk
from engine.log.frame import HEADER_BYTES, unpack
from engine.log.kept import log_name
from engine.log.schema import evolve
from engine.log.segment import SUFFIX, Segment, SegmentMap, SegmentWriter, create_segment, read_segment

log = logging.getLogger("vireo.log")

LOCK_NAME: Final = "lock"
_TRIES: Final = 10
_NAME: Final = re.compile(r"\d{20}" + re.escape(SUFFIX))


@dataclass(frozen=True, slots=True)
class Opened:
    """A folder ready to be written. `latest`: the offset that comes next."""

    segments: Sequence[Segment]
    writer: SegmentWriter
    latest: int


def make_folder(folder: Path, disk: Disk) -> None:
    """The folder and those above it, so that a power cut leaves them with what is in them. Raises OSError."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        disk.sync_folder(each.parent)


def lock_folder(folder: Path, name: str) -> int:
    """Makes the folder ours until the descriptor is closed or this process ends. Raises OSError; Unavailable, which begins with
    `name`, where it is another's."""
    try:
        return lock_file(folder / LOCK_NAME)
    except BlockingIOError as error:
        raise Unavailable(f"{name}: is open already, here or in another process") from error


def lock_file(path: Path) -> int:
    """Holds a file, made where it is not there, until the descriptor is closed or this process ends. Raises OSError;
    BlockingIOError where another holds it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(file)
        raise
    return file


def open_folder(folder: Path, schema: pa.Schema, *, now_us: int, disk: Disk) -> Opened:
    """Reads what is there and readies the last segment, or the first. The folder is locked.

    Raises OSError; DataLoss where acknowledged bytes are damaged or a segment is gone; FailedPrecondition where what is stored
    can't be read as `schema`.
    """
    for draft in folder.glob(f"*{SUFFIX}{DRAFT_SUFFIX}"):
        draft.unlink()
    segments = _checked(folder, schema, _listed(folder))
    if not segments:
        writer = create_segment(folder, 0, schema, created_us=now_us, disk=disk)
        return Opened([writer.segment], writer, 0)
    writer, latest = _recover(segments[-1], disk)
    if writer.segment.schema is not schema:
        writer, segments = _renewed(writer, segments, latest, schema, now_us=now_us, disk=disk)
    return Opened(segments, writer, latest)


def read_folder(folder: Path, schema: pa.Schema) -> tuple[list[Segment], int]:
    """The segments as they are, and the offset after the last whole frame. Changes nothing; another process may write meanwhile.

    Raises as `open_folder`, and NotFound where there is no log.
    """
    segments = _checked_beside_writer(folder, schema) if folder.is_dir() else []
    if not segments:
        raise NotFound(f"{log_name(str(folder))}: is not there")
    _, latest, _ = _end(SegmentMap(segments[-1]))
    return segments, latest


def _checked_beside_writer(folder: Path, schema: pa.Schema) -> list[Segment]:
    """As `_checked`, where segments come and go meanwhile: reading a directory is no snapshot of it, and may show the last of
    two new files without the first. So what seems damaged is looked at again while the names change."""
    for _ in range(_TRIES):
        paths = _listed(folder)
        try:
            return _checked(folder, schema, paths)
        except (DataLoss, FileNotFoundError):
            if _listed(folder) == paths:
                raise
    return _checked(folder, schema, _listed(folder))


def _listed(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if _NAME.fullmatch(each.name))


def _checked(folder: Path, schema: pa.Schema, paths: Sequence[Path]) -> list[Segment]:
    """All segments, which follow each other without a gap and can be read as `schema`."""
    segments = [_read(each, schema) for each in paths]
    _check_schemas(folder, segments, schema)
    for one, other in itertools.pairwise(segments):
        _check_end(one, other.first)
    return segments


def _read(path: Path, declared: pa.Schema) -> Segment:
    """The segment; with the declared schema itself where it has an equal one, so that readers know it by identity."""
    segment = read_segment(path)
    return replace(segment, schema=declared) if segment.schema.equals(declared) else segment


def _check_schemas(folder: Path, segments: Sequence[Segment], declared: pa.Schema) -> None:
    known = [declared]
    for segment in segments:
        if not any(segment.schema.equals(each) for each in known):
            known.append(segment.schema)
            try:
                evolve(segment.schema, declared)
            except FailedPrecondition as error:
                raise FailedPrecondition(f"{log_name(str(folder))}: {error.message}") from error


def _check_end(sealed: Segment, until: int) -> None:
    """Raises DataLoss unless the frames of `sealed` lead to offset `until`. Its mark says so, else all headers are read."""
    view = SegmentMap(sealed)
    mark = unpack(view.bytes, len(view.bytes) - HEADER_BYTES, sealed.salt)
    if mark is not None and mark.rows == 0 and mark.first == until:
        return
    position, offset = sealed.start, sealed.first
    while offset < until:
        header = view.header(position, offset)
        if header is None:
            raise view.damaged(position, offset)
        position, offset = position + HEADER_BYTES + header.payload_bytes, header.next
    if offset != until:
        raise DataLoss(
            f"{log_name(str(sealed.path.parent))}: {sealed.path.name} leads to {offset}, the next begins at {until}"
        )


def _recover(segment: Segment, disk: Disk) -> tuple[SegmentWriter, int]:
    """The last segment, cut after its last whole frame, and the offset that comes next."""
    view = SegmentMap(segment)
    position, offset, marked = _end(view)
    torn = len(view.bytes) - position
    if torn and view.acknowledged_after(position):
        raise view.damaged(position, offset)
    file = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if torn:
            log.warning(
                "%s: the last %d bytes, from byte %d on, are torn, never acknowledged, and cut; the log ends before offset %d",
                segment.path, torn, position, offset,
            )  # fmt: skip
            disk.truncate(file, position)
        disk.sync(
            file
        )  # what a killed process wrote may be in memory only: nobody may build on it before the disk has it
    except BaseException:
        os.close(file)
        raise
    return SegmentWriter(segment, file, disk, position, marked=marked), offset


def _end(view: SegmentMap) -> tuple[int, int, bool]:
    """Where the whole frames of a last segment end: position, offset, and whether the mark of an end is there."""
    position, offset, marked = view.segment.start, view.segment.first, False
    while (header := view.header(position, offset)) is not None and view.payload(position, header) is not None:
        position, offset, marked = position + HEADER_BYTES + header.payload_bytes, header.next, header.rows == 0
    return position, offset, marked


def _renewed(
    writer: SegmentWriter, segments: Sequence[Segment], latest: int, schema: pa.Schema, *, now_us: int, disk: Disk
) -> tuple[SegmentWriter, list[Segment]]:
    """A new last segment, of `schema`; an older one without rows is replaced by it."""
    try:
        writer.seal(latest, now_us)
        new = create_segment(writer.segment.path.parent, latest, schema, created_us=now_us, disk=disk)
    finally:
        writer.close()
    return new, [*(each for each in segments if each.first < latest), new.segment]
