"""A collection's state as a fold over its log: rows in, views out. Knows no threads but for one lock, no disk and no clock.

`apply` takes the log's entries in order, each as often as it likes: the last of an id says all about it. Between two of them
parts may be replaced by others of the same points (`seal`, `merge`): the points stay where the view says, and the view changes
from one whole state to the next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import Unavailable
from engine.vectors.declaration import CollectionSpec
from engine.vectors.growing import GrowingSegment
from engine.vectors.locations import Locations, by_part, id_column
from engine.vectors.places import SHIFT, among, rows_of
from engine.vectors.rows import DELETE, ID, OP, UPSERT, field_column
from engine.vectors.sealed import SealedPart
from engine.vectors.values import PointId
from engine.vectors.view import Bits, Living, Longs, Part, View
from kernels.bitsets import bitset_bytes, clear_rows, count, fill_range

GROWING_BYTES_MAX: Final = 256 << 20
"""What grows is sealed at some so many, however few the rows: Arrow's text ends at 2 GiB, of which an append may bring 64 MiB."""
_SLICE_ROWS: Final = 8_192


@dataclass(slots=True)
class _Held:
    """A part of the state. `alive` is replaced, never written to once a view has it; None is all."""

    part: Part
    alive: Bits | None
    count: int
    segment: GrowingSegment | None = None
    shown: Living | None = None
    """As the last view had it."""

    def living(self) -> Living:
        """As it is now: the same one while nothing of it has changed, so that what was worked out of it is used again."""
        if self.shown is None or self.shown.part is not self.part or self.shown.alive is not self.alive:
            self.shown = Living(self.part, self.alive, self.count)
        return self.shown


class Fold:
    """See the module. Any thread may call; each call is one step from a whole state to the next, or raises
    Unavailable once an entry could not be applied.

    `sealed`: parts with their alive bitsets. `offset`: the log's entry that is next.
    """

    def __init__(
        self, spec: CollectionSpec, sealed: Sequence[tuple[SealedPart, Bits | None]], offset: int, next_key: int
    ) -> None:
        self.spec = spec
        self.lock = threading.RLock()
        """Held while the state changes, and by who looks up ids and parts together."""
        self.broken: str | None = None
        """Why the state is not what the log says any more."""
        self._unsettled: SealedPart | None = None
        self._next_key = next_key
        self._locations = Locations(integer=spec.id == "integer", tenants=spec.tenant is not None)
        self._held: dict[int, _Held] = {}
        for part, alive in sealed:
            self._held[part.key] = _Held(part, alive, _count(part.rows, alive))
            self._place(part, alive)
        self._growing = self._new_growing(offset)
        self._publish(offset)

    def _place(self, part: Part, alive: Bits | None) -> None:
        rows = rows_of(alive, part.rows)
        for begin in range(0, len(rows), _SLICE_ROWS):
            some = rows[begin : begin + _SLICE_ROWS]
            ids, tenants = self._named(part, some)
            self._locations.put(ids, tenants, (part.key << SHIFT) | some)

    def _named(self, part: Part, rows: Longs) -> tuple[npt.NDArray[np.uint64] | pa.StringArray, pa.StringArray | None]:
        """The ids of some rows, and their tenants where there are any."""
        ids = part.ids
        chosen = ids[rows] if isinstance(ids, np.ndarray) else ids.take(pa.array(rows))
        return chosen, None if self.spec.tenant is None else part.column(self.spec.tenant).take(pa.array(rows))

    def new_key(self) -> int:
        """For a part to come."""
        with self.lock:
            self._next_key += 1
            return self._next_key - 1

    def _new_growing(self, first: int) -> GrowingSegment:
        """Grows from now on; it is in views once it has rows."""
        return GrowingSegment(self.new_key(), self.spec, first)

    # The log.

    def apply(self, batch: pa.RecordBatch, first: int, after: int | None = None) -> None:
        """Entries from offset `first` to before `after` (None: one a row), rows of `log_schema`; afterwards the view shows them,
        all at once. Where it fails, the view stays as it was, and so it does from then on."""
        with self.lock:
            self.check_whole()
            try:
                self._apply(batch, first, first + batch.num_rows if after is None else after)
            except BaseException as error:  # memory, an interrupt: half of it may be done
                self.broken = repr(error)
                raise

    def _apply(self, batch: pa.RecordBatch, first: int, after: int) -> None:
        assert first == self.view.offset, f"offset {first}, expected {self.view.offset}"
        if not batch.num_rows:
            self._publish(after)
            return
        dead = [
            self._upserted(points, bytes_size) if op == UPSERT else self._deleted(points)
            for op, points, bytes_size in runs(batch)
        ]
        self._refreeze()
        for key, rows in by_part(dead[0] if len(dead) == 1 else np.concatenate(dead)):
            _kill(self._held[key], rows)
        self._publish(after)
        if self._growing.rows >= self.spec.growing_rows or self._growing.bytes_size >= GROWING_BYTES_MAX:
            self._growing = self._new_growing(self.view.offset)

    def _keys_of(self, points: pa.RecordBatch) -> tuple[npt.NDArray[np.uint64] | pa.StringArray, pa.StringArray | None]:
        ids = points.column(ID)
        tenants = None if self.spec.tenant is None else points.column(field_column(self.spec.tenant))
        return (np.ascontiguousarray(ids.to_numpy()) if self.spec.id == "integer" else ids), tenants

    def _upserted(self, points: pa.RecordBatch, bytes_size: int | None) -> Longs:
        growing = self._growing
        begin = growing.rows
        growing.append(points, bytes_size)
        new = (growing.key << SHIFT) | np.arange(begin, growing.rows, dtype=np.int64)
        return self._locations.put(*self._keys_of(points), new)

    def _deleted(self, points: pa.RecordBatch) -> Longs:
        return self._locations.remove(*self._keys_of(points))

    def _refreeze(self) -> None:
        """The growing segment as it is now, its new rows alive."""
        growing = self._growing
        held = self._held.get(growing.key)
        if held is None:
            if growing.rows:
                self._held[growing.key] = _Held(growing.frozen(), None, growing.rows, growing)
            return
        before = held.part.rows
        held.part = growing.frozen()
        held.count += growing.rows - before
        if held.alive is not None:
            held.alive = _extended(held.alive, before, growing.rows)
            held.alive.flags.writeable = False

    def _publish(self, offset: int) -> None:
        self.view = View(self.spec, tuple(each.living() for each in self._held.values()), offset)

    # Questions.

    def check_whole(self) -> None:
        """Raises Unavailable where an entry could not be applied: views are right, but old, and nothing else is."""
        if self.broken is not None:
            raise Unavailable(f"what was written could not be shown, it must be opened anew: {self.broken}")

    @property
    def replay_from(self) -> int:
        """Below this offset every entry is in sealed parts."""
        with self.lock:
            return min([each.segment.first for each in self._held.values() if each.segment] + [self._growing.first])

    @property
    def growing(self) -> GrowingSegment:
        """The one that takes the next rows."""
        return self._growing

    @property
    def full(self) -> list[GrowingSegment]:
        """Those that grow no more and wait to be sealed, oldest first."""
        with self.lock:
            return [each.segment for each in self._held.values() if each.segment not in (None, self._growing)]

    @property
    def sealed(self) -> list[Living]:
        """Sealed parts."""
        return [each for each in self.view.parts if isinstance(each.part, SealedPart)]

    def locate(self, ids: Sequence[PointId] | npt.NDArray[np.uint64], tenant: str | None = None) -> tuple[View, Longs]:
        """A view, and where each id is in it, ABSENT where it is not."""
        column = id_column(ids, integer=self.spec.id == "integer")
        tenants = None if self.spec.tenant is None else pa.array([tenant] * len(ids), pa.string())
        with self.lock:
            self.check_whole()
            return self.view, self._locations.get(column, tenants)

    # Other parts for the same points.

    def turn(self) -> tuple[dict[int, Bits | None], int]:
        """The growing segment grows no more, if it has rows; else it begins at the newest offset. Gives who is alive now, by
        part, and that offset."""
        with self.lock:
            self.check_whole()
            self._growing = self._new_growing(self.view.offset)
            return {key: each.alive for key, each in self._held.items()}, self.view.offset

    def next_first(self, segment: GrowingSegment) -> int:
        """Where the segment after this one begins."""
        with self.lock:
            later = [each.first for each in (*self.full, self._growing) if each.first > segment.first]
            return min(later, default=self.view.offset)

    def show_heads(self) -> None:
        """Views from now on know of the indexes that growing segments got."""
        with self.lock:
            self.check_whole()
            for each in self._held.values():
                each.shown = None
            self._publish(self.view.offset)

    def seal(self, part: SealedPart) -> None:
        """A full segment is this part now, of the same key and rows."""
        with self.lock:
            self.check_whole()
            held = self._held[part.key]
            assert held.segment is not None
            assert held.part.rows == part.rows
            held.part, held.segment = part, None
            self._publish(self.view.offset)

    def merge(self, old: Mapping[int, Longs], part: SealedPart | None) -> None:
        """Parts `old` are one now, None where nobody lives in them: rows old[key][i] of each, those that lived when the merge
        began, in order. Who died since is dead in it too. `settle` is to be called afterwards."""
        if self._unsettled is not None:  # it failed half-way
            self.settle(self._unsettled)
        with self.lock:
            self.check_whole()
            gone = [self._died_since(key, rows, part) for key, rows in old.items()]
            first = next(iter(old))
            placed: dict[int, _Held] = {}
            for key, held in self._held.items():
                if key == first and part is not None:
                    placed[part.key] = _Held(part, None, part.rows)
                if key not in old:
                    placed[key] = held
            self._held = placed
            if part is not None:
                dead, base = [], 0
                for rows, lost in zip(old.values(), gone, strict=True):
                    dead.append(base + lost)
                    base += len(rows)
                _kill(placed[part.key], np.concatenate(dead))
                self._note_moves(old, part)
                self._unsettled = part
            self._publish(self.view.offset)

    def _died_since(self, key: int, rows: Longs, part: SealedPart | None) -> Longs:
        """Which places of `rows` are dead by now."""
        held = self._held[key]
        if part is None:
            assert held.count == 0, f"part {key} has {held.count} living rows"
        if held.alive is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(~among(held.alive, rows))

    def _note_moves(self, old: Mapping[int, Longs], part: SealedPart) -> None:
        base = 0
        for key, rows in old.items():
            moved = np.full(int(rows[-1]) + 1 if len(rows) else 0, -1, np.int32)
            moved[rows] = np.arange(base, base + len(rows), dtype=np.int32)
            self._locations.move(key, part.key, moved)
            base += len(rows)

    def settle(self, part: SealedPart) -> None:
        """Ids of a merged part are looked up directly from now on. Slice by slice: writes go on between."""
        for begin in range(0, part.rows, _SLICE_ROWS):
            rows = np.arange(begin, min(part.rows, begin + _SLICE_ROWS))
            ids, tenants = self._named(part, rows)
            with self.lock:
                self._locations.settle(ids, tenants)
        with self.lock:
            self._locations.settled()
            self._unsettled = None


def runs(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch, int | None]]:
    """Consecutive rows of one op, with their bytes where those are known at once."""
    ops = batch.column(OP).to_numpy()
    turns = (np.flatnonzero(ops[1:] != ops[:-1]) + 1).tolist() if len(ops) > 1 else []
    for begin, end in zip([0, *turns], [*turns, len(ops)], strict=True):
        op = int(ops[begin])
        assert op in (UPSERT, DELETE), op
        if turns:
            yield op, batch.slice(begin, end - begin), None
        else:
            yield op, batch, batch.get_total_buffer_size()


def _count(rows: int, alive: Bits | None) -> int:
    return rows if alive is None else int(count(alive))


def _extended(alive: Bits, before: int, rows: int) -> Bits:
    found = np.zeros(bitset_bytes(rows), np.uint8)
    found[: len(alive)] = alive
    fill_range(found, before, rows)
    return found


def _kill(held: _Held, rows: Longs) -> None:
    """In a copy: views keep theirs."""
    if not len(rows):
        return
    alive = _extended(np.empty(0, np.uint8), 0, held.part.rows) if held.alive is None else held.alive.copy()
    held.count -= clear_rows(alive, rows)
    alive.flags.writeable = False
    held.alive = alive
