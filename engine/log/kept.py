"""What a local log keeps, as its readers see it: the segments, the newest frames in memory, and how far it is acknowledged."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence

import pyarrow as pa

from engine.errors import InvalidArgument, OffsetDeleted, Unavailable, quoted
from engine.log.frame import Frame
from engine.log.segment import Segment
from engine.log.tail import Tail


class Kept:
    """Methods may be called from any thread. Nothing in it is ahead of what was acknowledged."""

    def __init__(self, name: str, schema: pa.Schema, segments: Sequence[Segment], latest: int) -> None:
        self.name = name
        self.schema = schema
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._segments = list(segments)
        self._tail = Tail()
        self._latest = latest
        self._closed = False

    @property
    def earliest(self) -> int:
        """The first offset kept."""
        with self._lock:
            return self._segments[0].first

    @property
    def latest(self) -> int:
        """The offset that comes next."""
        return self._latest

    def begin(self, segment: Segment) -> None:
        """From here on frames go to `segment`; one without rows is replaced."""
        with self._lock:
            if self._segments[-1].first == segment.first:
                self._segments.pop()
            self._segments.append(segment)

    def publish(self, frames: Sequence[Frame]) -> None:
        """Lets readers see what has just been made safe."""
        with self._lock:
            self._tail.extend(frames)
            self._latest = frames[-1].next
            self._changed.notify_all()

    def drop(self, before: int) -> list[Segment]:
        """Forgets the segments that hold only offsets below `before`, and gives them back, oldest first."""
        with self._lock:
            count = 0
            while count + 1 < len(self._segments) and self._segments[count + 1].first <= before:
                count += 1
            dropped, self._segments = self._segments[:count], self._segments[count:]
            return dropped

    def wait_past(self, offset: int, timeout_s: float, stopped: Callable[[], bool]) -> int:
        """`latest` once it is past `offset`, or after the time, or when `stopped`. Raises Unavailable once closed."""
        with self._lock:
            if self._latest <= offset:
                self._changed.wait_for(
                    lambda: self._latest > offset or self._closed or stopped(), min(timeout_s, threading.TIMEOUT_MAX)
                )
            if self._closed:
                raise Unavailable(f"{self.name}: is closed")
            return self._latest

    def wake(self) -> None:
        """Lets those who wait look again at what may stop them."""
        with self._lock:
            self._changed.notify_all()

    def close(self) -> None:
        """Readers that wait, and those that come, are told."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def check(self, offset: int) -> None:
        """Raises OffsetDeleted below what is kept, InvalidArgument past the end."""
        with self._lock:
            earliest, latest = self._segments[0].first, self._latest
        if offset < earliest:
            raise OffsetDeleted(f"{self.name}: offset {offset} is no longer kept, the earliest is {earliest}")
        if offset > latest:
            raise InvalidArgument(f"{self.name}: offset {offset} is past the end, which is {latest}")

    def frames_in_memory(self, offset: int, rows_max: int) -> list[Frame]:
        """From the frame that holds `offset` on; [] where it is in the file only."""
        with self._lock:
            return self._tail.after(offset, rows_max)

    def segment_of(self, offset: int) -> tuple[Segment, int]:
        """The segment that holds `offset`, and the offset where its acknowledged rows end. Raises as `check` does."""
        with self._lock:
            self.check(offset)
            at = bisect_right(self._segments, offset, key=lambda each: each.first)
            until = self._segments[at].first if at < len(self._segments) else self._latest
            return self._segments[at - 1], until


def log_name(folder: str) -> str:
    """How messages name a local log."""
    return f"log {quoted(folder)}"
