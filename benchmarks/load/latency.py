"""Latency percentiles by an HDR histogram. Pure."""

from dataclasses import dataclass

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

LOWEST_NS = 100
HIGHEST_NS = 600_000_000_000
FIGURES = 3
GRAIN_NS = 64
TAIL_SAMPLES_MIN = 10
CURVE_PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99)
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Latency in ms; None where fewer than TAIL_SAMPLES_MIN samples lie beyond the percentile."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None


def samples_needed(percent: float) -> int:
    """How many samples a percentile needs: TAIL_SAMPLES_MIN beyond it on average."""
    return round(TAIL_SAMPLES_MIN / (1 - percent / 100))


def histogram(values_ns: NDArray[np.int64]) -> HdrHistogram:
    """A histogram of durations in ns with three significant figures, from 100 ns to ten minutes."""
    made = HdrHistogram(LOWEST_NS, HIGHEST_NS, FIGURES)
    grained = np.clip(values_ns, LOWEST_NS, HIGHEST_NS) // GRAIN_NS * GRAIN_NS
    for value, count in zip(*np.unique(grained, return_counts=True), strict=True):
        made.record_value(int(value), int(count))
    return made


def percentile_ms(made: HdrHistogram, percent: float) -> float | None:
    """One percentile in ms; None when the samples are too few for it."""
    if made.get_total_count() < samples_needed(percent):
        return None
    return float(made.get_value_at_percentile(percent)) / NS_PER_MS


def percentiles(values_ns: NDArray[np.int64]) -> Percentiles:
    """The usual percentiles of durations in ns."""
    if values_ns.size == 0:
        return Percentiles(0, None, None, None, None, None, None)
    made = histogram(values_ns)
    p50, p90, p99, p999 = (percentile_ms(made, percent) for percent in (50, 90, 99, 99.9))
    mean, most = float(values_ns.mean()) / NS_PER_MS, float(values_ns.max()) / NS_PER_MS
    return Percentiles(int(values_ns.size), mean, p50, p90, p99, p999, most)


def curve(values_ns: NDArray[np.int64]) -> list[tuple[float, float]]:
    """(percent, ms) pairs for a plot, as far up as the samples reach."""
    if values_ns.size == 0:
        return []
    made = histogram(values_ns)
    pairs = [(float(percent), percentile_ms(made, percent)) for percent in CURVE_PERCENTS]
    return [(percent, value) for percent, value in pairs if value is not None]
