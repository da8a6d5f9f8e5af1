"""How often calls may be sent once more, all together, so that trying again never multiplies a load. Pure."""

from __future__ import annotations


class RetryBudget:
    """How many calls may be sent once more: `share` of those sent, and a burst of `burst`."""

    __slots__ = ("_burst", "_left", "_share")

    def __init__(self, share: float, burst: int) -> None:
        self._share, self._burst, self._left = share, float(burst), float(burst)

    def sent(self, count: int = 1) -> None:
        """So many calls were sent."""
        if self._left < self._burst:
            self._left = min(self._burst, self._left + count * self._share)

    def take(self) -> bool:
        """Whether one more may be sent again; if so it is counted."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
