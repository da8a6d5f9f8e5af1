"""A collection whose log is a topic of Kafka: its writes, whoever follows them.

Rows go to the partitions of their ids, as one append a call. Others write too, here and elsewhere, so what would read before it
writes is refused: between the two anything may happen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from engine.errors import Unimplemented, quoted
from engine.log.declaration import ShardSpec
from engine.log.kafka import KafkaLog
from engine.log.log import Log, Offsets
from engine.vectors.checks import check_tenant, checked_ids
from engine.vectors.declaration import CollectionSpec
from engine.vectors.entries import deleted, entry
from engine.vectors.filter import Filter
from engine.vectors.points import checked_points
from engine.vectors.rows import DELETE, ID, UPSERT, log_schema
from engine.vectors.values import PointId
from engine.vectors.writer import Written


def open_topic(spec: CollectionSpec, shard: ShardSpec | None) -> KafkaLog:
    """The log of a collection that has one. Raises what `KafkaLog` does."""
    assert spec.kafka is not None
    return KafkaLog(replace(spec.kafka, key=ID, shard=shard), log_schema(spec))


def points_alone(spec: CollectionSpec) -> CollectionSpec:
    """What a spec says of points, and nothing of where their log is: that is nobody's who reads points."""
    return replace(spec, kafka=None, snapshot=None)


class TopicCollection:
    """The writes. Any thread; they block until the broker has them."""

    name: str

    @property
    def spec(self) -> CollectionSpec:
        """As what its points are read."""
        raise NotImplementedError

    def _log(self) -> Log:
        """Raises Unavailable where it is closed."""
        raise NotImplementedError

    def _acknowledged(self, offsets: Offsets, timeout_s: float | None) -> None:
        """What is to be true before a write is answered: nothing more."""

    def _count(self, ids: Sequence[PointId], tenant: str | None) -> int:
        """How many of these points a deletion is told to be about: as many as are named."""
        return len(ids)

    def upsert(self, points: pa.RecordBatch, *, tenant: str | None = None, deadline_s: float | None = None) -> Written:
        """Points of `points_schema`, new or instead of those of their ids. Where it raises Unavailable some may be kept: a call
        is as many messages as partitions. Raises InvalidArgument, TooLarge that name the point."""
        checked = checked_points(self.spec, points, tenant=tenant)
        return self._append(UPSERT, checked, checked.num_rows, deadline_s)

    def load(self, points: pa.RecordBatch, *, tenant: str | None = None) -> Written:
        """As `upsert`."""
        return self.upsert(points, tenant=tenant)

    def delete(self, ids: Sequence[PointId], *, tenant: str | None = None) -> Written:
        """Raises InvalidArgument, Unavailable."""
        check_tenant(self.spec, tenant)
        wanted = list(dict.fromkeys(checked_ids(self.spec, ids)))
        return self._append(DELETE, deleted(self.spec, wanted, tenant), self._count(wanted, tenant), None)

    def _append(self, op: int, points: pa.RecordBatch, count: int, timeout_s: float | None) -> Written:
        log = self._log()
        if not points.num_rows:
            return Written(0, 0, {})
        offsets = log.append(entry(op, points)).offsets
        self._acknowledged(offsets, timeout_s)
        return Written(max(offsets.values()), count, offsets)

    # What is refused.

    def delete_matching(self, filter_: Filter, *, tenant: str | None = None) -> Written:
        """Raises Unimplemented."""
        self._refuse("deletes points by their ids, not by a filter")

    def set_payload(
        self, values: Mapping[str, Any], *, ids: Sequence[PointId] | None = None, filter_: Filter | None = None,
        tenant: str | None = None, replace: bool = False,
    ) -> Written:  # fmt: skip
        """Raises Unimplemented."""
        self._refuse("takes whole points, not changes of their payloads")

    def clear_payload(
        self, fields: Sequence[str] | None = None, *, ids: Sequence[PointId] | None = None,
        filter_: Filter | None = None, tenant: str | None = None,
    ) -> Written:  # fmt: skip
        """Raises Unimplemented."""
        self._refuse("takes whole points, not changes of their payloads")

    def snapshot(self, target: Path) -> None:
        """Raises Unimplemented."""
        self._refuse("publishes its snapshots itself")

    def alter(self, spec: CollectionSpec) -> None:
        """Raises Unimplemented."""
        self._refuse("changes with the next start")

    def _refuse(self, what: str) -> NoReturn:
        raise Unimplemented(f"collection {quoted(self.name)}: its log is on Kafka, where others write too; it {what}")
