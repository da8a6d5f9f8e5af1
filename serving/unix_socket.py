"""The file of a Unix domain socket that only this user may open: what may lie in its way, and that it is gone in the end."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from engine import SpecError, quoted

_PATH_BYTES_MAX: Final = 107
"""What the kernel has room for in an address, without the zero at its end."""

_NOT_FOR_OTHERS: Final = 0o177


class UnixSocket:
    """One server's socket at a path. Whatever else lies there is left alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: tuple[int, int, int] | None = None

    def listen(self, backlog: int) -> socket.socket:
        """A listening socket. Raises SpecError where it cannot be."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with self.binding():
                made.bind(str(self.path))
            made.listen(backlog)
        except BaseException:
            made.close()
            raise
        return made

    @contextmanager
    def binding(self) -> Iterator[None]:
        """Within it somebody binds a socket to the path: it may, and the file is this user's alone. Raises SpecError."""
        try:
            self._make_way()
            others_may = os.umask(_NOT_FOR_OTHERS)
            try:
                yield
            finally:
                os.umask(others_may)
            self._made = _identity(self.path)
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error

    def _make_way(self) -> None:
        """Removes what a server that is gone has left."""
        size = len(os.fsencode(self.path))
        if size > _PATH_BYTES_MAX:
            raise self._refusal(f"its path has {size} bytes, at most {_PATH_BYTES_MAX} are possible")
        if not self.path.parent.is_dir():
            raise self._refusal(f"there is no folder {quoted(str(self.path.parent))}")
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise self._refusal("something else than a socket is there already")
        if _answers(self.path):
            raise self._refusal("another server answers there")
        self.path.unlink()

    def _refusal(self, reason: str) -> SpecError:
        return SpecError(f"server.unix_socket: cannot listen on {quoted(str(self.path))}: {reason}")

    def remove(self) -> None:
        """Removes the file, if it is still the one that was made here."""
        with suppress(OSError):
            if self._made is not None and _identity(self.path) == self._made:
                self.path.unlink()
        self._made = None


def _identity(path: Path) -> tuple[int, int, int]:
    """What another file at the same path differs in: numbers of files that are gone are given again."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _answers(path: Path) -> bool:
    """Whether a server listens there. Raises OSError where that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # more wait to be accepted than it takes
            return True
    return True
