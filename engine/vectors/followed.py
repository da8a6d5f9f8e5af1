"""A collection that follows a topic of Kafka: all of its partitions, or those of one shard, each folded into segments of its own.

Searched as one collection. What is durable is the topic; the folder is where the next start begins, and snapshots are where
others elsewhere do. A write is answered once the broker has it and searches here show it, as far as they are of its partitions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Collection as Several
from pathlib import Path
from typing import Final, Self

from engine.clock import Clock, Deadline, monotonic
from engine.duration import duration_us
from engine.errors import DeadlineExceeded, Unavailable, VireoError, quoted
from engine.limits import (
    FEATURE_RETRY_S_MAX,
    FEATURE_RETRY_S_MIN,
    PUSH_WAIT_S_MAX,
    SNAPSHOT_RETRY_S,
)
from engine.log.awaited import Awaited
from engine.log.declaration import ShardSpec
from engine.log.kafka import KafkaLog
from engine.log.log import Chunk, LogReader, Offsets
from engine.log.snapshot_store import SnapshotStore
from engine.log.token import token_of
from engine.placement import fingerprint_of
from engine.vectors.collection_info import CollectionInfo, parts_of
from engine.vectors.declaration import CollectionSpec
from engine.vectors.fold import Fold
from engine.vectors.joined import JoinedState
from engine.vectors.locations import ABSENT
from engine.vectors.partition import Partition
from engine.vectors.readable import Readable
from engine.vectors.topic import TopicCollection, open_topic, points_alone
from engine.vectors.values import PointId
from engine.vectors.view import View

log = logging.getLogger("vireo.vectors")

_READ_S: Final = 0.25
"""How long a read waits for more: so long may a close have to wait."""
_READ_ROWS: Final = 65_536


class FollowedCollection(TopicCollection, Readable):
    """See the module. Any thread. `folder` is made where it is not there. Questions raise Unavailable until what the topic held
    at the start is folded. Raises SpecError where the store of its snapshots cannot be used."""

    def __init__(
        self, name: str, folder: Path, spec: CollectionSpec, *, shard: ShardSpec | None = None, clock: Clock = monotonic
    ) -> None:
        super().__init__(name)
        self.declared = spec
        self._folder, self._clock = folder, clock
        self._points = points_alone(spec)
        self._topic: KafkaLog | None = open_topic(spec, shard)
        assert spec.kafka is not None
        self._prefix, snapshot = fingerprint_of((name, spec.kafka.topic)), spec.snapshot
        self._store = (
            None if snapshot is None else SnapshotStore(snapshot.store, prefix=self._prefix, keep=snapshot.keep)
        )
        self._every_s = None if snapshot is None else duration_us(snapshot.every) / 1e6
        self._partitions: Mapping[int, Partition] = {}
        self._count_of_topic = 0
        self._targets: dict[int, int] = {}
        self._fault: Exception | None = None
        self._trouble: dict[str, str] = {}
        """What is wrong now, by who met it."""
        self.ready = False
        """Whether what the topic held at the start is folded."""
        self._stop = threading.Event()
        self._awaited = Awaited(self._has)
        self._joined = JoinedState(self._points, self._folds, lambda: self._count_of_topic)
        self._threads = [threading.Thread(target=self._run, name=f"vireo-follow-{name}", daemon=True)]
        if self._store is not None:
            self._threads.append(threading.Thread(target=self._publish, name=f"vireo-publish-{name}", daemon=True))
        for each in self._threads:
            each.start()

    # Questions: see engine/vectors/readable.py.

    def _folds(self) -> Mapping[int, Fold]:
        return {number: each.fold for number, each in self._partitions.items()}

    @property
    def _state(self) -> JoinedState:
        self.check_ready()
        return self._joined

    @property
    def spec(self) -> CollectionSpec:
        """As what its points are read, whatever their log is."""
        return self._points

    @property
    def view(self) -> View:
        """What is folded so far."""
        return self._joined.view

    def check_ready(self) -> None:
        """Raises Unavailable while it catches up."""
        if not self.ready:
            raise Unavailable(self.problem or f"collection {quoted(self.name)} has just caught up", retry_after_s=1.0)

    @property
    def problem(self) -> str | None:
        """Why its questions are not answered; None where they are."""
        if self.ready:
            return None
        where = f"collection {quoted(self.name)} is still catching up with its topic"
        told = "; ".join(self._trouble.values())
        return f"{where}: {told}" if told else f"{where}, {self._missing()} entries to read"

    def _missing(self) -> int:
        offsets = self._offsets()
        return sum(max(0, end - offsets.get(part, 0)) for part, end in dict(self._targets).items())

    def reading(self, after: Offsets, deadline: Deadline) -> Self:
        """Itself, once it shows everything before `after`, of its own partitions. Raises DeadlineExceeded."""
        if not self._awaited.wait(after, min(deadline.remaining_s(self._clock()), PUSH_WAIT_S_MAX)):
            raise self._not_shown(after)
        return self

    def _not_shown(self, offsets: Offsets) -> DeadlineExceeded:
        why = "; ".join(["", *self._trouble.values()])
        return DeadlineExceeded(
            f"collection {quoted(self.name)} does not show yet what comes before {token_of(offsets)[:80]}{why}"
        )

    def tell(self, offsets: Offsets, call: Callable[[], None]) -> bool:
        """See `Awaited.tell`."""
        return self._awaited.tell(offsets, call)

    def tell_no_more(self, call: Callable[[], None]) -> None:
        """See `Awaited.tell_no_more`."""
        self._awaited.tell_no_more(call)

    def info(self) -> CollectionInfo:
        """What there is. `offset` is the sum of those of its partitions, and so is `replay_from`."""
        partitions, view = self._partitions.values(), self.view
        indexing = [each.indexer.problem for each in partitions if each.indexer.problem]
        problem = "; ".join([*self._trouble.values(), *indexing]) or self.problem
        replay_from = sum(each.replay_from for each in partitions)
        busy = any(each.indexer.busy for each in partitions)
        return CollectionInfo(self.name, view.count, parts_of(view), view.offset, replay_from, busy, problem)

    def wait_indexed(self, timeout_s: float) -> bool:
        """Whether background work came to rest; it does not wait for more writes to come."""
        until = time.monotonic() + timeout_s
        return all(each.indexer.settle(max(0.0, until - time.monotonic())) for each in list(self._partitions.values()))

    # Writes: see engine/vectors/topic.py.

    def _log(self) -> KafkaLog:
        if self._topic is None:
            raise Unavailable(f"collection {quoted(self.name)}: is closed")
        return self._topic

    def _acknowledged(self, offsets: Offsets, timeout_s: float | None) -> None:
        """Searches show it, where its partitions are followed here."""
        own = {part: offset for part, offset in offsets.items() if part in self._partitions}
        if not self._awaited.wait(own, PUSH_WAIT_S_MAX if timeout_s is None else timeout_s):
            raise DeadlineExceeded(f"{self._not_shown(own).message}; it is kept, and will be shown")

    def _count(self, ids: Sequence[PointId], tenant: str | None) -> int:
        _, found = self._state.locate(ids, tenant)
        return int((found != ABSENT).sum())

    # Following, by the collection's thread.

    def _run(self) -> None:
        pause_s = FEATURE_RETRY_S_MIN
        while not self._stop.is_set():
            before = self._offsets()
            try:
                self._follow(self._log())
            except Exception as error:
                self._tell("follow", error)
            pause_s = FEATURE_RETRY_S_MIN if self._offsets() != before else min(2 * pause_s, FEATURE_RETRY_S_MAX)
            self._stop.wait(pause_s)

    def _follow(self, topic: KafkaLog) -> None:
        reader = topic.reader(self)
        try:
            while not self._stop.is_set():
                chunks = self._read(reader)
                for each in chunks:
                    self._ingest(each)
                if chunks or not self.ready:
                    self._moved()
        finally:
            reader.close()

    def _read(self, reader: LogReader) -> list[Chunk]:
        chunks = reader.read(_READ_ROWS, _READ_S)
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        self._trouble.pop("follow", None)
        return chunks

    def _ingest(self, chunk: Chunk) -> None:
        partition = self._partitions[chunk.partition]
        while not partition.has_room(_READ_S):
            if self._stop.is_set():
                return
        partition.ingest(chunk)

    def assigned(self, partitions: Several[int]) -> Offsets:
        """See `Owner.assigned`."""
        try:
            earliest, latest = self._log().earliest(), self._log().latest()
            self._count_of_topic = len(latest)
            for number in partitions:
                if number not in self._partitions:
                    opened = self._opened(number, earliest.get(number, 0), latest.get(number, 0))
                    self._partitions = {**self._partitions, number: opened}
            offsets = self._offsets()
            self._targets = {part: latest.get(part, 0) for part in partitions if latest.get(part, 0) > offsets[part]}
            return {part: offsets[part] for part in partitions}
        except Exception as error:  # a library's callback is no place to raise from
            self._fault = error
            return {}

    def _opened(self, number: int, earliest: int, latest: int) -> Partition:
        folder = self._folder / f"partition-{number:04d}"
        return Partition(
            self.name, number, folder, self._points, store=self._store, prefix=self._prefix, earliest=earliest,
            latest=latest, clock=self._clock,
        )  # fmt: skip

    def revoked(self, partitions: Several[int]) -> None:
        """See `Owner.revoked`: nobody else takes them."""

    def _offsets(self) -> dict[int, int]:
        return {number: each.fold.view.offset for number, each in self._partitions.items()}

    def _has(self, wanted: Offsets) -> bool:
        offsets = self._offsets()
        return all(offsets.get(part, 0) >= end for part, end in wanted.items())

    def _moved(self) -> None:
        if self._targets:
            offsets = self._offsets()
            self._targets = {part: end for part, end in self._targets.items() if offsets.get(part, 0) < end}
        with self._awaited.changed:
            self.ready = self.ready or (bool(self._partitions) and not self._targets)
        self._awaited.moved()

    def await_ready(self, timeout_s: float) -> bool:
        """Whether it has caught up, at the latest after `timeout_s`; at once where that will not be soon."""
        with self._awaited.changed:
            self._awaited.changed.wait_for(lambda: self.ready or bool(self._trouble), timeout_s)
            return self.ready

    def _tell(self, who: str, error: Exception) -> None:
        told = error.message if isinstance(error, VireoError) else f"{type(error).__name__}: {error}"
        if self._trouble.get(who) != told and not self._stop.is_set():
            log.warning("collection %s: %s; it is tried again", self.name, told,
                        exc_info=None if isinstance(error, VireoError) else error)  # fmt: skip
            self._trouble[who] = told
            with self._awaited.changed:
                self._awaited.changed.notify_all()

    # Snapshots, by a thread of their own.

    def _publish(self) -> None:
        assert self._every_s is not None
        pause_s = self._every_s
        while not self._stop.wait(pause_s):
            pause_s = self._every_s
            for each in list(self._partitions.values()):
                if self._stop.is_set():
                    return
                try:
                    each.publish()
                    self._trouble.pop("snapshot", None)
                except Exception as error:
                    self._tell("snapshot", error)
                    pause_s = min(self._every_s, SNAPSHOT_RETRY_S)

    def close(self) -> None:
        """Ends what it does; the next start goes on from the last manifest."""
        self._stop.set()
        for each in self._threads:
            each.join()
        topic, self._topic = self._topic, None
        if topic is not None:
            for partition in self._partitions.values():
                partition.close()
            topic.close()
