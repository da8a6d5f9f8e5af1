"""How vector collections are doing, for `/metrics`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from engine import CollectionInfo, Engine


class VectorsCollector:
    """Reads the collections' state whenever Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._store = engine.vectors

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client wants them."""
        served = GaugeMetricFamily("vireo_collection_ready", "1 while a collection is served", labels=["collection"])
        points = GaugeMetricFamily("vireo_collection_points", "Points of a collection", labels=["collection"])
        rows = GaugeMetricFamily("vireo_collection_rows", "Rows, dead ones too", labels=["collection"])
        parts = GaugeMetricFamily("vireo_collection_parts", "Segments of a collection", labels=["collection"])
        size = GaugeMetricFamily("vireo_collection_bytes", "Bytes of sealed segments", labels=["collection"])
        replay = GaugeMetricFamily(
            "vireo_collection_replay_rows", "Entries of the log that a restart reads again", labels=["collection"]
        )
        indexing = GaugeMetricFamily(
            "vireo_collection_indexing", "1 while background work is under way", labels=["collection"]
        )
        offset = CounterMetricFamily(
            "vireo_collection_log_rows", "Entries ever written to a collection's log", labels=["collection"]
        )
        indexes = GaugeMetricFamily(
            "vireo_collection_indexes",
            "Parts by what finds candidates in them",
            labels=["collection", "vector", "index"],
        )
        for name in () if self._store.is_elsewhere else self._store.names():  # shards are not waited for
            info = self._store.describe(name).info
            served.add_metric([name], float(info is not None))
            if info is not None:
                points.add_metric([name], info.points)
                rows.add_metric([name], _rows(info))
                parts.add_metric([name], len(info.parts))
                size.add_metric([name], sum(each.bytes for each in info.parts))
                replay.add_metric([name], info.offset - info.replay_from)
                indexing.add_metric([name], float(info.indexing))
                offset.add_metric([name], info.offset)
                for (vector, index), many in _indexes(info).items():
                    indexes.add_metric([name, vector, index], many)
        yield from (served, points, rows, parts, size, replay, indexing, offset, indexes)
        yield from self._recall()

    def _recall(self) -> Iterator[Any]:
        searches = CounterMetricFamily(
            "vireo_collection_recall_searches", "Searches answered exactly too, by the share of points their filter leaves",
            labels=["collection", "selectivity"],
        )  # fmt: skip
        wanted = CounterMetricFamily(
            "vireo_collection_recall_wanted", "True hits of those searches", labels=["collection", "selectivity"]
        )
        found = CounterMetricFamily(
            "vireo_collection_recall_found", "True hits that were found: found over wanted is the recall",
            labels=["collection", "selectivity"],
        )  # fmt: skip
        for name, buckets in self._store.recall().items():
            for bucket, counted in buckets.items():
                searches.add_metric([name, bucket], counted.searches)
                wanted.add_metric([name, bucket], counted.wanted)
                found.add_metric([name, bucket], counted.hits)
        yield from (searches, wanted, found)


def _rows(info: CollectionInfo) -> int:
    return sum(each.rows for each in info.parts)


def _indexes(info: CollectionInfo) -> Counter[tuple[str, str]]:
    """Parts by vector and kind of index, without what else is told of it."""
    return Counter((name, kind.split(",")[0]) for each in info.parts for name, kind in each.indexes.items())
