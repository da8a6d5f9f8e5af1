"""How the nodes of graphs are doing, for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from engine import Engine
from serving.metrics import add_histogram

_SKIPPED: Final = "skipped"
"""The one mark of a stage that is no fallback: its condition was false."""


class GraphsCollector:
    """Reads the graphs' statistics whenever Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them; those of a graph appear once it is served."""
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
