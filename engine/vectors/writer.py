"""The writes of one collection: checked, within the quota, durable in the log and shown by the view when they are answered.

Who writes also folds: the first of several that wait brings the view up to date for all of them. Plain writes go on beside each
other; what reads before it writes (a deletion by filter, a change of payloads) goes alone.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Collection as Several
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import pyarrow as pa

from engine.errors import ResourceExhausted, Unavailable, VireoError, quoted
from engine.log.log import Log, Offsets
from engine.log.token import token_of
from engine.vectors.checks import check_tenant, checked_filter, checked_ids
from engine.vectors.declaration import CollectionSpec
from engine.vectors.entries import deleted, entry
from engine.vectors.filter import Filter, for_tenant
from engine.vectors.fold import Fold
from engine.vectors.gate import Gate
from engine.vectors.indexer import Indexer
from engine.vectors.locations import ABSENT, by_part
from engine.vectors.matching import count, matching
from engine.vectors.points import checked_points
from engine.vectors.rows import DELETE, ID, UPSERT
from engine.vectors.values import TEXT_ID_BYTES_MAX, PointId
from engine.vectors.view import Longs, Part, ids_at

FULL_MAX: Final = 4
"""Full segments that wait to be sealed; past that a write waits too."""
READ_ROWS: Final = 1 << 30
REWRITE_ROWS: Final = 4_096
WRITE_BYTES: Final = 32 << 20
"""Of one entry of the log, about, where a call changes or deletes many points."""
_FIRST_ROWS: Final = 256
"""Points of a mebibyte each are changed by so many before it is known how large they are."""
_WAIT_S: Final = 30.0
_LOAD_WAITS_MAX: Final = 20
"""So many times _WAIT_S a bulk load waits for indexing that is behind, as long as nothing is wrong with it: it has no deadline,
and a machine that is busy takes its time."""

Change = Callable[[pa.RecordBatch], pa.RecordBatch]
"""Points of `points_schema` as they are to be, of the same ids."""


@dataclass(frozen=True, slots=True)
class Written:
    """`offset`: of the log, after the write; `count`: points it changed. `offsets`: by partition, of a log that has several."""

    offset: int
    count: int
    offsets: Offsets | None = None

    @property
    def token(self) -> str:
        """For reads that are to show the write, see engine/log/token.py."""
        return token_of({0: self.offset} if self.offsets is None else self.offsets)


class _FromManifest:
    """log.Owner: reads from where the manifest says."""

    def __init__(self, place: int) -> None:
        self._place = place

    def assigned(self, partitions: Several[int]) -> Offsets:
        return {0: self._place}

    def revoked(self, partitions: Several[int]) -> None:
        """Nothing is kept beside the view."""


class Writer:
    """See the module. Any thread. `gate`: who is alone in it keeps writes away."""

    def __init__(self, name: str, fold: Fold, log: Log, indexer: Indexer) -> None:
        """The fold is brought up to the log's end. Raises DataLoss, Unavailable."""
        self.gate = Gate()
        self.indexer = indexer
        self._name = name
        self._folding = threading.Lock()
        self._reserving = threading.Condition()
        self._reserved: Counter[str | None] = Counter()
        """Points on their way, by tenant."""
        self._closed = False
        self.take_over(fold, log)

    def take_over(self, fold: Fold, log: Log) -> None:
        """Another fold and log from now on; nobody writes meanwhile."""
        self._fold, self._log = fold, log
        self.broken: str | None = None
        """Why nothing may be written to it any more."""
        self._reader = log.reader(_FromManifest(fold.view.offset))
        self._catch_up(log.latest()[0])

    @property
    def _spec(self) -> CollectionSpec:
        return self._fold.spec

    def close(self) -> None:
        """Waits for writes that are under way; later ones are refused."""
        with self.gate.alone():
            self._closed = True
            self._reader.close()

    def upsert(self, points: pa.RecordBatch, *, tenant: str | None = None, deadline_s: float | None = None) -> Written:
        """Points of `points_schema`, new or instead of those of their ids: all of them or none.

        Raises InvalidArgument, TooLarge that name the point; ResourceExhausted past a quota, where the disk is full, or where
        indexing is behind for `deadline_s` seconds; Unavailable.
        """
        with self.gate.beside():
            self.check_open()
            checked = checked_points(self._spec, points, tenant=tenant)
            self._wait_for_room(deadline_s)
            return self._kept(checked, tenant)

    def load(self, points: pa.RecordBatch, *, tenant: str | None = None) -> Written:
        """As `upsert`, of any size: a bad point refuses them all, then some WRITE_BYTES are written at a time. Of more the first
        are there when it raises for what is no point's fault (quota, disk, indexing), and the error says how many."""
        with self.gate.beside():
            self.check_open()
            written = Written(self._fold.view.offset, 0)
            for each in _split(checked_points(self._spec, points, tenant=tenant)):
                try:
                    self._wait_for_room(None, waits_max=_LOAD_WAITS_MAX)
                    done = self._kept(each, tenant)
                except VireoError as error:
                    if written.count:
                        error.message += f" (the first {written.count} points are kept)"
                    raise
                written = Written(done.offset, written.count + done.count)
            return written

    def _kept(self, checked: pa.RecordBatch, tenant: str | None) -> Written:
        with self._room_for(checked, tenant):
            return self._append(UPSERT, checked)

    def delete(self, ids: Sequence[PointId], *, tenant: str | None = None) -> Written:
        """Those of the points that are there: all or none, up to as many as fit into an entry of the log (see `_delete_rows`); of
        more some may be gone when it raises. Raises InvalidArgument, Unavailable, ResourceExhausted."""
        with self.gate.beside():
            self.check_open()
            check_tenant(self._spec, tenant)
            wanted = list(dict.fromkeys(checked_ids(self._spec, ids)))
            _, found = self._fold.locate(wanted, tenant)
            there = [each for each, location in zip(wanted, found.tolist(), strict=True) if location != ABSENT]
            # who is being written at the same time may be there by the time the log has this
            return replace(self._append_deletes(wanted, tenant), count=len(there))

    def delete_matching(self, filter_: Filter, *, tenant: str | None = None) -> Written:
        """The points a canonical filter is about when all earlier writes are done; as `delete`. Raises InvalidArgument,
        Unavailable."""
        with self.gate.alone():
            self.check_open()
            found = self._matching(filter_, tenant)
            return self._append_deletes((each for part, rows in found for each in ids_at(part, rows)), tenant)

    def rewrite(
        self, change: Change, *, ids: Sequence[PointId] | None = None, filter_: Filter | None = None,
        tenant: str | None = None,
    ) -> Written:  # fmt: skip
        """Writes points anew as `change` makes them: those of `ids` that are there, or those a filter is about. All or
        none, up to REWRITE_ROWS and WRITE_BYTES; of more some may be done when it raises."""
        with self.gate.alone():
            self.check_open()
            check_tenant(self._spec, tenant)
            found = (
                self._matching(filter_, tenant)
                if ids is None
                else self._points_of(checked_ids(self._spec, ids), tenant)
            )
            written = Written(self._fold.view.offset, 0)
            for each in _together(_changed(found, change)):
                if written.count:
                    self._wait_for_room(None)  # many points would grow in memory faster than they are sealed
                written = Written(self._append(UPSERT, each).offset, written.count + each.num_rows)
            return written

    def _matching(self, filter_: Filter | None, tenant: str | None) -> Iterator[tuple[Part, Longs]]:
        """Living points."""
        for living, rows in matching(self._fold.view, checked_filter(self._spec, filter_, tenant)):
            yield living.part, rows

    def _points_of(self, ids: Sequence[PointId], tenant: str | None) -> Iterator[tuple[Part, Longs]]:
        view, found = self._fold.locate(list(dict.fromkeys(ids)), tenant)
        for key, rows in by_part(found):
            living = view.part(key)
            assert living is not None
            yield living.part, rows

    def _append(self, op: int, points: pa.RecordBatch) -> Written:
        if not points.num_rows:
            return Written(self._fold.view.offset, 0)
        appended = self._log.append(entry(op, points))
        self._catch_up(appended.next)
        self.indexer.wrote()
        return Written(appended.next, points.num_rows)

    def _append_deletes(self, ids: Iterable[PointId], tenant: str | None) -> Written:
        written, left = Written(self._fold.view.offset, 0), iter(ids)
        while some := list(islice(left, _delete_rows(self._spec))):
            appended = self._append(DELETE, deleted(self._spec, some, tenant))
            written = Written(appended.offset, written.count + len(some))
        return written

    def _catch_up(self, until: int) -> None:
        """Whoever comes first folds for all who wait."""
        while self._fold.view.offset < until:
            with self._folding:
                if self._fold.view.offset >= until:
                    return
                chunks = self._reader.read(READ_ROWS, _WAIT_S)
                if not chunks:
                    raise Unavailable(f"collection {quoted(self._name)}: is closed")
                for each in chunks:
                    self._fold.apply(each.batch, each.first)

    def _wait_for_room(self, deadline_s: float | None, *, waits_max: int = 1) -> None:
        for _ in range(waits_max):
            if self.indexer.wait_for_room(FULL_MAX, _WAIT_S if deadline_s is None else deadline_s):
                return
            if self.indexer.problem:
                break
        why = f": {self.indexer.problem}" if self.indexer.problem else ""
        raise ResourceExhausted(
            f"collection {quoted(self._name)}: {FULL_MAX} full segments wait to be sealed{why}", retry_after_s=1.0
        )

    @contextmanager
    def _room_for(self, points: pa.RecordBatch, tenant: str | None) -> Iterator[None]:
        """Keeps the quota while the points are on their way."""
        with self._reserving:
            self._reserving.wait_for(lambda: not self._reserved or self._over_quota(points, tenant) is None, _WAIT_S)
            if (problem := self._over_quota(points, tenant)) is not None:
                raise ResourceExhausted(f"collection {quoted(self._name)}: {problem}")
            self._reserved[tenant] += points.num_rows
        try:
            yield
        finally:
            with self._reserving:
                self._reserved[tenant] -= points.num_rows
                if not self._reserved[tenant]:
                    del self._reserved[tenant]
                self._reserving.notify_all()

    def _over_quota(self, points: pa.RecordBatch, tenant: str | None) -> str | None:
        """What they would be too many for, in words. Points on their way count as new: they may be, so who comes short waits."""
        quota, more = self._spec.quota, points.num_rows
        there = self._fold.view.count + self._reserved.total()
        if there + more > quota.points_max and (new := self._new(points, tenant)) and there + new > quota.points_max:
            return _too_many("points_max", quota.points_max, there, new)
        most = quota.tenant_points_max
        if most is None or tenant is None:
            return None
        there = count(self._fold.view, for_tenant(None, self._spec, tenant)) + self._reserved[tenant]
        if there + more > most and (new := self._new(points, tenant)) and there + new > most:
            return _too_many("tenant_points_max", most, there, new)
        return None

    def _new(self, points: pa.RecordBatch, tenant: str | None) -> int:
        _, found = self._fold.locate(points.column(ID).to_pylist(), tenant)
        return int((found == ABSENT).sum())

    def check_open(self) -> None:
        """Raises Unavailable where nothing may be written any more."""
        if self._closed:
            raise Unavailable(f"collection {quoted(self._name)}: is closed")
        if self.broken is not None:
            raise Unavailable(f"collection {quoted(self._name)}: {self.broken}")
        self._fold.check_whole()


def _too_many(what: str, most: int, there: int, new: int) -> str:
    return f"quota.{what} is {most}, there are {there} points and {new} more would be"


def _delete_rows(spec: CollectionSpec) -> int:
    """Of one entry of the log, in which a vector that is null takes as much as one that is not: 20,000 of 384 dimensions."""
    row_bytes = 2 * TEXT_ID_BYTES_MAX + sum(4 * each.size for each in spec.vectors.values() if not each.multi)
    return max(1, WRITE_BYTES // row_bytes)


def _changed(found: Iterable[tuple[Part, Longs]], change: Change) -> Iterator[pa.RecordBatch]:
    """Points as they are to be: as many at once as take some WRITE_BYTES, going by those before."""
    step = _FIRST_ROWS
    for part, rows in found:
        at = 0
        while at < len(rows):
            points = change(part.points(rows[at : at + step]))
            at += points.num_rows
            yield from _split(points)
            fitting = WRITE_BYTES * points.num_rows // max(1, points.nbytes)
            step = max(1, min(REWRITE_ROWS, 2 * step, fitting))


def _split(points: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Halves of halves, until each fits into an entry of the log."""
    if points.nbytes <= WRITE_BYTES or points.num_rows == 1:
        yield points
        return
    half = points.num_rows // 2
    yield from _split(points.slice(0, half))
    yield from _split(points.slice(half))


def _together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Neighbours as one, up to REWRITE_ROWS and WRITE_BYTES: what is one entry of the log is durable whole or not at all, after
    one sync."""
    waiting: list[pa.RecordBatch] = []
    rows, size = 0, 0
    for each in batches:
        if waiting and (rows + each.num_rows > REWRITE_ROWS or size + each.nbytes > WRITE_BYTES):
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(each)
        rows, size = rows + each.num_rows, size + each.nbytes
    if waiting:
        yield pa.concat_batches(waiting)
