"""What `/metrics` shows of Triton servers: what each has counted of each model that is served there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from engine import Engine, ServerCounts

_LABELS = ["model", "server"]
_COUNTERS: tuple[tuple[str, str, Callable[[ServerCounts], float]], ...] = (
    ("vireo_triton_requests", "Requests that the server answered, of any caller", lambda each: each.requests),
    ("vireo_triton_failed", "Requests that failed in the server, of any caller", lambda each: each.failed),
    ("vireo_triton_rows", "Rows computed by the server", lambda each: each.rows),
    ("vireo_triton_executions", "Batches computed by the server", lambda each: each.executions),
)
_STAGES: tuple[tuple[str, Callable[[ServerCounts], int]], ...] = (
    ("queue", lambda each: each.queue_ns),
    ("input", lambda each: each.input_ns),
    ("compute", lambda each: each.compute_ns),
    ("output", lambda each: each.output_ns),
)


class TritonCollector:
    """Reads what the servers told last whenever Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them; none where no model is on Triton."""
        servers = self._engine.triton_statistics()
        if not servers:
            return
        ready = GaugeMetricFamily("vireo_triton_ready", "1 while the server answers for the model", labels=_LABELS)
        for each in servers:
            ready.add_metric([each.model, each.server], float(each.ready))
        yield ready
        shared = CounterMetricFamily(
            "vireo_triton_shared_memory_requests",
            "Requests whose tensors lay in memory that the server shares",
            labels=_LABELS,
        )
        for each in servers:
            shared.add_metric([each.model, each.server], each.shared_requests)
        yield shared
        counted = [(each.model, each.server, each.counts) for each in servers if each.counts is not None]
        for name, text, read in _COUNTERS:
            family = CounterMetricFamily(name, text, labels=_LABELS)
            for model, server, counts in counted:
                family.add_metric([model, server], read(counts))
            yield family
        seconds = CounterMetricFamily(
            "vireo_triton_seconds", "Time of all requests together in the server", labels=[*_LABELS, "stage"]
        )
        batches = CounterMetricFamily(
            "vireo_triton_batches", "Batches computed by the server, by rows", labels=[*_LABELS, "rows"]
        )
        for model, server, counts in counted:
            for stage, spent_ns in _STAGES:
                seconds.add_metric([model, server, stage], spent_ns(counts) / 1e9)
            for rows, count in counts.batches.items():
                batches.add_metric([model, server, str(rows)], count)
        yield from (seconds, batches)
