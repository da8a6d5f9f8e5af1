"""Memory that this process has in common with a server on its host: POSIX shared memory (shm_open(3)), by name.

Names say whose they are: an owner holds a lock on an empty file of its name for as long as it lives, whatever ends it, so that
what is left of one that was killed can be told from what is in use. Process ids do not tell: in containers they come again.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import secrets
from pathlib import Path

import numpy as np

from engine.tensor import Array

FOLDER = Path("/dev/shm")
_NAME = re.compile(r"(vireo-triton-[0-9a-f]{16})(-[0-9a-f]{8})?")
NAME_BYTES = 38
"""Every region's name is so long."""


class Region:
    """`size` bytes that another process may map by `name` until `unlink`; those who have mapped it keep it until they end.

    Raises OSError where there is no room: it leaves half of the shared memory of the host to others.
    """

    __slots__ = ("_path", "contents", "name", "size")

    def __init__(self, name: str, size: int, folder: Path) -> None:
        self.name, self.size, self._path = name, size, folder / name
        told = os.statvfs(folder)
        if told.f_bavail * told.f_frsize - size < told.f_blocks * told.f_frsize // 2:
            raise OSError(f"{folder} would be more than half full")
        file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(file, 0, size)  # without room for it, a write to it would end the process
            mapped = mmap.mmap(file, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        except BaseException:
            self.unlink()
            raise
        finally:
            os.close(file)
        self.contents: Array = np.frombuffer(mapped, np.uint8)
        """[size] uint8. It is unmapped here when nobody has this array any more."""

    def unlink(self) -> None:
        """Nobody finds it by its name any more."""
        self._path.unlink(missing_ok=True)


class Owner:
    """Names regions after itself. Raises OSError where there is no shared memory. Any thread."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder, self.name = folder, f"vireo-triton-{secrets.token_hex(8)}"
        self._made = 0
        draft = folder / f".{self.name}"
        self._file = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(folder / self.name)  # under its name it was never without its lock

    def region(self, size: int) -> Region:
        """A new one. Raises OSError."""
        self._made += 1
        return Region(f"{self.name}-{self._made:08x}", size, self.folder)

    def close(self) -> None:
        """Its regions are what is left of it."""
        (self.folder / self.name).unlink(missing_ok=True)
        os.close(self._file)


def ownerless(name: str, folder: Path = FOLDER) -> bool:
    """Whether a region, or an owner, of that name is one of ours whose owner has ended."""
    found = _NAME.fullmatch(name)
    return found is not None and not _lives(folder / found[1])


def _lives(owner: Path) -> bool:
    try:
        file = os.open(owner, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:  # another user's
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def remove_ownerless(folder: Path = FOLDER) -> None:
    """Removes what processes that were killed left in `folder`."""
    for each in folder.glob("vireo-triton-*"):
        if ownerless(each.name, folder):
            each.unlink(missing_ok=True)
