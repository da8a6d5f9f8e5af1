"""How feature views are doing, for `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from engine import Engine, FeatureView, Unavailable

if TYPE_CHECKING:
    from engine import ShardedView, ViewStatistics

_GAUGES: Final[tuple[tuple[str, str, Callable[[ViewStatistics], int]], ...]] = (
    ("vireo_feature_entities", "Entities a feature view keeps", lambda each: each.entities),
    ("vireo_feature_bytes", "Memory of a feature view's state", lambda each: each.bytes),
    ("vireo_feature_lag_rows", "Entries of its log that a feature view has not read yet", lambda each: each.lag_rows),
)
_COUNTERS: Final[tuple[tuple[str, str, Callable[[ViewStatistics], int]], ...]] = (
    ("vireo_feature_events_applied", "Events folded into a feature view", lambda each: each.applied),
    ("vireo_feature_events_duplicate", "Events dropped because their id had come before", lambda each: each.duplicates),
    ("vireo_feature_events_filtered", "Events that are none of the view's", lambda each: each.filtered),
    ("vireo_feature_events_late", "Events dead because they came too late", lambda each: each.late),
    ("vireo_feature_events_dead", "Events that could not be used", lambda each: each.dead),
)


class FeaturesCollector:
    """Reads the views' statistics whenever Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._store = engine.features

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them; those of a view appear once it answers, where its state is here."""
        shown = dict(self._shown())
        found = {name: view.statistics() for name, view in shown.items() if isinstance(view, FeatureView)}
        ready = GaugeMetricFamily("vireo_feature_view_ready", "1 while a feature view answers", labels=["view"])
        for name in self._store.views:
            ready.add_metric([name], float(name in shown and (name not in found or found[name].restored)))
        yield ready
        for kind, rows in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for metric, text, read in rows:
                family = kind(metric, text, labels=["view"])
                for name, each in found.items():
                    family.add_metric([name], read(each))
                yield family
        yield self._watermarks(found)

    def _shown(self) -> Iterator[tuple[str, FeatureView | ShardedView]]:
        for name in self._store.views:
            try:
                yield name, self._store.shown(name)
            except Unavailable:
                continue

    def _watermarks(self, found: dict[str, ViewStatistics]) -> Any:  # noqa: ANN401
        family = GaugeMetricFamily(
            "vireo_feature_watermark_seconds", "Newest event time a feature view has seen", labels=["view"]
        )
        for name, each in found.items():
            if each.watermark_us is not None:
                family.add_metric([name], each.watermark_us / 1e6)
        return family
