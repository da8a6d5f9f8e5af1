"""One state of a view with what a snapshot of it tells: which partitions it reads, and the table that it began with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from engine.clock import wall_us
from engine.features.snapshot import Header
from engine.features.state import FeatureState
from engine.log.log import Chunk

if TYPE_CHECKING:
    from engine.features.snapshot import Draft, Snapshot, SnapshotFolder
    from engine.features.view import View
    from engine.log.log import DeadLetter

ALL = "all"
"""The shard that reads every partition."""


def shard_of(partition: int) -> str:
    """The shard that reads one partition alone."""
    return f"p{partition}"


@dataclass(frozen=True, slots=True)
class TableRead:
    """What a state began with: all rows of a table with event time before `until_us`."""

    table: str
    version: int | None
    rows: int


class Fold:
    """One state. Written by the view's thread alone; its state and totals may be read by any.

    `until_us`: earlier events of the log are left out and counted as `covered`, because the table brought them.
    """

    def __init__(
        self,
        view: View,
        shard: str,
        state: FeatureState,
        *,
        until_us: int | None = None,
        began: TableRead | None = None,
        covered: int = 0,
    ) -> None:
        self.view, self.shard, self.state = view, shard, state
        self.began, self.covered = began, covered
        self.saved_at: dict[int, int] | None = None
        """The offsets of its last snapshot."""
        self._until_us = until_us

    @staticmethod
    def restored(view: View, snapshot: Snapshot, until_us: int | None) -> Fold:
        """The fold that a snapshot is of."""
        header = snapshot.header
        began = None if header.table is None else TableRead(header.table, header.version, header.table_rows)
        state = FeatureState.load(view, snapshot.parts)
        fold = Fold(view, header.shard, state, until_us=until_us, began=began, covered=header.covered)
        fold.saved_at = fold.offsets
        return fold

    @property
    def offsets(self) -> dict[int, int]:
        """What is read next, by partition."""
        return dict(self.state.offsets)

    @property
    def is_saved(self) -> bool:
        """Whether a snapshot would tell nothing new."""
        offsets = self.offsets
        return offsets == self.saved_at or (not offsets and self.began is None)

    def ingest(self, chunk: Chunk) -> list[DeadLetter]:
        """Folds what follows, and gives what could not be folded."""
        dead: list[DeadLetter] = []
        for part in [chunk] if self._until_us is None else self._uncovered(chunk, self._until_us):
            dead += self.state.ingest(part)
        return dead

    def _uncovered(self, chunk: Chunk, until_us: int) -> list[Chunk]:
        """The runs of rows that the table did not bring, and at the end none, so that the chunk is folded as a whole."""
        times = chunk.batch.column(self.view.event_time).cast(pa.int64())
        kept = times.fill_null(until_us).to_numpy(zero_copy_only=False) >= until_us  # the state judges a missing time
        covered = len(kept) - int(np.count_nonzero(kept))
        if not covered:
            return [chunk]
        self.covered += covered
        edges = np.flatnonzero(np.diff(np.concatenate(([False], kept, [False])))).tolist()
        runs = [
            Chunk(
                chunk.partition,
                chunk.first + start,
                chunk.first + stop,
                chunk.batch.slice(start, stop - start),
                chunk.appended_us[start:stop],
            )
            for start, stop in zip(edges[::2], edges[1::2], strict=True)
        ]
        return [*runs, replace(chunk, batch=chunk.batch.slice(0, 0), appended_us=chunk.appended_us[:0])]

    def draft(self, folder: SnapshotFolder, identity: str) -> Draft:
        """Writes the state as it is; see `SnapshotFolder.draft`."""
        began = self.began or TableRead("", None, 0)
        header = Header(
            view=self.view.name,
            fingerprint=identity,
            shard=self.shard,
            offsets=self.offsets,
            written_us=wall_us(),
            covered=self.covered,
            table=began.table or None,
            version=began.version,
            table_rows=began.rows,
        )
        return folder.draft(header, self.state.dump())
