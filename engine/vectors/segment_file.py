"""Files that never change once they are whole: written with a running checksum, mapped after it was checked; small JSON files
with the checksum inside.

Every file is known by its name, its size and its CRC-32 (zlib's; it finds every burst of up to 32 wrong bits). Nothing here
knows what is in a file.
"""

from __future__ import annotations

import mmap
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import DataLoss, FailedPrecondition, quoted
from engine.kinds import decodable
from engine.log.disk import Disk, disk_fault

T = TypeVar("T")
Mapped = mmap.mmap | bytes
"""What a file holds, read-only; its memory goes when nobody refers to it."""

FORMAT_VERSION: Final = 1
Format = Literal["vireo.segment", "vireo.collection", "vireo.aliases"]
_BLOCK_BYTES: Final = 4 << 20
_HEAD: Final = re.compile(
    rb'\{"format":"(?P<format>[a-z.]{1,40})","version":(?P<version>\d{1,9}),"crc32":"(?P<crc>[0-9a-f]{8})","body":'
)
_TAIL: Final = b"}\n"


@dataclass(frozen=True, slots=True)
class FileSum:
    """A whole file: its name within its folder, its bytes, their CRC-32."""

    file: str
    size_bytes: int
    crc32: int


def sum_of(file: str, content: bytes) -> FileSum:
    """Of a file with this content."""
    return FileSum(file, len(content), zlib.crc32(content))


@contextmanager
def translated(path: Path, what: str) -> Iterator[None]:
    """Failed system calls as callers are told of them: ResourceExhausted for a full disk, else Unavailable."""
    try:
        yield
    except OSError as error:
        raise disk_fault(error, path, what) from error


class DraftFile:
    """A file that is being written from its begin to its end, by one thread. Arrow may write to it as to any Python file.

    Every method raises OSError.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._size = 0
        self._crc = 0
        self.closed = False

    def write(self, data: Any) -> int:  # noqa: ANN401  anything with a buffer
        """Appends the bytes of a contiguous buffer; how many they are."""
        buffer = pa.py_buffer(data)
        self._disk.write(self._file, [buffer], self._size)
        self._crc = zlib.crc32(buffer, self._crc)
        self._size += buffer.size
        return int(buffer.size)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def align(self, multiple: int) -> None:
        """Zeros until the size is a multiple."""
        self.write(bytes(-self._size % multiple))

    def finish(self) -> FileSum:
        """The file is on the disk, and closed. Its name is safe once its folder is synced."""
        self._disk.sync(self._file)
        self.close()
        return FileSum(self.path.name, self._size, self._crc)

    def close(self) -> None:
        """Lets go of it as it is."""
        if not self.closed:
            self.closed = True
            os.close(self._file)


def take_in(path: Path, disk: Disk) -> FileSum:
    """Syncs and sums a file that somebody else wrote. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.sync(file)
        with open(file, "rb", buffering=0, closefd=False) as source:
            size, crc = 0, 0
            while block := source.read(_BLOCK_BYTES):
                size, crc = size + len(block), zlib.crc32(block, crc)
    finally:
        os.close(file)
    return FileSum(path.name, size, crc)


def copy_file(source: Path, target: Path, disk: Disk) -> FileSum:
    """A synced copy, in bounded memory. Raises OSError."""
    copy = DraftFile(target, disk)
    try:
        with source.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                copy.write(block)
        return copy.finish()
    finally:
        copy.close()


def map_checked(folder: Path, expected: FileSum) -> Mapped:
    """The file, mapped, after all of it was read once. Raises DataLoss where it is gone, cut short or damaged; OSError."""
    path = folder / expected.file
    mapped = map_file(path)
    if len(mapped) != expected.size_bytes:
        raise DataLoss(f"{quoted(str(path))}: has {len(mapped)} bytes, expected {expected.size_bytes}")
    if (crc := zlib.crc32(mapped)) != expected.crc32:
        raise DataLoss(f"{quoted(str(path))}: is damaged: CRC-32 {crc:08x}, expected {expected.crc32:08x}")
    return mapped


def map_file(path: Path) -> Mapped:
    """The file, mapped, unchecked. Raises DataLoss where it is gone; OSError."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else b""
    except FileNotFoundError as error:
        raise DataLoss(f"{quoted(str(path))}: is gone") from error


def as_array(mapped: Mapped, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """All of it as a read-only array."""
    return np.frombuffer(mapped, dtype)


def framed(kind: Format, body: object) -> bytes:
    """A small JSON file: its format, format version, checksum, and `body` (dataclasses, mappings, tuples, plain values)."""
    encoded = msgspec.json.encode(body)
    crc = _crc_of(kind, FORMAT_VERSION, encoded)
    head = f'{{"format":"{kind}","version":{FORMAT_VERSION},"crc32":"{crc:08x}","body":'.encode()
    return head + encoded + _TAIL


def read_framed(path: Path, kind: Format, type_: type[T]) -> T:
    """The body of a small JSON file. Raises DataLoss where it is gone or any of its bytes is wrong; FailedPrecondition where it
    is whole, but another format or a newer version; OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataLoss(f"{quoted(str(path))}: is gone") from error
    head = _HEAD.match(data)
    if head is None or not data.endswith(_TAIL):
        raise DataLoss(f"{quoted(str(path))}: is torn or damaged, or no {kind}")
    found, version = head["format"].decode(), int(head["version"])
    body = data[head.end() : -len(_TAIL)]
    if f"{(crc := _crc_of(found, version, body)):08x}".encode() != head["crc"]:
        raise DataLoss(f"{quoted(str(path))}: is damaged: CRC-32 {crc:08x}, expected {head['crc'].decode()}")
    if found != kind:
        raise FailedPrecondition(f"{quoted(str(path))}: is a {found}, expected a {kind}")
    if version != FORMAT_VERSION:
        raise FailedPrecondition(f"{quoted(str(path))}: format version {version}, this program reads {FORMAT_VERSION}")
    try:
        return msgspec.json.decode(body, type=decodable(type_))
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise FailedPrecondition(f"{quoted(str(path))}: another program wrote this {kind}: {error}") from error


def _crc_of(kind: str, version: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{kind} {version}\n".encode()))
