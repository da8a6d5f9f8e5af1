"""One vector collection, open: durable, live, searched without a lock.

State is what the manifest names and the log from where it says. A restart opens those segments and folds that log.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa

from engine.clock import Clock, Deadline, monotonic
from engine.errors import DataLoss, VireoError, quoted
from engine.log.declaration import LocalLogSpec
from engine.log.disk import Disk
from engine.log.local import LocalLog
from engine.log.log import Offsets
from engine.vectors.checks import check_fields
from engine.vectors.collection_info import CollectionInfo, parts_of
from engine.vectors.declaration import CollectionSpec
from engine.vectors.directory import Directory
from engine.vectors.filter import Filter
from engine.vectors.fold import Fold
from engine.vectors.indexer import Indexer
from engine.vectors.manifest import MANIFEST, read_manifest
from engine.vectors.payload_change import clearing, setting
from engine.vectors.plain_points import payload_patch
from engine.vectors.readable import Readable
from engine.vectors.relations import check_alter, remembered
from engine.vectors.restored import restored_fold
from engine.vectors.rows import log_schema
from engine.vectors.values import PointId
from engine.vectors.writer import Writer, Written

_LOG: Final = "log-"


class Collection(Readable):
    """One collection, open. Any thread; writes block until they are durable and visible, searches never wait for them.

    `folder` is made where it is not there, which needs a `spec`; else it is altered to `spec` (None: stays as it was). Raises
    Unavailable where it is in use or can't be read, DataLoss where what counts is gone or damaged, FailedPrecondition where it
    can't be read as `spec`, ResourceExhausted where the disk is full. `background` false: nothing is sealed but by `indexer`.
    """

    def __init__(
        self, name: str, folder: Path, spec: CollectionSpec | None = None, *, disk: Disk | None = None,
        background: bool = True, clock: Clock = monotonic,
    ) -> None:  # fmt: skip
        super().__init__(name)
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
            self._fold = restored_fold(self._directory, manifest.spec, place)
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

    @property
    def _state(self) -> Fold:
        return self._fold

    def reading(self, after: Offsets, deadline: Deadline) -> Self:
        """Itself, which shows every write that was answered, whatever its log's offsets are by now."""
        return self

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
                # Before the commit: what comes after it must go to the new log.
                fold = restored_fold(self._directory, spec, 0)
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
            self.name, view.count, parts_of(view), view.offset,
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
