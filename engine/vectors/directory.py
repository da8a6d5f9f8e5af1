"""The folder of one collection: one open process, one manifest, and only files that it names.

| path | what |
|---|---|
| `lock` | held while it is open |
| `build.lock` | held by a process that makes a segment: see engine/vectors/build_lock.py |
| `manifest.json` | engine/vectors/manifest.py |
| `segments/NUMBER/` | engine/vectors/segment.py |
| `alive/NUMBER-GENERATION.bits` | which rows of a segment are alive |
| `codebooks/NAME` | what indexes of several segments share |

What changes is written beside, synced, and counts from the moment the manifest is replaced; only then is what it names no more
deleted. So a crash at any moment leaves the state before or the state after, and files that nobody names.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from engine.errors import DataLoss, FailedPrecondition, quoted
from engine.log.disk import DRAFT_SUFFIX, Disk
from engine.log.folder import lock_folder, make_folder
from engine.vectors.build_lock import wait_for_builds
from engine.vectors.declaration import CollectionSpec
from engine.vectors.manifest import (
    ALIVE,
    CODEBOOKS,
    MANIFEST,
    SEGMENTS,
    Bits,
    Manifest,
    SegmentEntry,
    bits_name,
    check_alive,
    check_reads_as,
    count_alive,
    encode_manifest,
    read_manifest,
    segment_name,
)
from engine.vectors.segment import SealedSegment, SegmentWriter
from engine.vectors.segment_file import FileSum, as_array, map_checked, sum_of, translated
from engine.vectors.snapshot import check_free, small_files, write_whole

log = logging.getLogger("vireo.vectors")

_FOLDERS: Final = (SEGMENTS, ALIVE, CODEBOOKS)
_NUMBER: Final = re.compile(r"\d{10}")
_CODEBOOK: Final = re.compile(r"\d{10}\.codebook")
_OURS: Final = {SEGMENTS: _NUMBER, ALIVE: re.compile(r"\d{10}-\d{10}\.bits"), CODEBOOKS: _CODEBOOK}


class Directory:
    """A collection's folder, open. Any thread may call; commits and snapshots wait for each other.

    `spec`: as what it is read, None is as it was last committed. `manifest`: the state that counts. Raises Unavailable where
    the folder is in use or can't be read or written, ResourceExhausted where the disk is full, DataLoss where something that
    counts is gone or damaged, FailedPrecondition where it can't be read as `spec` or by this program.
    """

    def __init__(self, folder: Path, spec: CollectionSpec | None = None, *, disk: Disk | None = None) -> None:
        self.folder = folder
        self.disk = disk or Disk()
        self._lock = threading.RLock()
        self._pending: set[Path] = set()
        """Written by this process, to be named by a commit that is to come."""
        self._doubtful = False
        """The last commit failed: what it named may count after a restart."""
        self._users: Counter[int] = Counter()
        self._dropped: set[int] = set()
        with translated(folder, "open the collection"):
            make_folder(folder, self.disk)
            self._lock_file: int | None = lock_folder(folder, f"collection {quoted(str(folder))}")
            try:
                wait_for_builds(folder)
                self.manifest = self._opened(spec)
                self._read()
            except BaseException:
                self.close()
                raise

    def _opened(self, spec: CollectionSpec | None) -> Manifest:
        for each in _FOLDERS:
            make_folder(self.folder / each, self.disk)
        if not (self.folder / MANIFEST).exists():
            return self._founded(spec)
        found = read_manifest(self.folder)
        if spec is None:
            return found
        try:
            check_reads_as(found.spec, spec, empty=not found.segments)
        except FailedPrecondition as error:
            raise FailedPrecondition(f"collection {quoted(str(self.folder))}: {error.message}") from error
        return replace(found, spec=spec)

    def _founded(self, spec: CollectionSpec | None) -> Manifest:
        if any(_NUMBER.fullmatch(each.name) for each in (self.folder / SEGMENTS).iterdir()):
            raise DataLoss(f"collection {quoted(str(self.folder))}: has segments, and {MANIFEST} is gone")
        if spec is None:
            raise DataLoss(f"collection {quoted(str(self.folder))}: {MANIFEST} is not there")
        first = Manifest(spec)
        os.close(self.disk.create(self.folder / MANIFEST, encode_manifest(first)))
        return first

    def _read(self) -> None:
        """Removes leftovers, then opens what counts."""
        self._generation = self.manifest.generation
        if left := self._remove(self._unnamed(self.manifest)):
            log.info("%s: removed what a crash left: %s", self.folder, ", ".join(left))
        self._segments = {each.number: self._read_segment(each) for each in self.manifest.segments}
        self._next = max(self._segments, default=0) + 1
        self._alive = {each.number: self._read_bits(each) for each in self.manifest.segments}
        for name in self.manifest.codebooks:
            self.codebook(name)

    def _read_segment(self, entry: SegmentEntry) -> SealedSegment:
        found = SealedSegment.open(self.segment_folder(entry.number))
        if found.rows != entry.rows:
            raise DataLoss(f"{quoted(str(found.folder))}: has {found.rows} rows, the manifest says {entry.rows}")
        return found

    def _read_bits(self, entry: SegmentEntry) -> Bits | None:
        if entry.bits is None:
            return None
        bits = as_array(map_checked(self.folder / ALIVE, entry.bits), np.uint8).copy()
        check_alive(self.folder / ALIVE / entry.bits.file, entry, bits)
        bits.flags.writeable = False
        return bits

    def segment_folder(self, number: int) -> Path:
        """Where a segment lies."""
        return self.folder / SEGMENTS / segment_name(number)

    def segment(self, number: int) -> SealedSegment:
        """A committed segment, open. Its arrays stay readable though its files are deleted."""
        return self._segments[number]

    def alive(self, number: int) -> Bits | None:
        """The committed bitset of a segment, read-only; None: all are alive."""
        return self._alive[number]

    def reserve(self) -> int:
        """The number of a segment to come, to be made in its folder. It counts once it is committed; see `discard`."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._pending.add(self.segment_folder(number))
            return number

    def new_segment(self, spec: CollectionSpec | None = None) -> tuple[int, SegmentWriter]:
        """As `reserve`, with a writer."""
        number = self.reserve()
        try:
            return number, SegmentWriter(self.segment_folder(number), spec or self.manifest.spec, disk=self.disk)
        except BaseException:
            self.discard(number)
            raise

    def add(self, number: int, segment: SealedSegment) -> None:
        """Spares `hold` and `commit` to open, and so to read, a segment that was just sealed."""
        with self._lock:
            assert segment.folder == self.segment_folder(number), f"{segment.folder} is not segment {number}"
            self._segments[number] = segment

    def new_codebook(self, content: bytes) -> FileSum:
        """Stores what a commit may name as a codebook."""
        with self._lock, translated(self.folder, "store a codebook"):
            used = [
                int(each.name[:10]) for each in (self.folder / CODEBOOKS).iterdir() if _CODEBOOK.fullmatch(each.name)
            ]
            path = self.folder / CODEBOOKS / f"{max(used, default=0) + 1:010d}.codebook"
            self._pending.add(path)
            os.close(self.disk.create(path, content))
            return sum_of(path.name, content)

    def codebook(self, name: str) -> bytes:
        """The committed codebook of a vector. Raises KeyError; DataLoss where it is damaged."""
        with self._lock, translated(self.folder, "read a codebook"):
            return bytes(map_checked(self.folder / CODEBOOKS, self.manifest.codebooks[name]))

    def discard(self, number: int) -> None:
        """Deletes a segment that was made and is not to be committed."""
        with self._lock:
            path = self.segment_folder(number)
            assert path in self._pending, number
            assert not self._users[number], f"segment {number} is held"
            self._pending.discard(path)
            self._segments.pop(number, None)
            if not self._doubtful:
                self._remove([path, path.with_name(path.name + DRAFT_SUFFIX)])

    def hold(self, number: int) -> SealedSegment:
        """The segment, whose files stay until it is released as often as it was held, dropped or not."""
        with self._lock:
            if number not in self._segments:
                self._segments[number] = SealedSegment.open(self.segment_folder(number))
            self._users[number] += 1
            return self._segments[number]

    def release(self, number: int) -> None:
        """Ends one `hold`. The last one deletes the files of a segment that no longer counts."""
        with self._lock:
            assert self._users[number] > 0, f"segment {number} is not held"
            self._users[number] -= 1
            if not self._users[number] and number in self._dropped:
                self._delete(number)

    def commit(
        self,
        alive: Mapping[int, Bits | None],
        *,
        replay_from: int,
        codebooks: Mapping[str, FileSum] | None = None,
        spec: CollectionSpec | None = None,
        log_folder: str | None = None,
        ever: CollectionSpec | None = None,
    ) -> Manifest:
        """Makes the segments named by `alive`, with these alive rows (None: all), the state. What is not given stays as it was.

        When it returns, the disk has the new state; when it raises, the old one counts here, and after a restart the old or the
        new. Segments dropped are deleted once nobody holds them.
        """
        with self._lock, translated(self.folder, "commit"):
            self._generation += 1  # of a commit that failed too: its manifest may be on the disk, with its files
            new = Manifest(
                spec=spec or self.manifest.spec,
                generation=self._generation,
                replay_from=replay_from,
                segments=tuple(self._entry(number, bits) for number, bits in sorted(alive.items())),
                codebooks=dict(self.manifest.codebooks if codebooks is None else codebooks),
                log=log_folder or self.manifest.log,
                ever=ever or self.manifest.ever,
            )
            self._doubtful = True
            os.close(self.disk.create(self.folder / MANIFEST, encode_manifest(new)))
            self._doubtful = False
            self._adopt(new, alive)
            return new

    def _entry(self, number: int, bits: Bits | None) -> SegmentEntry:
        """Writes the bitset unless it is there already."""
        if number not in self._segments:
            self._segments[number] = SealedSegment.open(self.segment_folder(number))
        rows = self._segments[number].rows
        count = rows if bits is None else count_alive(rows, bits)
        if bits is None or count == rows:
            return SegmentEntry(number, rows, rows)
        content, before = bits.tobytes(), self._alive.get(number)
        if before is not None and np.array_equal(before, bits):
            return next(each for each in self.manifest.segments if each.number == number)
        name = bits_name(number, self._generation)
        os.close(self.disk.create(self.folder / ALIVE / name, content))
        return SegmentEntry(number, rows, count, sum_of(name, content))

    def _adopt(self, new: Manifest, alive: Mapping[int, Bits | None]) -> None:
        self.manifest = new
        self._pending -= _named(self.folder, new)
        self._alive = {each.number: _frozen(alive[each.number]) if each.bits else None for each in new.segments}
        numbers = {each.number for each in new.segments}
        self._dropped -= numbers
        for number in [each for each in self._segments if each not in numbers]:
            if self.segment_folder(number) in self._pending:
                continue
            self._dropped.add(number)
            if not self._users[number]:
                self._delete(number)
        self._remove(self._unnamed(new))

    def _delete(self, number: int) -> None:
        self._dropped.discard(number)
        del self._segments[number], self._users[number]
        self._remove([self.segment_folder(number)])

    def _unnamed(self, manifest: Manifest) -> list[Path]:
        """Files of a collection's kind that neither the manifest names nor anybody here needs."""
        kept = _named(self.folder, manifest) | self._pending | {self.segment_folder(each) for each in self._dropped}
        kept |= {each.with_name(each.name + DRAFT_SUFFIX) for each in self._pending}
        found = [each for folder in _FOLDERS for each in (self.folder / folder).iterdir() if _is_ours(each)]
        found += [self.folder / (MANIFEST + DRAFT_SUFFIX)] if (self.folder / (MANIFEST + DRAFT_SUFFIX)).exists() else []
        return sorted(each for each in found if each not in kept)

    def _remove(self, paths: Iterable[Path]) -> list[str]:
        """Their names. What can't be removed now is removed on the next opening."""
        names = []
        for each in paths:
            try:
                _remove_whole(each)
                names.append(each.relative_to(self.folder).as_posix())
            except OSError as error:
                log.warning("%s: cannot be removed: %s", each, error)
        return names

    def snapshot(self, target: Path) -> Manifest:
        """A consistent copy of the committed state in a new folder: hard links where the file system has them, else copies.

        Writes go on meanwhile. `target` is whole or not there. Raises FailedPrecondition where it is there already.
        """
        check_free(target)
        with self._lock:
            manifest = self.manifest
            numbers = [each.number for each in manifest.segments]
            for each in numbers:
                self.hold(each)
            small = self._small_files(manifest)
        try:
            folders = {each: self.segment_folder(each) for each in numbers}
            with translated(target, "write the snapshot"):
                write_whole(target, manifest, folders, small, self.disk, link=True)
        finally:
            for each in numbers:
                self.release(each)
        return manifest

    def _small_files(self, manifest: Manifest) -> dict[str, bytes]:
        with translated(self.folder, "read the collection"):
            return small_files(self.folder, manifest)

    def close(self) -> None:
        """Lets go of the folder. Segments held stay mapped; those dropped meanwhile are deleted by the next opening."""
        if self._lock_file is not None:
            file, self._lock_file = self._lock_file, None
            os.close(file)


def _named(folder: Path, manifest: Manifest) -> set[Path]:
    """Everything that counts below the folder."""
    segments = {folder / SEGMENTS / segment_name(each.number) for each in manifest.segments}
    bits = {folder / ALIVE / each.bits.file for each in manifest.segments if each.bits is not None}
    return segments | bits | {folder / CODEBOOKS / each.file for each in manifest.codebooks.values()}


def _is_ours(path: Path) -> bool:
    return _OURS[path.parent.name].fullmatch(path.name.removesuffix(DRAFT_SUFFIX)) is not None


def _remove_whole(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _frozen(bits: Bits | None) -> Bits | None:
    """A copy that nobody can write to."""
    if bits is None:
        return None
    copy = bits.copy()
    copy.flags.writeable = False
    return copy
