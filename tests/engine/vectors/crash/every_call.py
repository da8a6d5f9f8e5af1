"""A disk that at its calls shows what would be left if it stopped there: of a killed process, in a write, after a power cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from tests.engine.vectors.crash_disk import CrashDisk


class EveryCallDisk(CrashDisk):
    """Goes on. `look` is called at each `stride`-th call, from the `first` on, with its number, when `left` is made."""

    def __init__(
        self, root: Path, left: Path, look: Callable[[int], None], *, stride: int, first: int, seed: int | None
    ) -> None:
        super().__init__(root, left, None, seed=seed)
        self._look = look
        self._stride, self._first = stride, first
        self._looking = False

    def _now(self) -> bool:
        self.calls += 1
        if (self.calls - self._first) % self._stride == 0:
            self._show()
        return False

    def _show(self, torn: Callable[[], None] | None = None) -> None:
        self._crash()
        if torn is not None:
            torn()
        self._look(self.calls)
        shutil.rmtree(self._left)

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        if self._power or (self.calls + 1 - self._first) % self._stride:
            super().write(file, buffers, position)
            return
        whole = b"".join(memoryview(each) for each in buffers)
        path = self._left / Path(os.readlink(f"/proc/self/fd/{file}")).relative_to(self._root)

        def torn() -> None:
            with path.open("r+b") as copy:
                os.pwrite(copy.fileno(), whole[: self._chance.randrange(len(whole) + 1)], position)

        self.calls += 1
        self._show(torn)
        super(CrashDisk, self).write(file, buffers, position)

    def truncate(self, file: int, size: int) -> None:
        """Disk."""
        self._now()
        super().truncate(file, size)

    def _write(self, inode: int, now: Path | None, copy: Path) -> None:
        """Of a file that grew what was synced is there, whatever became of the rest."""
        safe = self._bytes.get(inode, b"")
        newest = safe if now is None or now.is_dir() else now.read_bytes()
        if not safe or len(newest) <= len(safe) or not newest.startswith(safe):
            super()._write(inode, now, copy)
            return
        tail = newest[len(safe) :]
        cut = tail[: self._chance.randrange(len(tail) + 1)]
        copy.write_bytes(safe + self._chance.choice([b"", tail, cut, bytes(len(tail))]))
