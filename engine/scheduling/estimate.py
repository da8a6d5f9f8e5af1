"""How long a batch of so many rows will take, learnt from the batches that ran. Pure."""

from __future__ import annotations

_WEIGHT = 0.1  # of a new sample: the mean follows a change within about ten batches
_OUTLIER = 2.0
"""A sample counts as at most so many times the mean: a thread that was off its core for ten milliseconds says nothing about
the model, while one that has become slower still shows within thirty batches."""


def bucket_rows(rows: int) -> int:
    """The most rows of which the same is expected as of `rows`."""
    return (1 << rows.bit_length()) - 1


class ComputeEstimate:
    """A moving mean of compute time for each power-of-two bucket of rows."""

    def __init__(self) -> None:
        self._mean_ns: dict[int, float] = {}

    def observe(self, rows: int, compute_ns: int) -> None:
        """Takes in that a batch of `rows` took `compute_ns`."""
        bucket = rows.bit_length()
        mean = self._mean_ns.get(bucket)
        self._mean_ns[bucket] = (
            compute_ns if mean is None else mean + _WEIGHT * (min(compute_ns, _OUTLIER * mean) - mean)
        )

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
