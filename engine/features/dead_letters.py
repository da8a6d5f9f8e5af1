"""Where a view's dead letters go: a file of JSON lines, the log's dead-letter topic, both, or nowhere but the count.

Each is written at least once: what cannot be written waits, and no snapshot is taken past it, so that a restart meets the
entry again. Only when too many wait are they given up, which is said.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import orjson

from engine.errors import VireoError
from engine.limits import DEAD_LETTERS_BYTES_MAX, DEAD_LETTERS_WAITING_MAX
from engine.log.log import DeadLetter

log = logging.getLogger("vireo.features")


class Outlet(Protocol):
    """One place that takes dead letters. Used by one thread."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Takes them all, or raises OSError or VireoError; then they are brought again."""

    def flush(self) -> None:
        """Returns when what was taken is safe; raises as `write`."""

    def close(self) -> None:
        """Gives files and connections back."""


class DeadLetters:
    """The dead letters of one view on their way out. Used by the view's thread; nothing here raises."""

    def __init__(self, view: str, outlets: Sequence[Outlet]) -> None:
        self._view = view
        self._outlets = list(outlets)
        self._waiting: list[list[DeadLetter]] = [[] for _ in outlets]
        self._told = ""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Writes them now, or when that is possible again."""
        if not letters:
            return
        for waiting in self._waiting:
            waiting.extend(letters)
        self._write()

    def settle(self) -> bool:
        """Whether all that were put are safe."""
        self._write()
        if any(self._waiting):
            return False
        try:
            for outlet in self._outlets:
                outlet.flush()
        except (OSError, VireoError) as error:
            self._tell(f"dead letters are not safe yet: {error}")
            return False
        return True

    def close(self) -> None:
        """Writes what still can be, and closes."""
        self.settle()
        for outlet in self._outlets:
            with suppress(OSError, VireoError):
                outlet.close()

    def _write(self) -> None:
        for outlet, waiting in zip(self._outlets, self._waiting, strict=True):
            if not waiting:
                continue
            try:
                outlet.write(waiting)
            except (OSError, VireoError) as error:
                self._tell(f"dead letters cannot be written, they wait: {error}")
                self._bound(waiting)
            else:
                waiting.clear()

    def _bound(self, waiting: list[DeadLetter]) -> None:
        if len(waiting) > DEAD_LETTERS_WAITING_MAX:
            log.error("feature view %s: %d dead letters are given up; they are counted only", self._view, len(waiting))
            waiting.clear()

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            log.warning("feature view %s: %s", self._view, text)


class DeadLetterFile:
    """JSON lines, one a letter, appended. Past its bound the file becomes `<name>.1`, and the one before is forgotten.

    Keys: partition, offset, reason, and payload: the JSON value where it is one, else text; payload_base64 where neither.
    """

    def __init__(self, path: Path, bytes_max: int = DEAD_LETTERS_BYTES_MAX) -> None:
        self._path, self._bytes_max = path, bytes_max
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()

    def _open(self) -> Any:  # noqa: ANN401  a binary file
        file = open(self._path, "a+b", buffering=0)  # noqa: SIM115  held until close
        file.truncate(_whole_lines(file))  # what a crash cut off is met again
        return file

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `Outlet.write`."""
        data = b"".join(map(_line, letters))
        size = os.fstat(self._file.fileno()).st_size
        if size and size + len(data) > self._bytes_max:
            self._rotate()
            size = 0
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            with suppress(OSError):
                self._file.truncate(size)
            raise

    def _rotate(self) -> None:
        os.fsync(self._file.fileno())
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._file.close()
        self._file = self._open()

    def flush(self) -> None:
        """See `Outlet.flush`."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """See `Outlet.close`."""
        self._file.close()


def _line(letter: DeadLetter) -> bytes:
    line: dict[str, object] = {"partition": letter.partition, "offset": letter.offset, "reason": letter.reason}
    try:
        orjson.loads(letter.payload)
        line["payload"] = orjson.Fragment(letter.payload.replace(b"\n", b" ").replace(b"\r", b" "))
    except orjson.JSONDecodeError:
        try:
            line["payload"] = letter.payload.decode()
        except UnicodeDecodeError:
            line["payload_base64"] = base64.b64encode(letter.payload).decode()
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _whole_lines(file: Any) -> int:  # noqa: ANN401
    """Bytes up to and with the last line end."""
    end: int = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - (1 << 16))
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + int(found) + 1
        end = start
    return 0
