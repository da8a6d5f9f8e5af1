"""One vector collection, open: durable, live, searched without a lock.

State is what the manifest names and the log from where it says. A restart opens those segments and folds that log.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.clock import Clock, monotonic
from engine.errors import DataLoss, InvalidArgument, NotFound, TooLarge, VireoError, quoted
from engine.limits import SEARCH_K_MAX
from engine.log.declaration import LocalLogSpec
from engine.log.disk import Disk
from engine.log.local import LocalLog
from engine.vectors.checks import check_fields, check_names, check_tenant, checked_filter, checked_ids, checked_query
from engine.vectors.collection_info import CollectionInfo, PartInfo
from engine.vectors.declaration import CollectionSpec
from engine.vectors.directory import Directory
from engine.vectors.export import exported
from engine.vectors.filter import Filter, placed
from engine.vectors.fold import Fold
from engine.vectors.found import Found
from engine.vectors.gathering import gather_vectors
from engine.vectors.hits import hits_of
from engine.vectors.indexer import Indexer
from engine.vectors.locations import ABSENT
from engine.vectors.manifest import MANIFEST, read_manifest
from engine.vectors.matching import count
from engine.vectors.payload_change import clearing, setting
from engine.vectors.places import ROW_MASK, SHIFT
from engine.vectors.plain_points import payload_patch
from engine.vectors.query import DenseLeg, Hit, Query
from engine.vectors.recommend import resolved
from engine.vectors.relations import check_alter, remembered
from engine.vectors.rows import log_schema
from engine.vectors.scroll import page
from engine.vectors.sealed import SealedPart, vector_names
from engine.vectors.search import search, search_many
from engine.vectors.values import PointId, checked_id
from engine.vectors.view import Living, Singles, View
from engine.vectors.writer import Writer, Written

_LOG: Final = "log-"


class Watcher(Protocol):
    """Is told of searches, such as who measures recall."""

    def offer(self, view: View, query: Query, found: Found) -> None:
        """Returns at once."""


class Collection:
    """One collection, open. Any thread; writes block until they are durable and visible, searches never wait for them.

    `folder` is made where it is not there, which needs a `spec`; else it is altered to `spec` (None: stays as it was). Raises
    Unavailable where it is in use or can't be read, DataLoss where what counts is gone or damaged, FailedPrecondition where it
    can't be read as `spec`, ResourceExhausted where the disk is full. `background` false: nothing is sealed but by `indexer`.
    """

    def __init__(
        self, name: str, folder: Path, spec: CollectionSpec | None = None, *, disk: Disk | None = None,
        background: bool = True, clock: Clock = monotonic,
    ) -> None:  # fmt: skip
        self.name = name
        self.watcher: Watcher | None = None
        self._disk = disk or Disk()
        self._closed = False
        self._directory = Directory(folder, None if (folder / MANIFEST).exists() else spec, disk=disk)
        try:
            self._open(clock)
            self._follow(spec)
        except BaseException:
            self._directory.close()
            raise
        if background:
            self.indexer.start()

    def _open(self, clock: Clock) -> None:
        manifest = self._directory.manifest
        self._log = self._open_log(manifest.log, manifest.spec)
        try:
            place, kept = manifest.replay_from, (self._log.earliest()[0], self._log.latest()[0])
            if not kept[0] <= place <= kept[1]:
                raise DataLoss(
                    f"collection {quoted(self.name)}: its log has entries {kept[0]} to {kept[1]} and is needed from {place}"
                )
            self._fold = self._folded(manifest.spec, place)
            self.indexer = Indexer(self.name, self._directory, self._fold, self._log, clock)
            self.writer = Writer(self.name, self._fold, self._log, self.indexer)
        except BaseException:
            self._log.close()
            raise

    def _follow(self, spec: CollectionSpec | None) -> None:
        if spec is not None and spec != self.spec:
            try:
                self.alter(spec)
            except BaseException:
                self._log.close()
                raise

    def _open_log(self, folder: str, spec: CollectionSpec) -> LocalLog:
        for each in self._directory.folder.glob(f"{_LOG}*"):
            if each.name not in (folder, self._directory.manifest.log):  # of an alteration that was never committed
                shutil.rmtree(each, ignore_errors=True)
        path = self._directory.folder / folder
        return LocalLog(LocalLogSpec(str(path), spec.durability), log_schema(spec), path, disk=self._disk)

    def _folded(self, spec: CollectionSpec, offset: int) -> Fold:
        numbers = [each.number for each in self._directory.manifest.segments]
        parts = [SealedPart(each, each, self._directory.segment(each), spec) for each in numbers]
        alive = [self._directory.alive(each) for each in numbers]
        return Fold(spec, list(zip(parts, alive, strict=True)), offset, 1 + max(numbers, default=0))

    @property
    def spec(self) -> CollectionSpec:
        """As what it is read now."""
        return self._fold.spec

    @property
    def view(self) -> View:
        """The newest state."""
        return self._fold.view

    # Writes: see engine/vectors/writer.py. What one does to points is by the spec of then: it may be altered while it waits.

    def upsert(self, points: pa.RecordBatch, *, tenant: str | None = None, deadline_s: float | None = None) -> Written:
        """See Writer.upsert."""
        return self.writer.upsert(points, tenant=tenant, deadline_s=deadline_s)

    def load(self, points: pa.RecordBatch, *, tenant: str | None = None) -> Written:
        """See Writer.load."""
        return self.writer.load(points, tenant=tenant)

    def delete(self, ids: Sequence[PointId], *, tenant: str | None = None) -> Written:
        """See Writer.delete."""
        return self.writer.delete(ids, tenant=tenant)

    def delete_matching(self, filter_: Filter, *, tenant: str | None = None) -> Written:
        """See Writer.delete_matching."""
        return self.writer.delete_matching(filter_, tenant=tenant)

    def set_payload(
        self, values: Mapping[str, Any], *, ids: Sequence[PointId] | None = None, filter_: Filter | None = None,
        tenant: str | None = None, replace: bool = False,
    ) -> Written:  # fmt: skip
        """Fields of the points `ids` that are there, or of those a filter is about, become `values`; with `replace` others are
        left out. Raises InvalidArgument, Unavailable, ResourceExhausted."""

        def change(points: pa.RecordBatch) -> pa.RecordBatch:
            return setting(self.spec, payload_patch(self.spec, values), replace=replace)(points)

        payload_patch(self.spec, values)
        return self.writer.rewrite(change, ids=ids, filter_=filter_, tenant=tenant)

    def clear_payload(
        self, fields: Sequence[str] | None = None, *, ids: Sequence[PointId] | None = None,
        filter_: Filter | None = None, tenant: str | None = None,
    ) -> Written:  # fmt: skip
        """Fields (None: all) are left out. As `set_payload`."""

        def change(points: pa.RecordBatch) -> pa.RecordBatch:
            check_fields(self.spec, fields or (), "fields")
            return clearing(self.spec, fields)(points)

        check_fields(self.spec, fields or (), "fields")
        return self.writer.rewrite(change, ids=ids, filter_=filter_, tenant=tenant)

    # Questions.

    def search(self, query: Query, *, explain: bool = False) -> Found:
        """The answer from one view; with `explain` how it was found too. Raises InvalidArgument, TooLarge; NotFound where an
        example of a recommendation is not there."""
        fold = self._fold
        view = fold.view
        query = _resolved(fold, checked_query(view.spec, query))
        found = search(view, query, explain=explain)
        if self.watcher is not None:
            self.watcher.offer(view, query, found)
        return found

    def search_many(self, queries: Sequence[Query], *, paths: Sequence[str] | None = None) -> list[Found]:
        """Each as `search`, from one view. What it raises names the query by its path, if none are given "queries[3]"."""
        fold = self._fold
        view = fold.view
        checked = []
        for at, each in enumerate(queries):
            try:
                checked.append(_resolved(fold, checked_query(view.spec, each)))
            except (InvalidArgument, TooLarge, NotFound) as error:
                path = f"queries[{at}]" if paths is None else paths[at]
                raise type(error)(f"{path}: {error.message}") from error
        found = search_many(view, checked)
        if self.watcher is not None:
            for query, hits in zip(checked, found, strict=True):
                self.watcher.offer(view, query, hits)
        return found

    def get(
        self, ids: Sequence[PointId], *, payload: Sequence[str] = (), vectors: Sequence[str] = (),
        tenant: str | None = None,
    ) -> list[Hit]:  # fmt: skip
        """Those of the points that are there, in the order asked, each once; their scores say nothing. Raises InvalidArgument."""
        return _points_of(self._fold, ids, payload, vectors, tenant)

    def gather(
        self, ids: npt.NDArray[np.uint64] | Sequence[str], vector: str, defaults: Singles, buffer: Singles, first: int
    ) -> npt.NDArray[np.bool_]:
        """One vector of each of n points into columns `first` and on of `buffer` (float32 [n, W]), `defaults` where a point is
        not there; which are. The collection has no tenants, and `ids` are of its kind. Raises Unavailable; FailedPrecondition
        where it has no such vector any more."""
        view, locations = self._fold.locate(ids, None)
        return gather_vectors(view, locations, vector, defaults, buffer, first)

    def scroll(
        self, *, filter_: Filter | None = None, limit: int = 10, after: PointId | None = None,
        payload: Sequence[str] = (), vectors: Sequence[str] = (), tenant: str | None = None,
    ) -> tuple[list[Hit], PointId | None]:  # fmt: skip
        """At most `limit` points of ids past `after`, ascending; the last one's id if there are more. Raises InvalidArgument."""
        view = self.view
        check_names(view.spec, payload=payload, vectors=vectors)
        if not 1 <= limit <= SEARCH_K_MAX:
            raise InvalidArgument(f"limit: must be from 1 to {SEARCH_K_MAX}, got {limit}")
        if after is not None:
            after = placed("after", checked_id, after, view.spec.id)
        places, last = page(view, checked_filter(view.spec, filter_, tenant), limit, after)
        return hits_of(view, [0.0] * len(places), places, payload, vectors), last

    def count(self, filter_: Filter | None = None, *, tenant: str | None = None) -> int:
        """How many points a canonical filter is about. Raises InvalidArgument."""
        view = self.view
        return count(view, checked_filter(view.spec, filter_, tenant))

    def export(
        self, *, filter_: Filter | None = None, tenant: str | None = None, payload: Sequence[str] | None = None,
        vectors: Sequence[str] | None = None,
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:  # fmt: skip
        """All points a canonical filter is about, of one state, batch by batch: these fields and vectors (None: all), columns of
        `points_schema`. Raises InvalidArgument."""
        view = self.view
        return exported(view, checked_filter(view.spec, filter_, tenant), payload, vectors)

    # Upkeep.

    def wait_indexed(self, timeout_s: float) -> bool:
        """Whether background work came to rest; it does not wait for more writes to come."""
        return self.indexer.settle(timeout_s)

    def snapshot(self, target: Path) -> None:
        """A copy of all points as they are now, in a new folder. Raises FailedPrecondition where there is something."""
        with self.indexer.lock:
            self.writer.check_open()
            self.indexer.flush()
            self._directory.snapshot(target)

    def alter(self, spec: CollectionSpec) -> None:
        """Reads and keeps points as another spec says, from now on; old segments are rebuilt in idle times.

        Raises FailedPrecondition where what is stored can't be read so.
        """
        with self.writer.gate.alone(), self.indexer.lock:
            self.writer.check_open()  # its folder may be another's by now
            manifest = self._directory.manifest
            check_alter(self.spec, spec, manifest.ever, empty=not self.view.parts)
            self.indexer.flush()
            folder = f"{_LOG}{int(manifest.log.removeprefix(_LOG)) + 1:010d}"
            shutil.rmtree(self._directory.folder / folder, ignore_errors=True)  # of a try that failed, of another spec
            log = self._open_log(folder, spec)
            try:
                fold = self._folded(spec, 0)  # before the commit: what is written after it must go to the new log
                self._directory.commit(
                    {each.number: self._directory.alive(each.number) for each in self._directory.manifest.segments},
                    replay_from=0, spec=spec, log_folder=folder,
                    ever=remembered(self.spec, manifest.ever),
                )  # fmt: skip
            except BaseException:
                log.close()
                self._stay(folder)
                raise
            old, self._log = self._log, log
            self._fold = self.indexer.fold = fold
            self.indexer.log = log
            self.writer.take_over(self._fold, log)
            old.close()
            shutil.rmtree(self._directory.folder / manifest.log, ignore_errors=True)

    def _stay(self, folder: str) -> None:
        """The manifest that could not be committed may be on the disk all the same; with its log, `folder`, a restart would miss
        what is written to the old one from now on. So the old manifest is written once more, or nothing more is."""
        kept = self._directory.manifest
        try:
            if read_manifest(self._directory.folder).log != kept.log:
                alive = {each.number: self._directory.alive(each.number) for each in kept.segments}
                self._directory.commit(alive, replay_from=kept.replay_from)
            shutil.rmtree(self._directory.folder / folder, ignore_errors=True)
        except (VireoError, OSError) as error:
            self.writer.broken = f"an alteration failed, and what is on the disk is in doubt until a restart: {error}"

    def info(self) -> CollectionInfo:
        """What there is."""
        view = self._fold.view
        return CollectionInfo(
            self.name, view.count, tuple(_part_info(each, view.spec) for each in view.parts), view.offset,
            self._directory.manifest.replay_from, self.indexer.busy, self.indexer.problem,
        )  # fmt: skip

    def close(self) -> None:
        """Waits for writes and the background step under way, and lets go of the folder."""
        if not self._closed:
            self._closed = True
            self.indexer.stop()  # first: a write may wait for it to seal what is full
            self.writer.close()
            with self.indexer.lock:  # a snapshot may be under way
                self._log.close()
                self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _points_of(
    fold: Fold, ids: Sequence[PointId], payload: Sequence[str], vectors: Sequence[str], tenant: str | None
) -> list[Hit]:
    """See Collection.get. Of one fold, whatever is altered meanwhile."""
    check_tenant(fold.spec, tenant)
    check_names(fold.spec, payload=payload, vectors=vectors)
    wanted = list(dict.fromkeys(checked_ids(fold.spec, ids)))
    view, found = fold.locate(wanted, tenant)
    positions = {each.part.key: at for at, each in enumerate(view.parts)}
    places = [(positions[each >> SHIFT] << SHIFT) | (each & ROW_MASK) for each in found.tolist() if each != ABSENT]
    return hits_of(view, [0.0] * len(places), np.array(places, np.int64), payload, vectors)


def _resolved(fold: Fold, query: Query) -> Query:
    if type(query.legs[0]) is DenseLeg and len(query.legs) == 1:
        return query

    def vectors_of(name: str, ids: Sequence[PointId]) -> list[Singles | None]:
        found = _points_of(fold, ids, (), (name,), query.tenant)
        known = {each.id: each.vectors[name] for each in found}
        return [known.get(each) for each in ids]

    return resolved(fold.spec, query, vectors_of)


def _part_info(living: Living, spec: CollectionSpec) -> PartInfo:
    part = living.part
    indexes = {}
    for name in vector_names(spec):
        index, rows = part.indexed(name)
        indexes[name] = "flat" if index is None else index.kind if rows == part.rows else f"{index.kind}, {rows} rows"
    size = part.bytes_size if isinstance(part, SealedPart) else 0
    return PartInfo(part.name, part.rows, living.count, indexes, size)
