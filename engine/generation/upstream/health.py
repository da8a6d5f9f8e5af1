"""Whether a target may be asked now: outlier ejection by failures in a row, and the rest that a rate limit asks for.
Pure.

The states are those of a circuit breaker: closed (asked), open (ejected until an instant), half open (that instant has
passed, and one call tries the target while others stay away).
"""

from __future__ import annotations

from engine.clock import Deadline
from engine.generation.upstream.declaration import EjectionSpec


class Health:
    """What is known of one target. Only one thread may use it."""

    def __init__(self, spec: EjectionSpec) -> None:
        self._spec = spec
        self._failures = 0
        self._span_s = spec.eject_s
        self._open_until_ns: int | None = None
        self._trying = False
        self._rests_until_ns = 0
        self.ejections = 0

    def available(self, now_ns: int) -> bool:
        """Whether a call may go to it."""
        if now_ns < self._rests_until_ns:
            return False
        return self._open_until_ns is None or (now_ns >= self._open_until_ns and not self._trying)

    def available_in_s(self, now_ns: int) -> float:
        """Seconds until a call may go to it, if nothing else happens."""
        return max(0, self._rests_until_ns - now_ns, (self._open_until_ns or 0) - now_ns) / 1e9

    def begin(self, now_ns: int) -> None:
        """A call goes to it; of an open one, the one that tries it."""
        if self._open_until_ns is not None and now_ns >= self._open_until_ns:
            self._trying = True

    def answering(self) -> None:
        """It has begun to answer: it is closed, and whether it can end an answer too is still to be seen."""
        self._open_until_ns = None
        self._trying = False

    def succeeded(self) -> None:
        """It has answered."""
        self.answering()
        self._failures = 0
        self._span_s = self._spec.eject_s

    def failed(self, now_ns: int) -> None:
        """It failed, as callers are not to blame for: after enough in a row, or on trial, it is ejected."""
        self._failures += 1
        on_trial, self._trying = self._trying, False
        if on_trial:
            self._span_s = min(self._span_s * 2, self._spec.eject_s_max)
        if on_trial or (self._open_until_ns is None and self._failures >= self._spec.failures_max):
            self.ejections += 1
            self._open_until_ns = Deadline.after(self._span_s, now_ns).at_ns

    def left(self) -> None:
        """A call ended without telling anything of it: cancelled, or past its deadline."""
        self._trying = False

    def rest(self, seconds: float, now_ns: int) -> None:
        """It asked to be left alone for so long, though it works."""
        self._rests_until_ns = max(self._rests_until_ns, Deadline.after(seconds, now_ns).at_ns)
        self._trying = False
