"""Time as a value: a clock is any callable that gives monotonic nanoseconds, and a Deadline is one instant on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

Clock = Callable[[], int]
"""Monotonic nanoseconds since an arbitrary start."""

monotonic: Clock = time.monotonic_ns


def wall_us() -> int:
    """Microseconds since the Unix epoch, now."""
    return time.time_ns() // 1000


NEVER_NS = (1 << 63) - 1


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """The absolute instant after which nobody waits for a request any more."""

    at_ns: int

    NEVER: ClassVar[Deadline]

    @staticmethod
    def after(seconds: float, now_ns: int) -> Deadline:
        """The instant `seconds` from `now_ns`; a span too long for the clock is no deadline."""
        at_ns = now_ns + seconds * 1e9
        return Deadline(int(at_ns)) if at_ns < NEVER_NS else Deadline.NEVER

    def expired(self, now_ns: int) -> bool:
        """Whether the instant has come."""
        return now_ns >= self.at_ns

    def remaining_s(self, now_ns: int) -> float:
        """Seconds left, never below zero; infinity where there is no deadline."""
        return float("inf") if self.at_ns == NEVER_NS else max(0, self.at_ns - now_ns) / 1e9


Deadline.NEVER = Deadline(NEVER_NS)
