"""Counts and histograms of what a model version did. Written once a batch, read by statistics calls and metrics.

Kept as plain numbers, not in a metrics library: one update costs well under a microsecond, and the Open Inference
Protocol's statistics and Prometheus read the same figures.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from engine.request import Ledger

BUCKETS_S: Final = (
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
EXACT_ROWS_MAX: Final = 1024
_BUCKETS_NS: Final = tuple(int(each * 1e9) for each in BUCKETS_S)
_BUCKETS: Final = np.array(_BUCKETS_NS, np.int64)


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

    def observe_all(self, values_ns: npt.NDArray[np.int64]) -> int:
        """Counts many values at once; their sum."""
        counts = np.bincount(np.searchsorted(_BUCKETS, values_ns), minlength=len(self.counts))
        for bucket in np.flatnonzero(counts).tolist():
            self.counts[bucket] += int(counts[bucket])
        sum_ns = int(values_ns.sum())
        self.sum_ns += sum_ns
        return sum_ns


def quantile_s(counts: Sequence[int], share: float) -> float:
    """Seconds below which so large a share (above 0) of the values in a histogram is; those of a bucket are thought to lie evenly
    in it, those past the last bound at it. 0 where there are none.
    """
    left, low = share * sum(counts), 0.0
    for count, high in zip(counts, BUCKETS_S, strict=False):
        if count and left <= count:
            return low + (high - low) * left / count
        left, low = left - count, high
    return low if any(counts) else 0.0


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    total_ns: int = 0

    def add(self, count: int, total_ns: int) -> None:
        """Counts `count` more that took `total_ns` together."""
        self.count += count
        self.total_ns += total_ns


@dataclass(slots=True)  # not frozen: that costs four times as much to make, once a batch
class BatchTimes:
    """Nanoseconds of one executed batch, by stage: putting inputs together, computing, taking outputs apart.

    Never changed once made.
    """

    rows: int
    input_ns: int
    compute_ns: int
    output_ns: int


class StageTimes:
    """Nanoseconds by stage, summed over however many batches or requests went through them."""

    __slots__ = ("_compute_ns", "_count", "_input_ns", "_output_ns")

    def __init__(self) -> None:
        self._count = self._input_ns = self._compute_ns = self._output_ns = 0

    def add(self, times: BatchTimes, count: int) -> None:
        """Counts `times` for each of `count`."""
        self._count += count
        self._input_ns += times.input_ns * count
        self._compute_ns += times.compute_ns * count
        self._output_ns += times.output_ns * count

    def add_computed(self, count: int, compute_ns: int) -> None:
        """Counts `count` that took `compute_ns` together, with nothing to put together or to take apart."""
        self._count += count
        self._compute_ns += compute_ns

    @property
    def input(self) -> Duration:
        """Putting inputs together."""
        return Duration(self._count, self._input_ns)

    @property
    def compute(self) -> Duration:
        """Computing."""
        return Duration(self._count, self._compute_ns)

    @property
    def output(self) -> Duration:
        """Taking outputs apart."""
        return Duration(self._count, self._output_ns)


_SAMPLES_MAX: Final = 256
"""Lone requests that are gathered before they are counted together: a tenth of what counting each would cost."""

Counted = TypeVar("Counted")


class _Count(Generic[Counted]):
    """A count of ModelStatistics: who reads it sees everything that has ended."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, statistics: ModelStatistics, owner: type) -> Counted:
        statistics.settle()
        return cast(Counted, getattr(statistics, self._name))


class ModelStatistics:
    """Everything counted for one model version, as Triton's statistics extension defines it. Thread-safe.

    Batches past `EXACT_ROWS_MAX` rows are counted in `by_batch_size` under the power of two below: callers choose how
    many rows they send, and must not choose how much is remembered.
    """

    success, fail, queue = _Count[Duration](), _Count[Duration](), _Count[Duration]()
    stages = _Count[StageTimes]()
    rows, executions, last_inference_ms = _Count[int](), _Count[int](), _Count[int]()
    by_batch_size = _Count[dict[int, StageTimes]]()
    queue_histogram, compute_histogram, total_histogram = _Count[Histogram](), _Count[Histogram](), _Count[Histogram]()
    late = _Count[int]()

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._success, self._fail, self._queue = Duration(), Duration(), Duration()
        self._stages = StageTimes()
        self._rows = 0
        self._executions = 0
        self._last_inference_ms = 0
        self._by_batch_size: dict[int, StageTimes] = {}
        self._queue_histogram, self._compute_histogram, self._total_histogram = Histogram(), Histogram(), Histogram()
        self._late = 0
        self._lone: deque[tuple[int, int, int, int, bool, float]] = deque()
        self.shed = 0
        self.dropped = 0
        self.expired = 0

    def lone_done(self, ledger: Ledger, deadline_ns: int) -> None:
        """A batch of one request has ended: counted as `batch_done` would, but later, together with others."""
        lone = self._lone
        ended_ns = ledger.computed_ns
        lone.append(
            (ledger.received_ns, ledger.started_ns, ended_ns, ledger.batch_rows, ended_ns > deadline_ns, time.time())
        )
        if len(lone) >= _SAMPLES_MAX:
            self.settle()

    def settle(self) -> None:
        """Counts what has been gathered."""
        if not self._lone:
            return
        with self.lock:
            lone = [self._lone.popleft() for _ in range(len(self._lone))]  # others append meanwhile
            if not lone:
                return
            received_ns, started_ns, ended_ns, rows, late, wall_s = map(list, zip(*lone, strict=True))
            start = np.array(started_ns, np.int64)
            waits, takes = start - np.array(received_ns, np.int64), np.array(ended_ns, np.int64) - start
            count = len(lone)
            self._queue.add(count, self._queue_histogram.observe_all(waits))
            compute_ns = self._compute_histogram.observe_all(takes)
            self._success.add(count, self._total_histogram.observe_all(waits + takes))
            self._stages.add_computed(count, compute_ns)
            for size in set(rows):
                of_size = [took for took, each in zip(takes.tolist(), rows, strict=True) if each == size]
                self._batch_size(size).add_computed(len(of_size), sum(of_size))
            self._rows += sum(rows)
            self._executions += count
            self._late += sum(late)
            self._last_inference_ms = max(self._last_inference_ms, int(wall_s[-1] * 1000))

    def batch_done(self, times: BatchTimes, ledgers: Sequence[Ledger], wall_ms: int, late: int = 0) -> None:
        """One batch answered the requests of `ledgers`, of which `late` came after their deadline: computed in vain."""
        requests = len(ledgers)
        queue_ns = total_ns = 0
        with self.lock:
            waits, totals = self._queue_histogram.counts, self._total_histogram.counts
            for ledger in ledgers:
                waited_ns = ledger.started_ns - ledger.received_ns
                took_ns = ledger.computed_ns - ledger.received_ns
                waits[bisect_left(_BUCKETS_NS, waited_ns)] += 1  # as `observe`, at a third of its time
                totals[bisect_left(_BUCKETS_NS, took_ns)] += 1
                queue_ns += waited_ns
                total_ns += took_ns
            self._queue_histogram.sum_ns += queue_ns
            self._total_histogram.sum_ns += total_ns
            self._queue.add(requests, queue_ns)
            self._success.add(requests, total_ns)
            self._compute_histogram.observe(times.compute_ns, requests)
            self._stages.add(times, requests)
            self._batch_size(times.rows).add(times, 1)
            self._rows += times.rows
            self._executions += 1
            self._late += late
            self._last_inference_ms = wall_ms

    def _batch_size(self, rows: int) -> StageTimes:
        size = rows if rows <= EXACT_ROWS_MAX else 1 << (rows.bit_length() - 1)
        sized = self._by_batch_size.get(size)
        if sized is None:
            sized = self._by_batch_size[size] = StageTimes()
        return sized

    def failed(self, total_ns: Iterable[int]) -> None:
        """Requests that reached the servable and failed there."""
        with self.lock:
            for each in total_ns:
                self._fail.add(1, each)

    def refused(self) -> None:
        """A request shed on arrival."""
        with self.lock:
            self.shed += 1

    def not_computed(self, count: int, expired: int) -> None:
        """Requests dropped after waiting: so many of them past their deadline, others cancelled, or the model went away."""
        with self.lock:
            self.dropped += count
            self.expired += expired
