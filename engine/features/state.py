"""A view's state: every entity's windows, folded by one writer from chunks of a log and read by any number of threads.

It lives in reserved address space that the operating system fills when it is touched, so it grows without moving; only the
index is replaced when it gets full, beside the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import InvalidArgument, quoted
from engine.features.events import TextCodes, events_of
from engine.features.layout import layout_of
from engine.features.pool import Pool
from engine.features.state_reads import Memory, StateReads, Words
from engine.features.verdicts import Counts, dead_letters
from engine.features.view import ColumnKind, View
from engine.kernel_parts import FEATURE_KERNELS, compile_kernels
from engine.log.log import Chunk, DeadLetter
from kernels import entities, ingest, record
from kernels.ingest import NO_WATERMARK

_TABLE_WORDS = 1 << 10
_EVICTED_SHARE = 0.05
_SHRINK_RECORDS_MIN = 1 << 16


class FeatureState(StateReads):
    """One writer thread calls `ingest` and `dump`; `lookup` and the totals are for any thread."""

    def __init__(self, view: View) -> None:
        layout = layout_of(view)
        super().__init__(view, layout)
        plan = layout.plan
        room = view.entities_max + 64
        self._hot, self._cold = Pool(plan.sizes[0], room), Pool(plan.sizes[1], room)
        self._control = np.zeros(record.CONTROL_WORDS, np.int64)
        self._control[record.M_ENTITIES_MAX // 8] = view.entities_max
        self._publish(np.zeros(_TABLE_WORDS, np.uint64), *self._id_set(_TABLE_WORDS))
        self.texts = {
            number: TextCodes() for number, each in enumerate(view.columns) if each.text and _coded(each.kind)
        }
        self.offsets: dict[int, int] = {}
        self.watermarks: dict[int, int] = {}
        self._least_us = NO_WATERMARK
        self.counts = Counts()

    def _id_set(self, words: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        return np.zeros(words, np.uint64), np.zeros(words, np.int64)

    def _publish(self, index: Words, ids: Words, times: npt.NDArray[np.int64]) -> None:
        """Readers that come from now on use this index; those that find nothing in an old one look again."""
        control = self._control
        words = np.array([
            index.ctypes.data, len(index), control.ctypes.data, self._hot.address, self._cold.address, ids.ctypes.data,
            times.ctypes.data, len(ids),
        ], np.int64)  # fmt: skip
        memory = Memory(index, ids, times, words, int(words.ctypes.data))
        self._published = memory, int(control[record.M_GENERATION // 8]) + 1
        control[record.M_GENERATION // 8] += 1

    @property
    def _memory(self) -> Memory:
        return self._published[0]

    @property
    def entities(self) -> int:
        """Entities held."""
        return int(self._control[record.M_ENTITIES // 8])

    @property
    def bytes(self) -> int:
        """Memory in use, about."""
        memory, control = self._memory, self._control
        pools = self._hot.size * control[record.M_HOT_USED // 8] + self._cold.size * control[record.M_COLD_USED // 8]
        return int(pools) + memory.index.nbytes + memory.ids.nbytes + memory.id_times.nbytes

    # Writing.

    def ingest(self, chunk: Chunk) -> list[DeadLetter]:
        """Folds a chunk, and then stands at its end; its dead letters, those of the chunk itself included."""
        dead = list(chunk.dead)
        self.counts.dead += len(dead)
        if chunk.batch.num_rows:
            dead += self._fold(chunk)
        self.offsets[chunk.partition] = chunk.next
        return dead

    def _fold(self, chunk: Chunk) -> list[DeadLetter]:
        events = events_of(self.view, chunk.batch, chunk.appended_us, self.texts)
        verdicts = np.zeros(events.rows, np.uint8)
        watermark = np.array([self.watermarks.get(chunk.partition, NO_WATERMARK)], np.int64)
        done = 0
        while True:
            done = ingest.ingest(
                self._plan, self._memory.address, events.sources.ctypes.data, verdicts, watermark, done
            )
            if watermark[0] != NO_WATERMARK:
                self._hold(chunk.partition, int(watermark[0]))
            if done == events.rows:
                break
            self._grow()
        self._shrink()
        return self._count(chunk, verdicts)

    def _count(self, chunk: Chunk, verdicts: npt.NDArray[np.uint8]) -> list[DeadLetter]:
        counts = self.counts
        if not verdicts.any():
            counts.applied += len(verdicts)
            return []
        tally = np.bincount(verdicts, minlength=record.OUT_OF_TIME + 1)
        counts.applied += int(tally[record.APPLIED])
        counts.duplicates += int(tally[record.DUPLICATE])
        counts.filtered += int(tally[record.FILTERED])
        counts.late += int(tally[record.LATE])
        dead = dead_letters(self.view, chunk, verdicts)
        counts.dead += len(dead)
        return dead

    def _grow(self) -> None:
        """Makes room where there is none. When that happens depends on the events alone, so a replay does the same."""
        control, memory = self._control, self._memory
        if control[record.M_ENTITIES // 8] >= control[record.M_ENTITIES_MAX // 8]:
            self._replace_index(self._oldest_us(), evict=True)
        elif control[record.M_INDEXED // 8] >= memory.index.shape[0] * 3 // 4:
            self._replace_index(self._oldest_us(), evict=False)
        else:
            self._replace_ids()

    def _shrink(self) -> None:
        """Gives memory of cold records back when most of it is free, as it is when most entities have become hot."""
        control, pool = self._control, self._cold
        used = int(control[record.M_COLD_USED // 8])
        if used < _SHRINK_RECORDS_MIN or self._cold_records() * 2 > used:
            return
        pool.give_back(entities.close_cold_ranks(self._plan, self._memory.address), used)

    def _cold_records(self) -> int:
        """Cold records that are somebody's: entities that are not hot."""
        control = self._control
        return int(control[record.M_ENTITIES // 8] - control[record.M_HOT_LIVE // 8])

    def _hold(self, partition: int, watermark_us: int) -> None:
        """A partition's watermark is this from now on."""
        self.watermarks[partition] = watermark_us
        self._least_us = self._least_watermark() - self.view.lateness_us

    def _least_watermark(self) -> int:
        return min(self.watermarks.values(), default=NO_WATERMARK)

    def _oldest_us(self) -> int:
        """Entities whose newest event is older begin anew with whatever may still come, so nothing is lost with them."""
        return self._least_watermark() - self.view.lateness_us - min(self.view.ttl_us, 1 << 61)

    def _replace_index(self, oldest_us: int, *, evict: bool) -> None:
        """A new index without the entities older than `oldest_us`; with `evict`, at least a twentieth is let go of."""
        memory = self._memory
        times = np.empty(self.entities, np.int64)
        entities.newest_times(self._plan, memory.address, times)
        if evict:
            share = max(1, int(len(times) * _EVICTED_SHARE))
            youngest_us = int(np.partition(times, share - 1)[share - 1]) + 1
            self.counts.forgotten += max(0, int((times < youngest_us).sum() - (times < oldest_us).sum()))
            oldest_us = max(oldest_us, youngest_us)
        live = int((times >= oldest_us).sum())
        index = np.zeros(_table_words(live, 3 / 8), np.uint64)
        kept = entities.rebuild_index(self._plan, memory.address, index, oldest_us)
        self._publish(index, memory.ids, memory.id_times)
        entities.free_older(self._plan, memory.address, oldest_us)
        self._control[record.M_ENTITIES // 8] = self._control[record.M_INDEXED // 8] = kept

    def _replace_ids(self) -> None:
        """A new set of event ids without those too old to come again."""
        memory = self._memory
        oldest_us = self._least_watermark() - self.view.lateness_us
        live = int(((memory.ids != 0) & (memory.id_times >= oldest_us)).sum())
        ids, times = self._id_set(_table_words(live, 3 / 8))
        kept = ingest.keep_ids(memory.address, ids, times, oldest_us)
        self._publish(memory.index, ids, times)
        self._control[record.M_IDS // 8] = kept

    # Snapshots.

    def dump(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The whole state as named batches over the live memory: write them before the next `ingest`."""
        control, memory = self._control, self._memory
        yield "control", _column("control", control)
        counts = {key: [value] for key, value in asdict(self.counts).items()}
        yield "counts", pa.RecordBatch.from_pydict(counts)
        partitions = sorted(self.offsets)
        yield "partitions", pa.RecordBatch.from_pydict({
            "partition": pa.array(partitions, pa.int64()),
            "offset": pa.array([self.offsets[each] for each in partitions], pa.int64()),
            "watermark": pa.array([self.watermarks.get(each, NO_WATERMARK) for each in partitions], pa.int64()),
        })  # fmt: skip
        yield "ids", pa.RecordBatch.from_arrays([pa.array(memory.ids), pa.array(memory.id_times)], ["id", "time"])
        for number, codes in sorted(self.texts.items()):
            yield f"texts/{number}", _column("text", pa.array(codes.texts, pa.string()))
        for name, pool, used in (("cold", self._cold, record.M_COLD_USED), ("hot", self._hot, record.M_HOT_USED)):
            whole = pool.used(int(control[used // 8]))
            for start in range(0, len(whole), _PART_BYTES):
                yield name, _column("bytes", whole[start : start + _PART_BYTES])

    @classmethod
    def load(cls, view: View, parts: Iterable[tuple[str, pa.RecordBatch]]) -> FeatureState:
        """The state that `dump` gave. Raises InvalidArgument where the parts are not those of such a view."""
        state = cls(view)
        filled = {"cold": 0, "hot": 0}
        for name, batch in parts:
            if name in filled:
                filled[name] += state._fill(name, filled[name], batch)
            else:
                state._load_part(name, batch)
        state._check(filled)
        return state

    def _fill(self, name: str, at: int, batch: pa.RecordBatch) -> int:
        content = batch.column(0).to_numpy()
        pool = self._hot if name == "hot" else self._cold
        if at + len(content) > len(pool.bytes):
            raise InvalidArgument(
                f"feature view {quoted(self.view.name)}: the snapshot has more than {self.view.entities_max} entities"
            )
        pool.bytes[at : at + len(content)] = content
        return len(content)

    def _load_part(self, name: str, batch: pa.RecordBatch) -> None:
        if name == "control":
            self._control[:] = batch.column(0).to_numpy()
            self._control[record.M_ENTITIES_MAX // 8] = self.view.entities_max
        elif name == "counts":
            self.counts = Counts(*(batch.column(each.name)[0].as_py() for each in fields(Counts)))
        elif name == "partitions":
            for row in batch.to_pylist():
                self.offsets[row["partition"]] = row["offset"]
                if row["watermark"] != NO_WATERMARK:
                    self._hold(row["partition"], row["watermark"])
        elif name == "ids":
            ids, times = (batch.column(each).to_numpy().copy() for each in ("id", "time"))
            self._publish(self._memory.index, ids, times)
        elif name.startswith("texts/"):
            self.texts[int(name.removeprefix("texts/"))] = TextCodes(batch.column(0).to_pylist())

    def _check(self, filled: Mapping[str, int]) -> None:
        """Builds the index, and sees that all is there."""
        control = self._control
        used = {
            "hot": control[record.M_HOT_USED // 8] * self._hot.size,
            "cold": control[record.M_COLD_USED // 8] * self._cold.size,
        }
        if used != filled:
            raise InvalidArgument(
                f"feature view {quoted(self.view.name)}: the snapshot's records have {filled} bytes, not {used}"
            )
        index = np.zeros(_table_words(self.entities, 3 / 4), np.uint64)
        self._publish(index, self._memory.ids, self._memory.id_times)
        found = entities.index_pools(self._plan, self._memory.address)
        if found != control[record.M_ENTITIES // 8]:
            raise InvalidArgument(
                f"feature view {quoted(self.view.name)}: the snapshot has {found} entities, not {self.entities}"
            )
        control[record.M_INDEXED // 8] = found


_PART_BYTES = 64 << 20


def warm_kernels() -> None:
    """Has every kernel compiled (some half a minute, the first time on a machine) or loaded from where it is kept."""
    for each in FEATURE_KERNELS:
        compile_kernels(each)


def _table_words(entries: int, share: float) -> int:
    """The words of a table, a power of two, of which so many entries fill less than a share."""
    words = _TABLE_WORDS
    while entries >= words * share:
        words *= 2
    return words


def _coded(kind: ColumnKind) -> bool:
    return kind is ColumnKind.CODE


def _column(name: str, values: Any) -> pa.RecordBatch:  # noqa: ANN401  what pa.array takes
    return pa.RecordBatch.from_arrays([values if isinstance(values, pa.Array) else pa.array(values)], [name])
