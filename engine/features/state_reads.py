"""The reading half of a view's state: what any number of threads ask of it while its one writer goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import DataLoss, quoted
from engine.features.events import TextCodes
from engine.features.hashing import hash_keys
from engine.features.layout import Block, Layout
from engine.features.view import View
from kernels import lookup
from kernels.gather import NEVER_US, gather_features

Words = npt.NDArray[np.uint64]
Singles = npt.NDArray[np.float32]

_RETRIES_MAX = 1_000


@dataclass(slots=True)
class StateRows:
    """A lookup's answer: `values` f64 [n, features] (NaN: null; also for texts, which are in `texts` by the feature's position),
    `event_time_us` int64 [n] (0 where missing), `status` uint8 [n] (0 present, 1 missing, 2 stale); no row is of an
    instant before `least_us`."""

    values: npt.NDArray[np.float64]
    texts: Mapping[int, list[str | None]]
    event_time_us: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint8]
    least_us: int


@dataclass(frozen=True, slots=True)
class Reads:
    """What a lookup computes: so many features, by the block at `address`."""

    block: Block
    address: int
    features: int

    @staticmethod
    def of(block: Block, features: int) -> Reads:
        """Of a block."""
        return Reads(block, block.address, features)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is replaced when it must grow, and the block of words, at `address`, by which kernels find everything."""

    index: Words
    ids: Words
    id_times: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    address: int


class StateReads:
    """Any thread. The writer's half fills `_published` and `_least_us`, each replaced at once."""

    _published: tuple[Memory, int]
    _least_us: int
    texts: dict[int, TextCodes]

    def __init__(self, view: View, layout: Layout) -> None:
        self.view = view
        self._layout = layout
        self._plan = layout.plan.address
        self._reads: dict[tuple[int, ...] | None, Reads] = {None: Reads.of(layout.reads, len(view.features))}

    def lookup(
        self, keys: pa.Array, as_of_us: npt.NDArray[np.int64] | int, features: Sequence[int] | None = None
    ) -> StateRows:
        """The features (all of them, or by number) of n entities as of an instant each, or one for all.

        `keys` has the entity column's type and no nulls. Expression features are NaN: they are computed from the others.
        """
        hashes, checks = hash_keys(keys)
        instants = np.array(as_of_us, np.int64, ndmin=1)  # a copy: for a read-only array kernels would be compiled anew
        return self.lookup_hashed(hashes, _no_checks(len(hashes)) if checks is None else checks, instants, features)

    def lookup_hashed(
        self,
        hashes: npt.NDArray[np.uint64],
        checks: npt.NDArray[np.uint32],
        as_of_us: npt.NDArray[np.int64],
        features: Sequence[int] | None = None,
    ) -> StateRows:
        """As `lookup`, by what `hash_keys` gives (`checks` zeros for numbers); `as_of_us` int64 [n] or [1]."""
        reads = self._reads_of(features)
        rows = len(hashes)
        values = np.empty((rows, reads.features), np.float64)
        newest_us, status = np.empty(rows, np.int64), np.empty(rows, np.uint8)
        least_us = self._least_us
        self._read(reads, (hashes, checks, as_of_us), least_us, (values, newest_us, status))
        return StateRows(values, self._decoded(values, features), newest_us, status, least_us)

    def lookup_one(self, entity: int, as_of_us: int, features: Sequence[int] | None = None) -> StateRows:
        """As `lookup` of one entity that is an int64: without an array for it, in half the time."""
        reads, least_us = self._reads_of(features), self._least_us
        values = np.empty((1, reads.features), np.float64)
        newest_us, status = np.empty(1, np.int64), np.empty(1, np.uint8)
        for _ in range(_RETRIES_MAX):
            memory, generation = self._published
            if lookup.lookup_one(
                self._plan,
                memory.address,
                reads.address,
                entity,
                as_of_us,
                least_us,
                generation,
                values,
                newest_us,
                status,
            ):
                return StateRows(values, self._decoded(values, features), newest_us, status, least_us)
        raise self._endless()

    def gather(
        self,
        keys: pa.Array,
        as_of_us: npt.NDArray[np.int64] | int,
        features: Sequence[int],
        defaults: Singles,
        buffer: Singles,
        first: int,
        found: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]],
    ) -> None:
        """As `lookup` of features that are numbers and no expressions, into columns `first` and on of a model's own buffer.

        `found`: newest event and status of each row so far, `nothing_of` them to begin with; see `gather_features`.
        """
        hashes, checks = hash_keys(keys)
        if checks is None:
            checks = _no_checks(len(hashes))
        instants = np.array(as_of_us, np.int64, ndmin=1)
        reads, least_us, done = self._reads_of(features), self._least_us, 0
        for _ in range(_RETRIES_MAX):
            memory, generation = self._published
            done = gather_features(
                self._plan, memory.address, reads.address, hashes, checks, instants, least_us, generation, done, defaults,
                buffer, first, *found,
            )  # fmt: skip
            if done == len(hashes):
                return
        raise self._endless()

    @staticmethod
    def nothing_of(rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Of so many rows, before the first state has been asked."""
        return np.full(rows, NEVER_US, np.int64), np.full(rows, lookup.MISSING, np.uint8)

    def _read(self, reads: Reads, asked: tuple[Any, Any, Any], least_us: int, out: tuple[Any, Any, Any]) -> None:
        hashes, checks, as_of_us = asked
        for _ in range(_RETRIES_MAX):
            memory, generation = self._published
            done = lookup.lookup(
                self._plan, memory.address, reads.address, hashes, checks, as_of_us, least_us, generation, *out
            )
            if done == len(hashes):
                return
            hashes, checks = hashes[done:], checks[done:]
            as_of_us = as_of_us[done:] if len(as_of_us) > 1 else as_of_us
            out = tuple(each[done:] for each in out)
        raise self._endless()

    def _endless(self) -> DataLoss:
        return DataLoss(f"feature view {quoted(self.view.name)}: an entity's record is being written without end")

    def _reads_of(self, features: Sequence[int] | None) -> Reads:
        chosen = None if features is None else tuple(features)
        found = self._reads.get(chosen)
        if found is None:
            assert chosen is not None
            if len(self._reads) > 256:
                self._reads = {None: self._reads[None]}
            found = self._reads[chosen] = Reads.of(self._layout.reads_of(chosen), len(chosen))
        return found

    def _decoded(self, values: npt.NDArray[np.float64], chosen: Sequence[int] | None) -> dict[int, list[str | None]]:
        """The text features, whose codes in `values` become NaN."""
        if not self.texts:
            return {}
        found: dict[int, list[str | None]] = {}
        numbers = range(len(self.view.features)) if chosen is None else chosen
        for position, number in enumerate(numbers):
            feature = self.view.features[number]
            column = self.view.aggregates[feature.of[0]].column if feature.text and feature.of else None
            if column in self.texts:
                texts = self.texts[column].texts
                found[position] = [None if code != code else texts[int(code)] for code in values[:, position].tolist()]
                values[:, position] = np.nan
        return found


def _no_checks(rows: int) -> npt.NDArray[np.uint32]:
    return np.zeros(rows, np.uint32)
