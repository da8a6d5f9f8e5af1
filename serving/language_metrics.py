"""How language models are doing, for `/metrics`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from engine import Engine
from serving.metrics import add_histogram
from serving.upstream_metrics import upstream_families


class LanguageCollector:
    """Reads the counts of language models whenever Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._models = engine.language_models

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them."""
        problems = self._models.problems()
        ready = GaugeMetricFamily(
            "vireo_language_ready", "1 while a language model answers as declared", labels=["model"]
        )
        calls = CounterMetricFamily(
            "vireo_language_calls", "Calls of a language model, by outcome", labels=["model", "outcome"]
        )
        waiting = GaugeMetricFamily("vireo_language_calls_under_way", "Calls under way now", labels=["model"])
        restarts = CounterMetricFamily("vireo_language_restarts", "Times it died and was loaded anew", labels=["model"])
        first = HistogramMetricFamily(
            "vireo_language_first_seconds", "To the first bytes of an answer", labels=["model"]
        )
        total = HistogramMetricFamily("vireo_language_total_seconds", "To the end of an answer", labels=["model"])
        for name, counted in self._models.statistics():
            ready.add_metric([name], float(name not in problems))
            for outcome, count in sorted(counted.outcomes.copy().items()):
                calls.add_metric([name, outcome], count)
            waiting.add_metric([name], counted.under_way)
            restarts.add_metric([name], counted.restarts)
            add_histogram(first, [name], counted.first)
            add_histogram(total, [name], counted.total)
        yield from (ready, calls, waiting, restarts, first, total)
        yield from self._kept()
        yield from upstream_families(self._models.live())
        if "vllm" in sys.modules:  # which counts into the library's own registry
            yield from (each for each in REGISTRY.collect() if each.name.startswith("vllm:"))

    def _kept(self) -> Iterator[Any]:
        kept = dict(self._models.kept())
        hits = CounterMetricFamily(
            "vireo_language_cache_hits", "Calls that were answered with a kept answer", labels=["model"]
        )
        misses = CounterMetricFamily(
            "vireo_language_cache_misses", "Calls whose answer might have been kept, and was not", labels=["model"]
        )
        entries = GaugeMetricFamily("vireo_language_cache_entries", "Answers kept now", labels=["model"])
        size = GaugeMetricFamily("vireo_language_cache_bytes", "Bytes they take", labels=["model"])
        for name, counted in self._models.statistics():
            if name in kept:
                hits.add_metric([name], counted.kept_hits)
                misses.add_metric([name], counted.kept_misses)
                entries.add_metric([name], len(kept[name]))
                size.add_metric([name], kept[name].bytes_size)
        return iter((hits, misses, entries, size) if kept else ())
