"""How the nodes of graphs, the variants and shadows of splits and what is recorded of both are doing, for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from engine import Engine
from serving.metrics import add_histogram

_SKIPPED: Final = "skipped"
"""The one mark of a stage that is no fallback: its condition was false."""


class GraphsCollector:
    """Reads the graphs' statistics whenever Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them; those of a graph or split appear once it is served."""
        yield from self._stages()
        yield from self._variants()
        yield from self._shadows()
        yield from self._records()

    def _stages(self) -> Iterator[Any]:
        labels = ["graph", "node"]
        wait = HistogramMetricFamily("vireo_stage_wait_seconds", "Time a node's inputs waited for it", labels=labels)
        compute = HistogramMetricFamily("vireo_stage_compute_seconds", "Time a node's batch took", labels=labels)
        skipped = CounterMetricFamily("vireo_stages_skipped", "Nodes whose condition was false", labels=labels)
        fallbacks = CounterMetricFamily(
            "vireo_fallbacks", "Nodes that something stood in for, by why and what", labels=[*labels, "mark"]
        )
        for graph, node, counted in self._engine.stage_statistics():
            with counted.lock:
                add_histogram(wait, [graph, node], counted.wait)
                add_histogram(compute, [graph, node], counted.compute)
                for mark, count in counted.marks.items():
                    if mark == _SKIPPED:
                        skipped.add_metric([graph, node], count)
                    else:
                        fallbacks.add_metric([graph, node, mark], count)
        yield from (wait, compute, skipped, fallbacks)

    def _variants(self) -> Iterator[Any]:
        labels = ["split", "variant"]
        requests = CounterMetricFamily("vireo_variant_requests", "Requests a variant was given", labels=labels)
        failed = CounterMetricFamily("vireo_variant_failures", "Of these, those that failed", labels=labels)
        for split, variant, counted in self._engine.traffic_statistics():
            requests.add_metric([split, variant], counted.requests)
            failed.add_metric([split, variant], counted.failed)
        yield from (requests, failed)

    def _shadows(self) -> Iterator[Any]:
        labels = ["split", "shadow"]
        copies = CounterMetricFamily(
            "vireo_shadow_copies",
            "Copies of requests for a shadow, by what became of them",
            labels=[*labels, "outcome"],
        )
        late = CounterMetricFamily(
            "vireo_shadow_late", "Copies run beside requests, having waited long for an idle moment", labels=labels
        )
        difference = GaugeMetricFamily(
            "vireo_shadow_difference",
            "Mean absolute difference of a shadow's output from the caller's",
            labels=[*labels, "output"],
        )
        for split, shadow, counted in self._engine.shadow_statistics():
            outcomes = {
                "equal": counted.equal,
                "different": counted.ran - counted.equal,
                "failed": counted.failed,
                "dropped": counted.dropped,
            }
            for outcome, count in outcomes.items():
                copies.add_metric([split, shadow, outcome], count)
            late.add_metric([split, shadow], counted.late)
            for output, value in counted.differences.items():
                difference.add_metric([split, shadow, output], value)
        yield from (copies, late, difference)

    def _records(self) -> Iterator[Any]:
        rows = CounterMetricFamily(
            "vireo_records", "Rows recorded of answers in a log, by what became of them", labels=["log", "outcome"]
        )
        waiting = GaugeMetricFamily("vireo_records_waiting", "Rows that wait to be appended now", labels=["log"])
        for log, counted in self._engine.record_statistics():
            for outcome in ("appended", "lost", "rejected", "failed"):
                rows.add_metric([log, outcome], getattr(counted, outcome))
            waiting.add_metric([log], counted.waiting)
        yield from (rows, waiting)
