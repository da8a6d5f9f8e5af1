"""A disk that stops at a chosen call, and what a new start may find then: of a killed process, and after a power cut."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from engine.log.disk import Disk


class CrashDisk(Disk):
    """Stops at its `calls`-th call from 0, having copied `root` to `left`; every later call fails too.

    `torn`: the call, if it writes, has written a part. `seed`: the power goes: what was not synced, bytes and names, is there or
    not, by chance. Files and folders are known by inode, held open so that none is given twice.
    """

    def __init__(
        self, root: Path, left: Path, calls: int | None, *, torn: bool = False, seed: int | None = None
    ) -> None:
        self._root, self._left, self._stop = root, left, calls
        self._torn = torn
        self._chance = random.Random(seed)
        self._power = seed is not None
        self.calls = 0
        self._held: list[int] = []
        self._bytes: dict[int, bytes] = {}
        """Of each file's inode, as last synced."""
        self._names: dict[int, dict[str, int]] = {}
        """Of each folder's inode, the inodes by name, as last synced."""
        self._places: dict[int, Path] = {}
        """Where each inode is when the power goes: one whose old name is left may have been moved, not deleted."""

    def _now(self) -> bool:
        """Whether this is the call."""
        self.calls += 1
        if self._stop is not None and self.calls > self._stop + 1:
            raise OSError(errno.EIO, "stopped")
        return self._stop is not None and self.calls == self._stop + 1

    def _crash(self) -> OSError:
        if self._power:
            self._places = {each.stat().st_ino: each for each in self._root.rglob("*")}
            self._write_folder(os.stat(self._root).st_ino, self._root, self._left)
        else:
            shutil.copytree(self._root, self._left)
        return OSError(errno.EIO, "stops here")

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        now = self._now()
        if now and self._torn:
            whole = b"".join(memoryview(each) for each in buffers)
            os.pwrite(file, whole[: self._chance.randrange(len(whole) + 1)], position)
        if now:
            raise self._crash()
        super().write(file, buffers, position)

    def sync(self, file: int) -> None:
        """Disk."""
        if self._now():
            raise self._crash()
        if self._power:
            held = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
            self._held.append(held)
            self._bytes[os.fstat(held).st_ino] = os.pread(held, os.fstat(held).st_size, 0)

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        if self._now():
            raise self._crash()
        if self._power:
            entries = [folder, *folder.iterdir()]
            self._held += [os.open(each, os.O_RDONLY) for each in entries]
            self._names[entries[0].stat().st_ino] = {each.name: each.stat().st_ino for each in entries[1:]}

    def trust(self, folder: Path) -> None:
        """What lies there was synced before: its bytes survive in links to it."""
        for each in folder.rglob("*"):
            if each.is_file():
                self._bytes[each.stat().st_ino] = each.read_bytes()

    def close(self) -> None:
        """Lets go of the inodes."""
        for each in self._held:
            os.close(each)
        self._held.clear()

    def _write_folder(self, inode: int, now: Path | None, copy: Path) -> None:
        """What may be left of a folder. `now`: where it is, None is deleted."""
        copy.mkdir()
        safe = self._names.get(inode, {})
        found = {each.name: each for each in now.iterdir()} if now is not None else {}
        for name in sorted(safe.keys() | found.keys()):
            path = found.get(name)
            current = path.stat().st_ino if path is not None else None
            kept = self._chance.choice([safe.get(name), current])
            if kept is not None:
                self._write(kept, path if kept == current else self._places.get(kept), copy / name)

    def _write(self, inode: int, now: Path | None, copy: Path) -> None:
        is_folder = inode in self._names if now is None else stat.S_ISDIR(now.stat().st_mode)
        if is_folder:
            self._write_folder(inode, now, copy)
            return
        safe = self._bytes.get(inode, b"")
        newest = safe if now is None else now.read_bytes()
        cut = newest[: self._chance.randrange(len(newest) + 1)]
        zeros = bytes(len(newest))
        copy.write_bytes(safe if newest == safe else self._chance.choice([safe, newest, cut, zeros]))
