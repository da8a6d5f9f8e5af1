"""How fast a batch run may go: rows spread evenly over time, never a burst. Pure."""

from __future__ import annotations

from engine import limits


def paced_rows(rows: int, rate: float | None) -> int:
    """Rows of one request: `rows`, or as few as `rate` (rows a second) allows in BATCH_PACE_S_MAX, at least one."""
    return rows if rate is None else max(1, min(rows, int(rate * limits.BATCH_PACE_S_MAX)))


class Pace:
    """Says how long to wait before each request, so that at most `rate` rows a second begin; None is no bound.

    The virtual scheduling form of the generic cell rate algorithm (ITU-T I.371): time that was not used is not saved up, but for
    one request's worth, which makes good what waking up late costs.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._due_s: float | None = None

    def wait_s(self, rows: int, now_s: float) -> float:
        """Seconds until a request of `rows` may begin, asked once for each, at `now_s` of a monotonic clock."""
        if self._rate is None:
            return 0.0
        interval_s = rows / self._rate
        due_s = now_s if self._due_s is None else max(self._due_s, now_s - interval_s)
        self._due_s = due_s + interval_s
        return max(0.0, due_s - now_s)
