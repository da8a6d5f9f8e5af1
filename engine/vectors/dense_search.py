"""Nearest vectors of a view: candidates from indexes, exact scores of what is stored, the best over all parts.

A search loops over what was worked out once for a view and a vector. Each part gives its own candidates, which are scored exactly
at once: scoring 40 more rows takes 3 µs, pooling them first would take as long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.vectors.filter import Filter
from engine.vectors.index import VectorIndex
from engine.vectors.planner import Plan, plan
from engine.vectors.view import Bits, Living, Longs, Singles, View
from kernels.bitsets import bitset_bytes, count, count_both, fill_range, intersect
from kernels.ranking import offer_part, settle
from kernels.scoring import DOT, HAMMING, L2, best_of_rows, best_of_set

_NO_BITS: Final = np.empty(0, np.uint8)
_NO_SCALE: Final = np.empty(0, np.float32)
_PLANS_MAX: Final = 64
Best = tuple[Singles, Longs]


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """A part as the loop wants it. `alive` is empty where all rows are, `every` then says so of each. `unit`: queries are
    multiplied by it, since signs have length sqrt(d) and a cosine is of vectors of length 1."""

    living: Living
    index: VectorIndex | None
    indexed: int
    data: npt.NDArray[Any]
    scales: Singles
    metric: int
    alive: Bits
    every: Bits
    rows: int
    count: int
    unit: float


class _Room(threading.local):
    """Arrays of one thread, by size."""

    def __init__(self) -> None:
        self.pairs: dict[int, tuple[Singles, Longs]] = {}

    def pair(self, size: int, which: int) -> tuple[Singles, Longs]:
        key = 2 * size + which
        if (found := self.pairs.get(key)) is None:
            if len(self.pairs) > 32:
                self.pairs.clear()
            found = self.pairs[key] = (np.empty(size, np.float32), np.empty(size, np.int64))
        return found


_room = _Room()


class DenseSearch:
    """Of one vector in one view; `of` gives it. Immutable; any thread."""

    def __init__(self, view: View, name: str) -> None:
        self._spec = view.spec.vectors[name]
        self.is_distance = self._spec.metric == "l2"
        """Whether scores are negative squares of distances."""
        self._total = max(1, view.count)
        self._plans: dict[tuple[int, int | None, bool], tuple[Plan, ...]] = {}
        self._slots = tuple(
            (at, _slot(each, name, self._spec.metric)) for at, each in enumerate(view.parts) if each.count
        )

    @classmethod
    def of(cls, view: View, name: str) -> DenseSearch:
        """Worked out once."""
        found: DenseSearch | None = view.derived.get(("dense", name))
        if found is None:
            found = view.derived["dense", name] = cls(view, name)
        return found

    def best(
        self, query: Singles, k: int, *, candidates: int | None = None, filter_: Filter | None = None,
        exact: bool = False, told: list[str] | None = None,
    ) -> Best:  # fmt: skip
        """The k nearest: scores as of `kernels.scoring`, and places: a part's position in the view << 32 | the row; best first,
        fewer where there are no more. `candidates`: None is the plan's. `told`: gets a line a part."""
        best_scores, best_places = np.empty(k, np.float32), np.empty(k, np.int64)
        scores, rows = _room.pair(k, 0)
        size = 0
        for at, slot, bits, survivors, decided in self._planned(k, candidates, filter_, exact):
            asked = query if slot.unit == 1 else query * np.float32(slot.unit)
            near = None if decided.scan else _near(slot, asked.reshape(1, -1), decided, bits)[0]
            if told is not None:
                told.append(decided.told(slot.living.part.name, slot.rows, survivors))
            found = _in_part(slot, asked, near, bits, survivors, scores, rows, told)
            size = offer_part(scores[:found], rows[:found], at, _NO_BITS, best_scores, best_places, size)
        settle(best_scores, best_places, size)
        return best_scores[:size], best_places[:size]

    def best_of_each(
        self, queries: Singles, k: int, *, candidates: int | None = None, filter_: Filter | None = None,
        exact: bool = False,
    ) -> list[Best]:  # fmt: skip
        """As `best` of each of `queries` [q, d], which an index is asked for at once: of 32 each took 90 µs instead of 112, with
        half of the rows selected 98 instead of 150 (105,893 x 384 of `pq`)."""
        many = len(queries)
        best_scores, best_places = np.empty((many, k), np.float32), np.empty((many, k), np.int64)
        scores, rows = _room.pair(k, 0)
        sizes = [0] * many
        for at, slot, bits, survivors, decided in self._planned(k, candidates, filter_, exact):
            asked = queries if slot.unit == 1 else queries * np.float32(slot.unit)
            near = None if decided.scan else _near(slot, asked, decided, bits)
            for nth in range(many):
                found = _in_part(slot, asked[nth], None if near is None else near[nth], bits, survivors, scores, rows)
                sizes[nth] = offer_part(
                    scores[:found], rows[:found], at, _NO_BITS, best_scores[nth], best_places[nth], sizes[nth]
                )
        for nth, size in enumerate(sizes):
            settle(best_scores[nth], best_places[nth], size)
        return [(best_scores[nth, :size], best_places[nth, :size]) for nth, size in enumerate(sizes)]

    def _planned(
        self, k: int, candidates: int | None, filter_: Filter | None, exact: bool
    ) -> Iterator[tuple[int, _Slot, Bits, int, Plan]]:
        """Of each part: its position, itself, the rows that may be found, how many, and the plan."""
        if filter_ is None:
            for (at, slot), decided in zip(self._slots, self._plans_of(k, candidates, exact), strict=True):
                yield at, slot, slot.every, slot.count, decided
            return
        for at, slot in self._slots:
            bits, survivors = _chosen(slot, filter_)
            yield at, slot, bits, survivors, self._plan(slot, survivors, k, candidates, exact)

    def _plans_of(self, k: int, candidates: int | None, exact: bool) -> tuple[Plan, ...]:
        """Without a filter they are always the same."""
        key = (k, candidates, exact)
        if (found := self._plans.get(key)) is None:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            found = tuple(self._plan(slot, slot.count, k, candidates, exact) for _, slot in self._slots)
            self._plans[key] = found
        return found

    def _plan(self, slot: _Slot, survivors: int, k: int, candidates: int | None, exact: bool) -> Plan:
        return plan(
            rows=slot.indexed, tail=slot.rows - slot.indexed, survivors=survivors, alive=slot.count, total=self._total, k=k,
            candidates=candidates or self._spec.index.candidates, size=self._spec.size,
            filtered=survivors < slot.count, indexed=slot.index is not None and not exact,
        )  # fmt: skip


def _near(slot: _Slot, queries: Singles, decided: Plan, bits: Bits) -> Longs:
    """Candidates for each query, [q, candidates], -1 where there are fewer."""
    assert slot.index is not None
    selected = bits[: bitset_bytes(slot.indexed)] if decided.selects else None
    return slot.index.search(queries, decided.candidates, selected)[1]


def _in_part(
    slot: _Slot, query: Singles, near: Longs | None, bits: Bits, survivors: int, scores: Singles, rows: Longs,
    told: list[str] | None = None,
) -> int:  # fmt: skip
    """Of the candidates `near`, or of all where it is None; how many were found: there are min(k, survivors)."""
    if not survivors:
        return 0
    if near is not None:
        found = _of_candidates(slot, query, near, bits, survivors < slot.count, scores, rows)
        if found == len(scores) or found >= survivors:
            return found
        if told is not None:
            told.append(f"{slot.living.part.name}: the index found too few, all {survivors} rows are scored")
    return int(best_of_set(slot.data, query, slot.scales, slot.metric, slot.rows, bits, scores, rows))


def _of_candidates(
    slot: _Slot, query: Singles, near: Longs, bits: Bits, filtered: bool, scores: Singles, rows: Longs
) -> int:
    alive = slot.alive if not filtered else bits
    found: int = best_of_rows(slot.data, query, slot.scales, slot.metric, near, alive, scores, rows)
    # what an index left out is not made up for by rows past it
    if slot.indexed == slot.rows or (found < len(scores) and found < count(bits[: bitset_bytes(slot.indexed)])):
        return found
    return _with_tail(slot, query, bits, scores, rows, found)


def _with_tail(slot: _Slot, query: Singles, bits: Bits, scores: Singles, rows: Longs, found: int) -> int:
    """Rows past the index are scanned; the index's rows are whole bytes of the bitset."""
    begin = slot.indexed
    tail_scores, tail_rows = _room.pair(len(scores), 1)
    more = best_of_set(
        slot.data[begin:], query, slot.scales, slot.metric, slot.rows - begin, bits[begin >> 3 :], tail_scores, tail_rows
    )  # fmt: skip
    both_scores = np.concatenate([scores[:found], tail_scores[:more]])
    both_rows = np.concatenate([rows[:found], tail_rows[:more] + begin])
    size = offer_part(both_scores, both_rows, 0, _NO_BITS, scores, rows, 0)
    settle(scores, rows, size)
    return int(size)


def _chosen(slot: _Slot, filter_: Filter | None) -> tuple[Bits, int]:
    """Living rows that pass, and how many."""
    if filter_ is None:
        return slot.every, slot.count
    passing = slot.living.part.passing(filter_)
    if not len(slot.alive):
        survivors = int(count(passing))
        return (slot.every if survivors == slot.rows else passing), survivors
    survivors = int(count_both(passing, slot.alive))
    bits = np.empty_like(passing)
    intersect(passing, slot.alive, bits)
    return bits, survivors


def _slot(living: Living, name: str, metric: str) -> _Slot:
    part = living.part
    dense = part.dense(name)
    index, indexed = part.indexed(name)
    kind = HAMMING if dense.stored == "binary" and metric == "l2" else L2 if metric == "l2" else DOT
    every = living.alive
    if every is None:
        every = np.zeros(bitset_bytes(part.rows), np.uint8)
        fill_range(every, 0, part.rows)
    return _Slot(
        living, index, indexed, dense.plain, _NO_SCALE if dense.scale is None else dense.scale, kind,
        _NO_BITS if living.alive is None else living.alive, every, part.rows, living.count,
        dense.size**-0.5 if dense.stored == "binary" and metric == "cosine" else 1.0,
    )  # fmt: skip
