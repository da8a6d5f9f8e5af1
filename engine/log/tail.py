"""The newest frames of a local log, in memory: a reader that keeps up never goes to the file. Its owner locks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from engine.log.frame import Frame

TAIL_BYTES_MAX: Final = 32 << 20
"""Of the payloads kept; the newest frame is kept whatever its size."""

_LONG: Final = 1000


class Tail:
    """Frames without a gap, oldest first, the oldest let go of as newer ones come."""

    def __init__(self, bytes_max: int = TAIL_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._frames: list[Frame] = []
        self._firsts: list[int] = []
        self._gone = 0
        self._bytes = 0

    def extend(self, frames: Sequence[Frame]) -> None:
        """Adds what follows."""
        self._frames += frames
        self._firsts += [each.first for each in frames]
        self._bytes += sum(len(each.payload) for each in frames)
        while self._bytes > self._bytes_max and self._gone < len(self._frames) - 1:
            self._bytes -= len(self._frames[self._gone].payload)
            self._gone += 1
        self._compact()

    def _compact(self) -> None:
        """Deleting at the front of a list moves all of it: of a long one half at a time."""
        if self._gone and (len(self._frames) < _LONG or self._gone > len(self._frames) // 2):
            del self._frames[: self._gone], self._firsts[: self._gone]
            self._gone = 0

    def after(self, offset: int, rows_max: int) -> list[Frame]:
        """Frames from the one that holds `offset` on, until they have `rows_max` rows; [] where it is not here."""
        at = bisect_right(self._firsts, offset, lo=self._gone) - 1
        if at < self._gone or offset >= self._frames[-1].next:
            return []
        end = at
        while end < len(self._frames) and self._frames[end].first < offset + rows_max:
            end += 1
        return self._frames[at:end]
