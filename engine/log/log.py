"""What every log promises: record batches in, offsets out, and the same batches again from any offset that is kept.

A log has partitions, each a sequence of entries with ascending whole-number offsets. The local log has one partition, 0,
whose offsets count rows; of a Kafka topic the offsets are Kafka's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

Offsets = Mapping[int, int]
"""Partition to the offset that is read next."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a batch lies: entries `first` to `next` - 1 of `partition`, and in `more` partitions where rows are keyed.

    Its rows are visible to who has read every partition of `offsets` up to there.
    """

    partition: int
    first: int
    next: int
    more: tuple[Appended, ...] = ()

    @property
    def offsets(self) -> dict[int, int]:
        """The offset after the batch, in each partition it fell into."""
        return {self.partition: self.next} | {each.partition: each.next for each in self.more}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that could not be used: where it lies, why in one sentence, and what came (its payload, or one row as JSON)."""

    partition: int
    offset: int
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Entries `first` to `next` - 1 of one partition, in order, as rows of the log's schema.

    `appended_us` is when each row was appended, int64 [rows], microseconds since the Unix epoch: read again it is the same, so
    whatever is judged by it is judged the same in a replay. `dead` are entries of this span that could not be decoded.
    """

    partition: int
    first: int
    next: int
    batch: pa.RecordBatch
    appended_us: npt.NDArray[np.int64]
    dead: Sequence[DeadLetter] = ()


class Owner(Protocol):
    """Who folds what is read. Both calls come from the thread that is inside `LogReader.read` (or `close`)."""

    def assigned(self, partitions: Collection[int]) -> Offsets:
        """These partitions are ours from now on: from which offset each is to be read. A partition left out starts at the
        earliest entry kept."""

    def revoked(self, partitions: Collection[int]) -> None:
        """These are no longer ours; what was read of them must be safe (snapshot) when this returns."""


class LogReader(Protocol):
    """One consumer's place in a log. Used by one thread; `close` may be called by another, after which `read` returns []."""

    def read(self, rows_max: int, timeout_s: float) -> list[Chunk]:
        """What follows, some `rows_max` rows at most, as soon as there is anything; [] after `timeout_s` without.

        Raises OffsetDeleted where the place is no longer kept, Unavailable where the log cannot be reached (reading again may
        help; nothing is skipped).
        """

    def close(self) -> None:
        """Gives its partitions back (`Owner.revoked`) and ends."""


class Log(Protocol):
    """Methods may be called from any thread."""

    @property
    def schema(self) -> pa.Schema:
        """Of every batch it takes and gives."""

    def append(self, batch: pa.RecordBatch) -> Appended:
        """Adds a batch and returns when it is as safe as the log's durability level says.

        A missing nullable column is filled with nulls. Raises InvalidArgument for columns that are unknown, of another type, or
        null where the schema forbids it; ResourceExhausted where the disk is full; Unavailable where the log cannot be reached.
        What raised was not acknowledged (a later read may still meet it where the broker's answer was lost).
        """

    def reader(self, owner: Owner) -> LogReader:
        """A new place in the log, or a new member of its consumer group."""

    def earliest(self) -> Offsets:
        """The first offset that is kept, by partition."""

    def latest(self) -> Offsets:
        """The offset the next entry will get, by partition."""

    def truncate(self, before: Offsets) -> None:
        """Lets go of entries below these offsets, in whole segments: what is kept begins at or below `before`."""

    def close(self) -> None:
        """Waits for appends in flight and gives files and connections back."""
