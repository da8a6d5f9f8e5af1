"""States on disk: one checksummed file a snapshot, complete or not there, the newest few kept.

A file is a run of Arrow IPC streams, one for each part of the state, and a trailer that says what they are:

    "VIREOFS1" | part, part, ... | trailer (JSON) | length and CRC-32 of the trailer, 2 x u32 | "VIREOFS1"

It is written under another name, checked, made durable, and then renamed, so that kill -9 at any moment leaves what was
there before. What is damaged or of no use is set aside under another name and an older one taken; nothing is deleted but
what is older than the newest `keep`.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from engine.errors import DataLoss, ResourceExhausted, Unavailable, quoted
from engine.kinds import decodable
from engine.log.disk import put_in_place
from engine.log.log import Offsets
from engine.log.snapshot_store import SnapshotStore

log = logging.getLogger("vireo.features")

_MAGIC: Final = b"VIREOFS1"
_END: Final = struct.Struct("<II8s")
_TRAILER_BYTES_MAX: Final = 64 << 20
_ALIGNED: Final = 64
_NAME: Final = re.compile(r"(?P<fingerprint>[0-9a-f]{16})-(?P<shard>all|p\d+)-(?P<read>\d{20})\.snapshot")


class Header(msgspec.Struct, frozen=True):
    """What a snapshot is of. `offsets`: what is read next, by partition; `shard`: "all", or "p" and the one partition.

    `covered`: entries of the log that were left out because a table brought them; `table`, `version` and `table_rows` say
    which.
    """

    view: str
    fingerprint: str
    shard: str
    offsets: dict[int, int]
    written_us: int = 0
    covered: int = 0
    table: str | None = None
    version: int | None = None
    table_rows: int = 0


class _Part(msgspec.Struct, frozen=True):
    name: str
    start: int
    size: int
    crc32: int


class _Trailer(msgspec.Struct, frozen=True):
    header: Header
    parts: list[_Part]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot read back: every part with its name, once, and decompressed when its turn comes."""

    header: Header
    parts: Iterator[tuple[str, pa.RecordBatch]]


@dataclass(slots=True)
class Draft:
    """A snapshot whose bytes are written but not yet safe: `SnapshotFolder.finish` makes it so, on any thread."""

    path: Path
    name: str
    header: Header
    spans: list[tuple[str, int, int]] = field(default_factory=list)
    lock: int = -1


class SnapshotFolder:
    """The snapshots of one view. Several processes may share a folder where each writes its own shards.

    `identity` is hexadecimal: whatever differs in it is of another view, and kept apart. With `store`, the URL of an object
    store, what is written is also published there, and what others published there is fetched.
    """

    def __init__(self, path: Path, *, view: str, identity: str, keep: int, store: str | None = None) -> None:
        """Raises Unavailable where the folder cannot be made, SpecError where `store` cannot be used."""
        self._path, self._view, self._keep = path, view, keep
        self._identity = identity
        self._prefix = identity[:16]
        self._store = None if store is None else SnapshotStore(store, prefix=self._prefix, keep=keep)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"snapshots of {quoted(view)}: {path} cannot be made: {error}") from error
        self._forget_drafts()

    def _forget_drafts(self) -> None:
        """Removes what writers that were killed have left; a living one holds the lock."""
        for path in self._path.glob(".*.draft"):
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(descriptor)

    # Writing.

    def draft(self, header: Header, parts: Iterable[tuple[str, pa.RecordBatch]]) -> Draft:
        """Writes every part; when it returns the state may change again. Raises ResourceExhausted where it cannot."""
        name = f"{self._prefix}-{header.shard}-{sum(header.offsets.values()):020d}.snapshot"
        path = self._path / f".{name}.{os.getpid()}.{time.monotonic_ns()}.draft"
        draft = Draft(path, name, header)
        try:
            draft.lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            fcntl.flock(draft.lock, fcntl.LOCK_EX)
            with pa.OSFile(str(path), "wb") as sink:
                sink.write(_MAGIC)
                for part, batch in parts:
                    draft.spans.append((part, *_write_part(sink, batch)))
        except OSError as error:
            self.discard(draft)
            raise self._refused(error) from error
        return draft

    def finish(self, draft: Draft) -> None:
        """Checks, closes and renames it, publishes it, and lets go of what is too old. Raises ResourceExhausted where it cannot,
        Unavailable where it cannot be published."""
        try:
            with open(draft.path, "r+b") as file:
                trailer = _Trailer(draft.header, _checked(file.fileno(), draft.spans))
                _append_trailer(file, msgspec.json.encode(trailer))
            put_in_place(draft.path, self._path / draft.name)
        except OSError as error:
            self.discard(draft)
            raise self._refused(error) from error
        os.close(draft.lock)
        try:
            if self._store is not None:
                self._store.publish(self._path / draft.name, draft.header.shard)
        finally:  # a store that is away for long must not fill the disk
            self._forget_old(draft.header.shard)

    def write(self, header: Header, parts: Iterable[tuple[str, pa.RecordBatch]]) -> None:
        """`draft` and `finish`."""
        self.finish(self.draft(header, parts))

    def discard(self, draft: Draft) -> None:
        """Takes a draft back."""
        with suppress(OSError):
            draft.path.unlink()
        if draft.lock >= 0:
            os.close(draft.lock)
            draft.lock = -1

    def _refused(self, error: OSError) -> ResourceExhausted:
        return ResourceExhausted(f"snapshots of {quoted(self._view)}: {self._path} cannot be written: {error}")

    def _forget_old(self, shard: str) -> None:
        """Keeps the newest `keep` of this shard, and of other views one, as a way back."""
        own = [path for path in self._named(shard) if path.name.startswith(self._prefix)]
        others = [path for path in self._named(shard) if not path.name.startswith(self._prefix)]
        others.sort(key=_modified, reverse=True)
        for path in (*own[self._keep :], *others[1:]):
            with suppress(OSError):
                path.unlink()

    # Reading.

    def newest(self, shard: str, latest: Offsets) -> Snapshot | None:
        """The newest snapshot that can be used, of a log that ends at `latest`; None where there is none.

        One that is damaged, or ahead of the log (which has then lost entries), is set aside with a warning. Raises Unavailable
        where the store cannot be reached.
        """
        self._fetch(shard)
        for path in self._named(shard):
            if not path.name.startswith(self._prefix):
                continue
            try:
                snapshot = self._read(path, latest)
            except DataLoss as error:
                log.warning("feature view %s: %s; an older snapshot is looked for", self._view, error.message)
                with suppress(OSError):
                    path.rename(path.with_suffix(".refused"))
                continue
            if snapshot is not None:
                return snapshot
        return None

    def _fetch(self, shard: str) -> None:
        if self._store is None:
            return
        name = self._store.newest(shard)
        if name is None or not _of_shard(name, shard) or (self._path / name).exists():
            return
        draft = self._path / f".{name}.{os.getpid()}.{time.monotonic_ns()}.draft"
        try:
            self._store.fetch(name, draft)
            put_in_place(draft, self._path / name)
        except OSError as error:
            raise self._refused(error) from error
        finally:
            draft.unlink(missing_ok=True)

    def holds_useless(self, shard: str) -> str | None:
        """Why the snapshots that are there were of no use; None where there were none at all."""
        left = [path.name for path in self._path.iterdir()] if self._path.is_dir() else []
        left += [] if self._store is None else self._store.names()
        if any(_of_shard(name, shard) and not name.startswith(self._prefix) for name in left):
            return "the snapshots there are of a view that was declared otherwise"
        if any(name.endswith(".refused") and f"-{shard}-" in name for name in left):
            return "the snapshots there are damaged or of another log"
        return None

    def _named(self, shard: str) -> list[Path]:
        """Files of `shard`, of this view or another, those that have read most of the log first."""
        with suppress(FileNotFoundError):
            found = [path for path in self._path.iterdir() if _of_shard(path.name, shard)]
            return sorted(found, key=lambda path: path.name.rpartition("-")[2], reverse=True)
        return []

    def _read(self, path: Path, latest: Offsets) -> Snapshot | None:
        try:
            with _mapped(path) as data:
                trailer = _trailer_of(data, path)
                header = trailer.header
                if header.fingerprint != self._identity:
                    return None
                for partition, offset in header.offsets.items():
                    if offset > latest.get(partition, 0):
                        raise DataLoss(
                            f"snapshot {path.name} has read partition {partition} up to {offset}, but the log ends at "
                            f"{latest.get(partition, 0)}: it has lost entries, or is another log"
                        )
                for part in trailer.parts:
                    if zlib.crc32(data[part.start : part.start + part.size]) != part.crc32:
                        raise DataLoss(f"snapshot {path.name}: part {quoted(part.name)} is damaged")
            return Snapshot(header, _parts_of(pa.memory_map(str(path)), trailer))
        except FileNotFoundError:  # another process was faster
            return None
        except OSError as error:
            raise DataLoss(f"snapshot {path.name} cannot be read: {error}") from error


def _of_shard(name: str, shard: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and match["shard"] == shard


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _write_part(sink: Any, batch: pa.RecordBatch) -> tuple[int, int]:  # noqa: ANN401  pyarrow is untyped
    """Start and size of the stream."""
    start = sink.tell()
    sink.write(bytes(-start % _ALIGNED))
    start = sink.tell()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return start, sink.tell() - start


def _checked(descriptor: int, spans: Iterable[tuple[str, int, int]]) -> list[_Part]:
    size = os.fstat(descriptor).st_size
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        return [_Part(name, start, span, zlib.crc32(view[start : start + span])) for name, start, span in spans]


def _append_trailer(file: Any, encoded: bytes) -> None:  # noqa: ANN401
    file.seek(0, os.SEEK_END)
    file.write(encoded + _END.pack(len(encoded), zlib.crc32(encoded), _MAGIC))
    file.flush()


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < len(_MAGIC) + _END.size:
            raise DataLoss(f"snapshot {path.name} is cut short")
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data, memoryview(data) as view:
            yield view


def _trailer_of(data: memoryview, path: Path) -> _Trailer:
    length, crc32, magic = _END.unpack(data[-_END.size :])
    end = len(data) - _END.size
    if magic != _MAGIC or length > min(end, _TRAILER_BYTES_MAX) or bytes(data[: len(_MAGIC)]) != _MAGIC:
        raise DataLoss(f"snapshot {path.name} is cut short, or no snapshot")
    encoded = bytes(data[end - length : end])
    if zlib.crc32(encoded) != crc32:
        raise DataLoss(f"snapshot {path.name}: its trailer is damaged")
    return msgspec.json.decode(encoded, type=decodable(_Trailer))


def _parts_of(source: Any, trailer: _Trailer) -> Iterator[tuple[str, pa.RecordBatch]]:  # noqa: ANN401
    """Each part of a mapped file, over the map where it is not compressed."""
    with source:
        for part in trailer.parts:
            source.seek(part.start)
            with pa.ipc.open_stream(source.read_buffer(part.size)) as stream:
                yield part.name, stream.read_next_batch()
