"""What `/metrics` shows: the engine's own counts in Prometheus form, and calls by method and status code."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from engine import BUCKETS_S, EncodingCache, Engine, Histogram, Internal, ModelStatistics, VireoError

log = logging.getLogger("vireo.serving")

_BOUNDS = (*(repr(each) for each in BUCKETS_S), "+Inf")


class CallCounter:
    """Counts finished calls by method and status name. Only the event loop's thread may call it."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}

    def of(self, method: str, code: str) -> Callable[[], None]:
        """A function that counts one call of `method` that ended with `code`."""
        key, counts = (method, code), self.counts

        def count() -> None:
            counts[key] = counts.get(key, 0) + 1

        return count

    def add(self, method: str, code: str, count: int) -> None:
        """Counts `count` calls of `method` that ended with `code`."""
        key = (method, code)
        self.counts[key] = self.counts.get(key, 0) + count

    def fault(self, method: str, error: Exception) -> VireoError:
        """An unforeseen exception as an Internal error: logged in full, told to the caller in brief."""
        log.error("unexpected error in %s", method, exc_info=error)
        return Internal(f"internal error: {type(error).__name__}")


class EngineCollector:
    """Reads the engine's statistics whenever Prometheus asks."""

    def __init__(self, engine: Engine, counter: CallCounter) -> None:
        self._engine = engine
        self._counter = counter

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them."""
        yield from self._histograms()
        yield from self._counters()
        yield from self._caches()
        calls = CounterMetricFamily(
            "vireo_calls", "Finished calls by method and status code", labels=["method", "code"]
        )
        for (method, code), count in self._counter.counts.copy().items():
            calls.add_metric([method, code], count)
        yield calls
        waiting = GaugeMetricFamily(
            "vireo_queue_requests", "Requests that wait for a worker now", labels=["model", "version"]
        )
        for (name, version), count in self._engine.waiting().items():
            waiting.add_metric([name, str(version)], count)
        yield waiting
        yield GaugeMetricFamily("vireo_ready", "1 while every wanted model answers", value=float(self._engine.ready))

    def _histograms(self) -> Iterator[Any]:
        for stage, text in (
            ("queue", "Time a request waited for a worker"),
            ("compute", "Time the servable took for the batch a request was in"),
            ("total", "Time from a request's arrival in the engine to its answer"),
        ):
            family = HistogramMetricFamily(f"vireo_request_{stage}_seconds", text, labels=["model", "version"])
            for name, version, counted in self._engine.statistics():
                with counted.lock:
                    add_histogram(family, [name, str(version)], getattr(counted, f"{stage}_histogram"))
            yield family

    def _caches(self) -> Iterator[Any]:
        caches = self._engine.encoding_caches()
        for metric, text, read in _CACHES:
            kind = GaugeMetricFamily if metric.endswith(("_bytes", "_entries")) else CounterMetricFamily
            family = kind(metric, text, labels=["model", "version"])
            for name, version, cache in caches:
                family.add_metric([name, str(version)], read(cache))
            yield family

    def _counters(self) -> Iterator[Any]:
        rows = self._engine.statistics()
        for metric, text, read in _COUNTERS:
            family = CounterMetricFamily(metric, text, labels=["model", "version"])
            for name, version, counted in rows:
                family.add_metric([name, str(version)], read(counted))
            yield family


_CACHES: tuple[tuple[str, str, Callable[[EncodingCache], int]], ...] = (
    ("vireo_encoder_cache_hits", "Texts whose vector was kept, or being computed", lambda cache: cache.hits),
    ("vireo_encoder_cache_misses", "Texts that were encoded", lambda cache: cache.misses),
    ("vireo_encoder_cache_entries", "Vectors kept now", len),
    ("vireo_encoder_cache_bytes", "Bytes they take, with their texts", lambda cache: cache.bytes_size),
)

_COUNTERS: tuple[tuple[str, str, Callable[[ModelStatistics], int]], ...] = (
    ("vireo_requests_success", "Requests answered", lambda counted: counted.success.count),
    ("vireo_requests_failed", "Requests that failed in the servable", lambda counted: counted.fail.count),
    ("vireo_requests_shed", "Requests refused on arrival", lambda counted: counted.shed),
    (
        "vireo_requests_dropped",
        "Requests dropped uncomputed: expired, cancelled, unloaded",
        lambda counted: counted.dropped,
    ),
    ("vireo_requests_expired", "Of those dropped, past their deadline", lambda counted: counted.expired),
    ("vireo_requests_late", "Requests computed, but after their deadline", lambda counted: counted.late),
    ("vireo_rows", "Rows computed", lambda counted: counted.rows),
    ("vireo_batches", "Batches computed", lambda counted: counted.executions),
)


def add_histogram(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    """Adds what the engine counted as Prometheus wants it: cumulated, in seconds."""
    total, buckets = 0, []
    for bound, count in zip(_BOUNDS, histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    family.add_metric(labels, buckets, histogram.sum_ns / 1e9)


_GAUGES: Final = {
    "vireo_connections": "Connections open now; `unknown` has not said yet what it speaks",
    "vireo_streams": "HTTP/2 streams open now",
    "vireo_requests_in_flight": "Requests that somebody waits for now",
    "vireo_message_bytes": "Bytes that received messages hold now",
}


class Gauges:
    """What the fronts can tell of this moment. A transport adds what it knows; what none knows is left out."""

    def __init__(self) -> None:
        self._reads: dict[str, list[tuple[dict[str, str], Callable[[], int]]]] = {name: [] for name in _GAUGES}

    def add(self, name: str, read: Callable[[], int], **labels: str) -> None:
        """`read` gives the number; it is called on the thread that renders, so it may only look."""
        self._reads[name].append((labels, read))

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them."""
        for name, reads in self._reads.items():
            if reads:
                family = GaugeMetricFamily(name, _GAUGES[name], labels=list(reads[0][0]))
                for labels, read in reads:
                    family.add_metric(list(labels.values()), read())
                yield family


class Collector(Protocol):
    """What Prometheus asks."""

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them."""


class Exposition:
    """Renders metrics in the format a scraper accepts, those of the process among them."""

    def __init__(self, *collectors: Collector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        for each in collectors:
            self._registry.register(each)
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """(body, content type): OpenMetrics or the classic text format."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it compares whatever stands where a version should
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type
