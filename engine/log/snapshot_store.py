"""Snapshots in an object store that fsspec reaches, where every process that folds the same partitions finds them.

A snapshot is uploaded whole under another name, put in its place, and only then named by the pointer of its shard, so that who
reads the pointer finds a whole file. Several replicas of a shard may publish: the pointer goes to the one that has read most.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import SpecError, Unavailable, quoted

_POINTER = ".newest"


class SnapshotStore:
    """The snapshots of one fold of a log at a URL. Any thread. Raises SpecError where the URL cannot be used.

    `prefix` begins the names of its own files; whatever begins otherwise is of one declared otherwise.
    """

    def __init__(self, url: str, *, prefix: str, keep: int) -> None:
        self._url, self._prefix, self._keep = url, prefix, keep
        try:
            from fsspec.core import url_to_fs

            self._files, self._root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise SpecError(f"snapshot.store: {quoted(url)} cannot be used: {error}") from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store has errors of its own
            raise Unavailable(f"snapshots at {quoted(self._url)}: {type(error).__name__}: {error}") from error

    def names(self) -> list[str]:
        """Of all files there. Raises Unavailable."""
        with self._told():
            self._files.invalidate_cache()
            if not self._files.exists(self._root):
                return []
            return sorted(str(each).rpartition("/")[2] for each in self._files.ls(self._root, detail=False))

    def newest(self, shard: str) -> str | None:
        """The name that the pointer of `shard` tells; None where nothing was published. Raises Unavailable."""
        with self._told():
            try:
                found: bytes = self._files.cat_file(self._pointer(shard))
            except FileNotFoundError:
                return None
            return found.decode()

    def fetch(self, name: str, path: Path) -> None:
        """Downloads it to `path`. Raises Unavailable."""
        with self._told():
            self._files.get_file(self._place(name), str(path))

    def publish(self, path: Path, shard: str) -> None:
        """Makes the file at `path`, a snapshot of `shard`, what others find, unless another has read more; lets go of what is too
        old. Raises Unavailable; what others find is then what it was."""
        if path.name <= (self.newest(shard) or ""):  # names of one fold and shard are in the order of what was read
            return
        draft = self._place(f".{path.name}.{os.uname().nodename}.{os.getpid()}.draft")
        with self._told():
            self._files.makedirs(self._root, exist_ok=True)
            self._files.put_file(str(path), draft)
            self._files.mv(draft, self._place(path.name))
        if path.name > (self.newest(shard) or ""):  # another may have come by while this was on its way
            with self._told():
                self._files.pipe_file(self._pointer(shard), path.name.encode())
        self._forget_old(shard)

    def _forget_old(self, shard: str) -> None:
        with suppress(Exception):  # in the next turn
            own = [each for each in self.names() if each.startswith(f"{self._prefix}-{shard}-")]
            for each in own[: -self._keep]:
                self._files.rm_file(self._place(each))

    def _pointer(self, shard: str) -> str:
        return self._place(f"{self._prefix}-{shard}{_POINTER}")

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"
