"""The background work of one collection: seals what is full, indexes what grows, merges, compacts, rebuilds, and lets the log go.

One step at a time, by its own thread or by whoever calls `step`. Reads and writes go on meanwhile; what a step makes counts from
the commit of a manifest. A step that fails (a full disk) is told in `problem` and tried again later.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from engine.clock import Clock, monotonic
from engine.errors import VireoError
from engine.limits import INTERPRETER_SWITCH_S_MAX
from engine.log.disk import Disk
from engine.log.log import Offsets
from engine.vectors.build_process import PROCESSES, WORTH_BYTES
from engine.vectors.building import Codebooks, SegmentOrder, make_segment
from engine.vectors.codebook import Codebook
from engine.vectors.declaration import CollectionSpec
from engine.vectors.dense_rows import readable
from engine.vectors.directory import Directory
from engine.vectors.faiss_index import build_index
from engine.vectors.fold import Fold
from engine.vectors.growing import GrowingSegment
from engine.vectors.index import IndexChoice
from engine.vectors.merge_policy import LONG_SETTLED_SHARE, Drop, Facts, Merge, SegmentFacts, next_action
from engine.vectors.places import rows_of
from engine.vectors.sealed import SealedPart, vector_names
from engine.vectors.segment import SealedSegment
from engine.vectors.view import Bits, Living, Longs, Part

log = logging.getLogger("vireo.vectors")

IDLE_S: Final = 1.0
"""Without writes for so long a collection settles: what grows is sealed, small segments are merged."""
LONG_IDLE_S: Final = 10.0
"""Without writes for so long even a hundredth of the rows is merged into the others."""
HEAD_ROWS: Final = 1_024
"""Growing rows are indexed in memory by so many more: scanning 1,024 x 384 takes 27 µs, an index search of 8,192 rows 16."""
REPLAY_ROWS_MAX: Final = 65_536
"""Entries of the log that a restart reads again, about: deletes and changes count, though few rows grow."""
BACKOFF_S: Final = (0.2, 1.0, 5.0, 30.0)
_SLICE_ROWS: Final = 4_096
_NICE: Final = 10


class Kept(Protocol):
    """What an indexer does to the log that its fold follows."""

    def sync(self) -> None:
        """Returns when the disk has all that was appended."""

    def truncate(self, before: Offsets) -> None:
        """See `Log.truncate`."""


class Indexer:
    """See the module. `fold`, `log_` and `spec` may be replaced while `lock` is held, which every step does."""

    def __init__(self, name: str, directory: Directory, fold: Fold, log_: Kept, clock: Clock = monotonic) -> None:
        self.lock = threading.RLock()
        self.fold = fold
        self.log = log_
        self.problem: str | None = None
        self._name = name
        self._directory = directory
        self._clock = clock
        self._codebooks = self._known_codebooks()
        self._changed = threading.Condition()
        self._urgent = 0
        self._resting = False
        self._dirty = False
        """There may be work that the step which runs has not seen."""
        self._owed = False
        """Parts were replaced, and no commit has said so yet."""
        self._stopping = False
        self._last_write_ns = clock()
        self._thread: threading.Thread | None = None

    def _known_codebooks(self) -> Codebooks:
        files = dict(self._directory.manifest.codebooks)
        known = {name: Codebook.decoded(self._directory.codebook(name), each.file) for name, each in files.items()}
        return Codebooks(self._directory.new_codebook, files, known)

    # The thread.

    def start(self) -> None:
        """Works by itself from now on. No thread of the process keeps the interpreter for long then: a search waits for it."""
        if sys.getswitchinterval() > INTERPRETER_SWITCH_S_MAX:
            sys.setswitchinterval(INTERPRETER_SWITCH_S_MAX)
        self._thread = threading.Thread(target=self._run, name=f"vireo-index-{self._name}", daemon=True)
        self._thread.start()

    def wrote(self) -> None:
        """Something was written: there may be work."""
        self._last_write_ns = self._clock()
        if self._resting or self.fold.full or self._head_wanted():
            self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._resting, self._dirty = False, True
            self._changed.notify_all()

    def wait_for_room(self, full_max: int, timeout_s: float | None) -> bool:
        """Returns when fewer than `full_max` full segments wait to be sealed; False after `timeout_s`."""
        if len(self.fold.full) < full_max:
            return True
        self._wake()
        with self._changed:
            return self._changed.wait_for(lambda: len(self.fold.full) < full_max or self._stopping, timeout_s)

    def settle(self, timeout_s: float) -> bool:
        """Works as if nothing was written any more, until nothing is left to do; False after `timeout_s`."""
        if self._thread is None:
            while self.step(idle=True, long=True):
                pass
            return self.problem is None
        with self._changed:
            self._urgent += 1
            self._resting, self._dirty = False, True
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._resting or self._stopping, timeout_s)
            finally:
                self._urgent -= 1

    def stop(self) -> None:
        """Ends after the step that runs."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # of this thread alone, on Linux
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        failures = 0
        while not self._stopping:
            self._dirty = False
            try:
                worked = self.step(idle=self._idle_for(IDLE_S), long=self._idle_for(LONG_IDLE_S))
                failures, self.problem = 0, None
            except Exception as error:  # the thread must live on
                worked = False
                failures += 1
                self._tell(error)
            with self._changed:
                self._changed.notify_all()
                if failures:
                    self._changed.wait(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])
                elif worked or self._dirty or self._stopping:
                    continue
                elif self._idle_for(LONG_IDLE_S):
                    self._resting = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: not self._resting or self._stopping)
                else:
                    self._changed.wait(IDLE_S)

    def _idle_for(self, seconds: float) -> bool:
        return self._urgent > 0 or self._clock() - self._last_write_ns >= seconds * 1e9

    def _tell(self, error: Exception) -> None:
        told = error.message if isinstance(error, VireoError) else repr(error)
        if told != self.problem:
            log.warning("collection %s: background work failed, it is tried again: %s", self._name, told,
                        exc_info=None if isinstance(error, VireoError) else error)  # fmt: skip
        self.problem = told

    @property
    def busy(self) -> bool:
        """Whether there is, or may be, something to do."""
        return not self._resting

    # Steps.

    def step(self, *, idle: bool = False, long: bool = False) -> bool:
        """Does the most urgent thing; False where nothing is to be done. `idle`: nothing was written lately; `long`: for long.
        Raises ResourceExhausted, Unavailable."""
        with self.lock:
            fold = self.fold
            if self._stopping:
                return False
            fold.check_whole()
            if self._owed:
                self.commit()
                return True
            if full := fold.full:
                self._seal(full[0])
                return True
            if self._head_wanted():
                self._index_head(fold.growing)
                return True
            if (idle and fold.growing.rows >= self._sealed_from(long=long)) or self._replay_is_long():
                fold.turn()
                if not fold.full:
                    self.commit()
                return True
            return self._reshape(idle=idle, long=long)

    def _sealed_from(self, *, long: bool) -> int:
        """Growing rows worth a segment in idle times."""
        sealed = sum(each.count for each in self.fold.sealed)
        return max(1, min(HEAD_ROWS, int(LONG_SETTLED_SHARE * sealed))) if long and sealed else HEAD_ROWS

    def _replay_is_long(self) -> bool:
        return self.fold.view.offset - self._directory.manifest.replay_from > REPLAY_ROWS_MAX

    def _reshape(self, *, idle: bool, long: bool) -> bool:
        sealed = self.fold.sealed
        files = {name: each.file for name, each in self._codebooks.files.items()}
        facts = [
            SegmentFacts(each.part.key, each.part.rows, each.count, part.stale(files), part.column_bytes)
            for each, part in zip(sealed, map(_part, sealed), strict=True)
        ]
        action = next_action(Facts(facts, 0, self.fold.spec.growing_rows, idle, long=long))
        if isinstance(action, Drop):
            self._owed = True
            for key in action.numbers:
                self.fold.merge({key: np.empty(0, np.int64)}, None)
            self.commit()
        elif isinstance(action, Merge):
            self._merge([each for each in sealed if each.part.key in action.numbers])
        return action is not None

    def _seal(self, segment: GrowingSegment, *, though_dead: bool = False) -> None:
        """All its rows, dead ones too: its points stay where they are. If none lives it is dropped, unless `though_dead`."""
        held = self.fold.view.part(segment.key)
        assert held is not None
        if not held.count and not though_dead:
            self._owed = True
            self.fold.merge({segment.key: np.empty(0, np.int64)}, None)
            self.commit()
            return
        ends = (segment.first, self.fold.next_first(segment))
        with self._made(ends, given=held.part) as (number, sealed):
            part = SealedPart(segment.key, number, sealed, self.fold.spec)
        self._owed = True
        self.fold.seal(part)
        self.commit()

    def _merge(self, parts: list[Living]) -> None:
        rows = {each.part.key: rows_of(each.alive, each.part.rows) for each in parts}
        segments = [_part(each).segment for each in parts]
        ends = min(each.description.first for each in segments), max(each.description.next for each in segments)
        with self._made(ends, list(zip(segments, rows.values(), strict=True))) as (number, sealed):
            merged = SealedPart(self.fold.new_key(), number, sealed, self.fold.spec)
        self._owed = True
        self.fold.merge(rows, merged)
        self.fold.settle(merged)
        self.commit()

    @contextmanager
    def _made(
        self, ends: tuple[int, int], sources: Sequence[tuple[SealedSegment, Longs]] = (), given: Part | None = None
    ) -> Iterator[tuple[int, SealedSegment]]:
        """A new segment and its number, of chosen rows of others and of all that are given: beside this process, if it is worth
        it. It is deleted if it can't be made, or used."""
        number = self._directory.reserve()
        try:
            order = SegmentOrder(self._directory.segment_folder(number), self.fold.spec, *ends, sources)
            batches = () if given is None else _slices(given)
            sealed = None
            if self._beside(sources, given):
                sealed = PROCESSES.make_segment(order, batches, self._codebooks)
            if sealed is None:
                sealed = make_segment(order, batches, self._codebooks, self._directory.disk)
            self._directory.add(number, sealed)
            yield number, sealed
        except BaseException:
            self._directory.discard(number)
            raise

    def _beside(self, sources: Sequence[tuple[SealedSegment, Longs]], given: Part | None) -> bool:
        if self._thread is None or type(self._directory.disk) is not Disk:
            return False  # what calls `step` itself works in its own thread; another disk is here only
        dense = sum(4 * each.size for each in self.fold.spec.vectors.values())
        size_bytes = sum(len(rows) * each.row_bytes() for each, rows in sources)
        return size_bytes + (0 if given is None else given.rows * dense) >= WORTH_BYTES

    def commit(
        self, alive: Mapping[int, Bits | None] | None = None, *, replay_from: int | None = None,
        spec: CollectionSpec | None = None, log_folder: str | None = None,
    ) -> None:  # fmt: skip
        """Makes the sealed parts the state, as they are now or with these alive rows by their keys, and truncates the log."""
        with self.fold.lock:
            self.fold.check_whole()
            sealed = self.fold.sealed
            place = self.fold.replay_from if replay_from is None else replay_from
        self.log.sync()  # else, where appends are not synced, a power cut could leave who is alive from later than the log
        bits = {_part(each).number: each.alive if alive is None else alive[each.part.key] for each in sealed}
        self._directory.commit(
            bits, replay_from=place, codebooks=self._codebooks.files, spec=spec or self.fold.spec, log_folder=log_folder
        )
        self._owed = False
        if log_folder is None:
            self.log.truncate({0: place})

    def flush(self) -> None:
        """Seals all that is there and commits exactly that: later writes are neither in it nor deduced from it."""
        with self.lock:
            alive, offset = self.fold.turn()
            while full := self.fold.full:
                if full[0].first >= offset:
                    break
                lived = alive[full[0].key]
                self._seal(full[0], though_dead=lived is None or bool(lived.any()))  # a later write is not in it
            self.commit(_only(alive, self.fold), replay_from=offset)

    # The index of what grows.

    def _head_wanted(self) -> bool:
        growing = self.fold.growing
        names = [each for each in tuple(self._codebooks.known) if self._head_allowed(each)]  # others may be trained now
        return any(growing.rows - growing.heads.get(each, (None, 0))[1] >= HEAD_ROWS for each in names)

    def _head_allowed(self, name: str) -> bool:
        spec = self.fold.spec.vectors.get(name)
        if spec is None or spec.multi or spec.stored == "binary" or spec.index.kind not in ("auto", "pq", "ivf_pq"):
            return False  # the codebook is of what it was before an alteration
        return self._codebooks.known[name].size == spec.size

    def _index_head(self, growing: GrowingSegment) -> None:
        held = self.fold.view.part(growing.key)
        if held is None:
            return
        part = held.part
        rows = part.rows // HEAD_ROWS * HEAD_ROWS
        if not rows:
            return  # a write is under way that the view does not show yet
        for name in vector_names(self.fold.spec):
            if name in self._codebooks.known and self._head_allowed(name):
                metric = self.fold.spec.vectors[name].metric
                index = build_index(
                    readable(part.dense(name), rows), IndexChoice("pq"), metric, self._codebooks.known[name]
                )
                growing.heads[name] = (index, rows)
        self.fold.show_heads()


def _slices(part: Part) -> Iterator[pa.RecordBatch]:
    for begin in range(0, part.rows, _SLICE_ROWS):
        yield part.points(np.arange(begin, min(part.rows, begin + _SLICE_ROWS)))


def _part(living: Living) -> SealedPart:
    assert isinstance(living.part, SealedPart)
    return living.part


def _only(alive: Mapping[int, Bits | None], fold: Fold) -> dict[int, Bits | None]:
    return {each.part.key: alive[each.part.key] for each in fold.sealed}
