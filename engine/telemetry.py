"""Counts and histograms of what a model version did. Written once a batch, read by statistics calls and metrics.

Kept as plain numbers, not in a metrics library: one update costs well under a microsecond, and the Open Inference
Protocol's statistics and Prometheus read the same figures.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.request import Ledger

BUCKETS_S: Final = (
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_BUCKETS_NS: Final = tuple(int(each * 1e9) for each in BUCKETS_S)


class Histogram:
    """Counts by upper bound (`BUCKETS_S`, then infinity), and the sum in nanoseconds."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS_NS) + 1)
        self.sum_ns = 0

    def observe(self, value_ns: int, times: int = 1) -> None:
        """Counts a value that came up `times` times."""
        self.counts[bisect_left(_BUCKETS_NS, value_ns)] += times
        self.sum_ns += value_ns * times


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    total_ns: int = 0

    def add(self, count: int, total_ns: int) -> None:
        """Counts `count` more that took `total_ns` together."""
        self.count += count
        self.total_ns += total_ns


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Nanoseconds of one executed batch, by stage: putting inputs together, computing, taking outputs apart."""

    rows: int
    input_ns: int
    compute_ns: int
    output_ns: int


@dataclass(slots=True)
class BatchSizeStatistics:
    """What batches of one size took."""

    input: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)


class ModelStatistics:
    """Everything counted for one model version, as Triton's statistics extension defines it. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.success, self.fail, self.queue = Duration(), Duration(), Duration()
        self.input, self.compute, self.output = Duration(), Duration(), Duration()
        self.rows = 0
        self.executions = 0
        self.last_inference_ms = 0
        self.by_batch_size: dict[int, BatchSizeStatistics] = {}
        self.queue_histogram, self.compute_histogram, self.total_histogram = Histogram(), Histogram(), Histogram()
        self.shed = 0
        self.dropped = 0

    def batch_done(self, times: BatchTimes, ledgers: Sequence[Ledger], wall_ms: int) -> None:
        """One batch answered the requests of `ledgers`."""
        requests = len(ledgers)
        with self.lock:
            self.rows += times.rows
            self.executions += 1
            self.last_inference_ms = wall_ms
            self._stages(times, requests)
            self.compute_histogram.observe(times.compute_ns, requests)
            for ledger in ledgers:
                queue_ns = ledger.started_ns - ledger.received_ns
                total_ns = ledger.computed_ns - ledger.received_ns
                self.queue_histogram.observe(queue_ns)
                self.total_histogram.observe(total_ns)
                self.queue.total_ns += queue_ns
                self.success.total_ns += total_ns
            self.queue.count += requests
            self.success.count += requests

    def _stages(self, times: BatchTimes, requests: int) -> None:
        self.input.add(requests, times.input_ns * requests)
        self.compute.add(requests, times.compute_ns * requests)
        self.output.add(requests, times.output_ns * requests)
        sized = self.by_batch_size.get(times.rows)
        if sized is None:
            sized = self.by_batch_size[times.rows] = BatchSizeStatistics()
        sized.input.add(1, times.input_ns)
        sized.compute.add(1, times.compute_ns)
        sized.output.add(1, times.output_ns)

    def failed(self, total_ns: Iterable[int]) -> None:
        """Requests that reached the servable and failed there."""
        with self.lock:
            for each in total_ns:
                self.fail.add(1, each)

    def refused(self) -> None:
        """A request shed on arrival."""
        with self.lock:
            self.shed += 1

    def not_computed(self, count: int) -> None:
        """Requests dropped after waiting: expired, cancelled, or the model went away."""
        with self.lock:
            self.dropped += count
