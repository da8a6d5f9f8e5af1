"""Latencies of calls made one after another, in microseconds. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Latency:
    """p50, p99, p99.9 and the longest, in microseconds, of `calls` calls."""

    calls: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float


def latency_of(took_us: Sequence[float] | npt.NDArray[np.float64]) -> Latency:
    """Of these calls."""
    p50, p99, p999, most = np.percentile(np.asarray(took_us, np.float64), [50, 99, 99.9, 100])
    return Latency(len(took_us), float(p50), float(p99), float(p999), float(most))
