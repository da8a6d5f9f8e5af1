"""How long a batch of so many rows will take, learnt from the batches that ran. Pure."""

from __future__ import annotations

_WEIGHT = 0.1  # of a new sample: the mean follows a change within about ten batches
_OUTLIER = 2.0
"""A sample counts as at most so many times the mean, and as many times more with each that comes right after: a thread that
was off its core for ten milliseconds says nothing about the model, while one that has become a thousand times slower, or was
warmed with inputs easier than real ones, shows within ten batches. Samples of less than half the mean, one after the other,
weigh twice as much each: a mean that was measured while the machine stood still is forgotten after four batches."""

_STREAK_MAX = 16

_FAST_STREAK_BORN = 3
"""The first sample of all, a warm-up's, is not believed against the next: that one counts fully if it is so much less."""


def bucket_rows(rows: int) -> int:
    """The most rows of which the same is expected as of `rows`."""
    return (1 << rows.bit_length()) - 1


class ComputeEstimate:
    """A moving mean of compute time for each power-of-two bucket of rows, and how far from it a batch is.

    Both as TCP's retransmission timer has them (Jacobson, "Congestion Avoidance and Control", 1988).
    """

    def __init__(self) -> None:
        self._mean_ns: dict[int, float] = {}
        self._streak, self._fast_streak = 0, _FAST_STREAK_BORN
        self.spread = 0.0
        """The moving mean of how far a batch's time is from what was expected, as a part of that: 0 to 1."""

    def observe(self, rows: int, compute_ns: int) -> None:
        """Takes in that a batch of `rows` took `compute_ns`."""
        bucket = rows.bit_length()
        mean = self._mean_ns.get(bucket)
        if mean is None:
            self._mean_ns[bucket] = compute_ns
            return
        if mean and mean / _OUTLIER <= compute_ns <= _OUTLIER * mean:  # as most often
            off = compute_ns - mean
            self.spread += _WEIGHT * ((off if off > 0 else -off) / mean - self.spread)
            self._mean_ns[bucket] = mean + _WEIGHT * off
            self._streak = self._fast_streak = 0
            return
        self.spread += _WEIGHT * (min(1.0, abs(compute_ns - mean) / mean if mean else 1.0) - self.spread)
        if compute_ns < mean / _OUTLIER:
            self._fast_streak = min(self._fast_streak + 1, _STREAK_MAX)
            weight = min(1.0, _WEIGHT * _OUTLIER**self._fast_streak)
            self._mean_ns[bucket] = mean + weight * (compute_ns - mean)
            self._streak = 0
        else:
            self._fast_streak = 0
            self._streak = min(self._streak + 1, _STREAK_MAX)
            self._mean_ns[bucket] = mean + _WEIGHT * (min(compute_ns, _OUTLIER**self._streak * mean) - mean)

    def follow(self, before: ComputeEstimate, rows: int) -> None:
        """Takes over what another learnt of what this is the next version of, but for `rows`, which were tried here: where that
        took less than half or more than twice of what the other expects of them, all is expected to differ so."""
        bucket = rows.bit_length()
        known, tried = dict(before._mean_ns), self._mean_ns.get(bucket)
        if not known or not tried:
            return
        expected = before.compute_ns(rows) or tried
        scale = tried / expected
        if 1.0 / _OUTLIER <= scale <= _OUTLIER:
            scale = 1.0
        self._mean_ns = {each: scale * mean for each, mean in known.items()} | {bucket: scale * expected}
        self.spread = before.spread

    def compute_ns(self, rows: int) -> float | None:
        """Expected time for `rows`: its bucket's mean, else the nearest bucket's; None before the first sample.

        More rows than were ever seen are expected to take longer in proportion.
        """
        bucket = rows.bit_length()
        mean = self._mean_ns.get(bucket)
        if mean is not None or not self._mean_ns:
            return mean
        nearest = min(self._mean_ns, key=lambda known: abs(known - bucket))
        return self._mean_ns[nearest] * (1 << max(0, bucket - max(self._mean_ns)))
