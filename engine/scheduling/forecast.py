"""When a job that comes now would be answered: what runs, what goes before it, its own batch. Pure.

A prediction from compute times alone comes out too short on a busy machine, where threads wait for a core and answers have to
be handed over. So each prediction of a wait is compared with how long the wait then was, and later ones are stretched alike.
"""

from __future__ import annotations

from engine.limits import ESTIMATE_TRUST
from engine.scheduling.estimate import ComputeEstimate
from engine.scheduling.queue import Queue

_WEIGHT = 0.05
"""Of a new wait in the mean of waits: one is compared a batch, and waits that follow each other are much alike."""

_STRETCH_MAX = 4.0

_SPREADS = 3.0
"""What an answer must have to spare, in mean deviations of a batch's time."""


class Forecast:
    """Knows how a worker runs its batches and what it started last. Owned by the worker, under its lock."""

    def __init__(self, estimate: ComputeEstimate, rows_max: int, instances: int) -> None:
        """`rows_max`: of a batch, 0 where every job is one of its own."""
        self._estimate, self._rows_max, self._instances = estimate, rows_max, instances
        self._started_ns = self._started_rows = 0
        self._expected_ns = self._waited_ns = 0.0
        self._stretch = 1.0

    def started(self, rows: int, now_ns: int) -> None:
        """A batch of `rows` begins."""
        self._started_ns, self._started_rows = now_ns, rows

    def idle_ns(self, now_ns: int) -> int:
        """Since a batch began."""
        return now_ns - self._started_ns

    def waited(self, expected_ns: float, waited_ns: int) -> None:
        """The wait of a job, for which `before` foretold `expected_ns`, has ended."""
        self._expected_ns += _WEIGHT * (expected_ns - self._expected_ns)
        self._waited_ns += _WEIGHT * (min(waited_ns, _STRETCH_MAX * expected_ns) - self._waited_ns)
        self._stretch = min(_STRETCH_MAX, max(1.0, self._waited_ns / self._expected_ns))

    def compute_ns(self, rows: int) -> float:
        """Of a batch of `rows`; 0 before anything is known.

        At most twice what it would be at the pace of the batch that ran last: what is known of other sizes may be from a time
        when the machine was slow, and a size that is refused for it would never be measured again.
        """
        compute_ns = self._estimate.compute_ns(rows) or 0.0
        last = self._started_rows
        if last and last.bit_length() != rows.bit_length():
            return min(compute_ns, 2.0 * max(1.0, rows / last) * (self._estimate.compute_ns(last) or compute_ns))
        return compute_ns

    def before(self, queue: Queue, running: int, rows: int, priority: int, now_ns: int) -> tuple[float, int]:
        """(how long a job of `rows` that comes now waits until its batch begins, before any stretching; its batch's rows).

        While it waits for what runs, others will fill its batch as they filled the last.
        """
        before_ns, filled = 0.0, 0
        if running >= self._instances:
            before_ns, filled = self._rest_ns(now_ns), self._started_rows if self._rows_max else 0
        if queue.requests:
            requests, ahead = queue.ahead(priority)
            size = self._rows_max
            if size:
                batches, rest = divmod(ahead, size)
                if rest + rows <= size:
                    rows += rest
                else:
                    batches += 1
            else:
                batches, size = requests, -(-ahead // max(1, requests))
            if batches:
                before_ns += batches * self.compute_ns(size)
        return before_ns / self._instances, rows if rows > filled else filled

    def end_ns(self, before_ns: float, rows: int) -> float:
        """Until a job is answered of which `before` told this."""
        return before_ns * self._stretch + self.compute_ns(rows)

    def surely_ns(self, before_ns: float, rows: int) -> float:
        """The same as it may well be: half of the answers come later than they are expected."""
        return before_ns * self._stretch + self.compute_ns(rows) * (1.0 + _SPREADS * self._estimate.spread)

    def wait_ns(self, queue: Queue, running: int, priority: int, now_ns: int) -> float:
        """Until what goes before a job that comes now will be done."""
        requests, ahead = queue.ahead(priority)
        work_ns, size = (self._rest_ns(now_ns) if running >= self._instances else 0.0), self._rows_max
        if size:
            batches, rest = divmod(ahead, size)
            if rest:
                work_ns += self.compute_ns(rest)
        else:
            batches, size = requests, -(-ahead // max(1, requests))
        if batches:
            work_ns += batches * self.compute_ns(size)
        return work_ns / self._instances * self._stretch

    def too_late_ns(self, rows: int, now_ns: int) -> int:
        """The deadline that a batch of `rows`, begun now, does not meet; that which has passed, where estimates may be stale."""
        compute_ns = self.surely_ns(0.0, rows)
        return now_ns + (int(compute_ns) if self.idle_ns(now_ns) < ESTIMATE_TRUST * compute_ns else 0)

    def _rest_ns(self, now_ns: int) -> float:
        """How long what runs is expected to keep a newcomer waiting.

        What has taken longer than expected is expected to take as long again: a servable that hangs makes nobody wait for
        long.
        """
        expected_ns, elapsed_ns = self.compute_ns(self._started_rows), now_ns - self._started_ns
        return expected_ns - elapsed_ns if elapsed_ns < expected_ns else float(elapsed_ns)
