"""The states of one view and the partitions that each of them reads: restored, saved, and given away again.

A log that is one process's whole is folded into one state. Where several share its partitions, each partition has a state of its
own, whose snapshots lie where all of them see it: members of a consumer group take and give partitions one by one, and shards
that are made anew, more or fewer, take up those of the shards before them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from engine.errors import FailedPrecondition, OffsetDeleted, quoted
from engine.features.fold import ALL, Fold, shard_of
from engine.features.state import FeatureState
from engine.log.log import Chunk, DeadLetter, Log, Offsets

if TYPE_CHECKING:
    from engine.features.bootstrap import Bootstrap
    from engine.features.snapshot import SnapshotFolder
    from engine.features.view import View

log = logging.getLogger("vireo.features")


class Shards:
    """Owner of what a view reads. Everything but `folds` and `has` is called by the view's thread."""

    def __init__(
        self,
        view: View,
        folder: SnapshotFolder | None,
        *,
        apart: bool,
        shared: bool,
        bootstrap: Bootstrap | None,
        save: Callable[[Sequence[Fold]], None],
    ) -> None:
        """`apart`: each partition has its own state; `shared`: partitions may be taken away again, with their states."""
        self._view, self._folder, self._apart, self._shared = view, folder, apart, shared
        self._bootstrap, self._save = bootstrap, save
        self._targets: dict[int, int] = {}
        self._log: Log | None = None
        self.folds: dict[str, Fold] = {}
        """By shard; replaced, never changed, so that any thread may read it."""
        self.fault: Exception | None = None
        """What went wrong in a call of the log; the reader is then to be given up."""

    # Restoring.

    def begin(self, log: Log, put: Callable[[list[DeadLetter]], None], stopped: Callable[[], bool]) -> None:
        """Reads the newest snapshot, or the table, or nothing; where partitions have states apart, only once they are ours.

        Raises FailedPrecondition or OffsetDeleted where the state cannot be had from what is kept.
        """
        self._log = log
        if self._apart:
            return
        earliest, latest = log.earliest(), log.latest()
        fold = self._restored(ALL, earliest, latest)
        if fold is None and self._bootstrap is not None:
            fold = self._bootstrap.begin(self._view, earliest, put, stopped)
            self._save([fold])
        self.folds = {ALL: fold or Fold(self._view, ALL, FeatureState(self._view))}
        self._catch_up(earliest, latest)

    def _restored(self, shard: str, earliest: Offsets, latest: Offsets) -> Fold | None:
        if self._folder is None:
            return None
        snapshot = self._folder.newest(shard, latest)
        if snapshot is None:
            self._check_may_begin_anew(self._folder, shard, earliest)
            return None
        for partition, offset in snapshot.header.offsets.items():
            if offset < earliest.get(partition, 0):
                raise OffsetDeleted(
                    f"feature view {quoted(self._view.name)}: its newest snapshot has read partition {partition} of log "
                    f"{quoted(self._view.source)} up to {offset}, which is kept from {earliest[partition]} only; give the "
                    f"view an empty snapshot folder to start from what is kept"
                )
        return Fold.restored(self._view, snapshot, self._bootstrap.until_us if self._bootstrap else None)

    def _check_may_begin_anew(self, folder: SnapshotFolder, shard: str, earliest: Offsets) -> None:
        reason = folder.holds_useless(shard)
        if reason is None:
            return
        if self._bootstrap is None and (gone := {part: offset for part, offset in earliest.items() if offset > 0}):
            raise FailedPrecondition(
                f"feature view {quoted(self._view.name)}: {reason}, and log {quoted(self._view.source)} no longer keeps "
                f"its first entries (earliest offsets {gone}), so the state cannot be rebuilt; declare a 'bootstrap', or "
                f"give the view an empty snapshot folder to start from what is kept"
            )
        log.warning("feature view %s: %s; it is rebuilt from the beginning", self._view.name, reason)

    def _catch_up(self, earliest: Offsets, latest: Offsets) -> None:
        offsets = self.offsets()
        wanted = latest if not self._apart else {part: latest[part] for part in latest if shard_of(part) in self.folds}
        self._targets = {part: end for part, end in wanted.items() if end > offsets.get(part, earliest.get(part, 0))}

    @property
    def caught_up(self) -> bool:
        """Whether what the log held when it was taken up is folded. Never so before a partition is ours."""
        if self._targets:
            offsets = self.offsets()
            self._targets = {part: end for part, end in self._targets.items() if offsets.get(part, 0) < end}
        return bool(self.folds) and not self._targets

    def missing(self) -> int:
        """Entries to be read until `caught_up`, or some number near it."""
        offsets = self.offsets()
        return sum(max(0, end - offsets.get(part, 0)) for part, end in dict(self._targets).items())

    # Reading.

    def assigned(self, partitions: Collection[int]) -> Offsets:
        """See `Owner.assigned`."""
        try:
            if self._apart:
                self._take(partitions)
            return {part: offset for part, offset in self.offsets().items() if part in partitions}
        except Exception as error:  # a library's callback is no place to raise from
            self.fault = error
            return {}

    def _take(self, partitions: Collection[int]) -> None:
        assert self._log is not None
        earliest, latest = self._log.earliest(), self._log.latest()
        new = {shard_of(part): part for part in partitions if shard_of(part) not in self.folds}
        for shard, part in new.items():
            fold = self._restored(shard, {part: earliest.get(part, 0)}, latest)
            self.folds = {**self.folds, shard: fold or Fold(self._view, shard, FeatureState(self._view))}
        self._catch_up(earliest, latest)

    def revoked(self, partitions: Collection[int]) -> None:
        """See `Owner.revoked`. What nobody else takes stays: reads go on."""
        try:
            if not self._shared:
                return
            gone = [self.folds[shard] for part in partitions if (shard := shard_of(part)) in self.folds]
            self._save(gone)
            left = {fold.shard for fold in gone}
            self.folds = {shard: fold for shard, fold in self.folds.items() if shard not in left}
            self._targets = {part: end for part, end in self._targets.items() if part not in partitions}
        except Exception as error:
            self.fault = error

    def ingest(self, chunk: Chunk) -> list[DeadLetter]:
        """Folds a chunk into the state of its partition."""
        fold = self.folds.get(shard_of(chunk.partition) if self._apart else ALL)
        return [] if fold is None else fold.ingest(chunk)  # None: it was taken from us meanwhile

    # What is known of them, to any thread.

    def offsets(self) -> dict[int, int]:
        """What is read next, by partition."""
        return {part: offset for fold in self.folds.values() for part, offset in fold.offsets.items()}

    def has(self, wanted: Offsets) -> bool:
        """Whether everything before these offsets is folded."""
        offsets = self.offsets()
        return all(offsets.get(part, 0) >= end for part, end in wanted.items())
