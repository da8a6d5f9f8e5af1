"""Disks that fail, for tests of the local log."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from engine.log.disk import Disk

SECTOR_BYTES = 64
"""Smaller than a real one, so that small test files have many."""


class QuickDisk(Disk):
    """Waits for nothing: for tests that open many logs and cut no power."""

    def sync(self, file: int) -> None:
        """Disk."""

    def sync_folder(self, folder: Path) -> None:
        """Disk."""


class FailingDisk(Disk):
    """Fails the calls it is told to; a failing write has written some of its bytes, as a full disk does."""

    def __init__(self) -> None:
        self.writes: int | None = None
        self.syncs: int | None = None
        self.truncates: int | None = None
        """The error number that such calls fail with from now on; None: they work."""
        self.synced = 0

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        if self.writes is None:
            super().write(file, buffers, position)
            return
        whole = b"".join(memoryview(each) for each in buffers)
        os.pwrite(file, whole[: len(whole) // 2], position)
        raise OSError(self.writes, os.strerror(self.writes))

    def sync(self, file: int) -> None:
        """Disk."""
        if self.syncs is not None:
            raise OSError(self.syncs, os.strerror(self.syncs))
        self.synced += 1
        super().sync(file)

    def truncate(self, file: int, size: int) -> None:
        """Disk."""
        if self.truncates is not None:
            raise OSError(self.truncates, os.strerror(self.truncates))
        super().truncate(file, size)


class PowerCutDisk(Disk):
    """Loses power at its `calls`-th call. `left` makes the folder as a power cut may leave it: whatever was not synced is
    there or not, sector by sector. Deterministic by seed."""

    def __init__(self, folder: Path, seed: int, calls: int) -> None:
        self._random = random.Random(seed)
        self._left = calls
        files = list(folder.iterdir()) if folder.exists() else []
        self._safe = {each.name: each.read_bytes() for each in files}
        self._names = {each.name for each in files}
        """Of files that the folder is sure to have."""

    def _call(self) -> bool:
        """Whether this is the call in which the power goes."""
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.EIO, "the power is off")
        return self._left == 0

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        cut = self._call()
        whole = b"".join(memoryview(each) for each in buffers)
        os.pwrite(file, whole[: self._random.randrange(len(whole) + 1)] if cut else whole, position)
        if cut:
            raise OSError(errno.EIO, "the power went")

    def sync(self, file: int) -> None:
        """Disk."""
        if self._call():
            raise OSError(errno.EIO, "the power went")
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        self._safe[path.name.removesuffix(".draft")] = path.read_bytes()

    def truncate(self, file: int, size: int) -> None:
        """Disk."""
        if self._call():
            raise OSError(errno.EIO, "the power went")
        super().truncate(file, size)

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        if self._call():
            raise OSError(errno.EIO, "the power went")
        self._names = {each.name for each in folder.iterdir()}

    def left(self, folder: Path, copy: Path) -> None:
        """Writes into `copy` what a new start may find of `folder`."""
        copy.mkdir()
        for path in folder.iterdir():
            if path.name in self._names or self._random.random() < 0.5:
                (copy / path.name).write_bytes(self._mixed(self._safe.get(path.name, b""), path.read_bytes()))

    def _mixed(self, safe: bytes, newest: bytes) -> bytes:
        size = self._random.choice([len(safe), len(newest), self._random.randint(*sorted((len(safe), len(newest))))])
        mixed = bytearray(safe[:size].ljust(size, b"\0"))
        for begin in range(0, size, SECTOR_BYTES):
            if self._random.random() < 0.5:
                sector = newest[begin : min(begin + SECTOR_BYTES, size)]
                mixed[begin : begin + len(sector)] = sector
        return bytes(mixed)
