"""The system calls that make a log's files safe, as one object: a test may give another that fails, stops half-way or forgets."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow as pa

from engine.errors import ResourceExhausted, Unavailable, VireoError, quoted

BUFFERS_MAX: Final = 1024
"""Of one pwritev (IOV_MAX on Linux)."""

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Disk:
    """Files by descriptor. Every method raises OSError as the system tells it."""

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """All of `buffers`, one after the other from `position` on."""
        for begin in range(0, len(buffers), BUFFERS_MAX):
            part: list[bytes | memoryview] = [memoryview(each) for each in buffers[begin : begin + BUFFERS_MAX]]
            while part:
                written = os.pwritev(file, part, position)
                position += written
                part = _after(part, written)

    def sync(self, file: int) -> None:
        """Returns when the disk has the file's bytes and its length."""
        os.fdatasync(file)

    def truncate(self, file: int, size: int) -> None:
        """Cuts the file."""
        os.ftruncate(file, size)

    def sync_folder(self, folder: Path) -> None:
        """Returns when the disk has the folder's names."""
        sync_folder(folder)

    def create(self, path: Path, content: bytes) -> int:
        """A file with `content` that is there whole or not at all, whatever happens; its descriptor. Replaces an older one."""
        draft = path.with_name(path.name + DRAFT_SUFFIX)
        file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            self.write(file, [content], 0)
            self.sync(file)
            draft.rename(path)
            self.sync_folder(path.parent)
        except BaseException:
            os.close(file)
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        return file


def put_in_place(draft: Path, path: Path) -> None:
    """Gives a file that was written as `draft`, in the same folder, the name `path`: it is there whole or not at all, whatever
    happens, and on the disk when this returns. Replaces an older one. Raises OSError."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """As `Disk.sync_folder`."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


DRAFT_SUFFIX: Final = ".draft"
"""Of a file that is being created; what is left of one is deleted when the log is opened."""


def _after(part: list[bytes | memoryview], written: int) -> list[bytes | memoryview]:
    """What a write that took `written` bytes has left."""
    for index, each in enumerate(part):
        if written < len(each):
            return [memoryview(each)[written:], *part[index + 1 :]]
        written -= len(each)
    return []


def disk_fault(error: OSError, path: Path, what: str) -> VireoError:
    """What a caller is told of a failed system call: ResourceExhausted for a full disk, else Unavailable."""
    told = f"{quoted(str(path))}: cannot {what}: {error.strerror or error}"
    return ResourceExhausted(told) if error.errno in _FULL else Unavailable(told)
