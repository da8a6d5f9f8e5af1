"""One immutable state of a collection: what a search sees from its first to its last step.

A view is a tuple of parts. A part's rows never change; which of them are alive is said beside it, by a bitset that is replaced,
never written to. The last parts may be growing ones: each is what a growing segment held when the view was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.vectors.declaration import CollectionSpec
from engine.vectors.dense_rows import DenseRows
from engine.vectors.filter import Filter
from engine.vectors.index import VectorIndex
from engine.vectors.values import PointId

if TYPE_CHECKING:
    import pyarrow as pa

Bits = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]
Terms = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.uint32]


class TextPart(Protocol):
    """The words of one text field in one part. `terms` are hashes by `engine.vectors.words`, uint64 [q], all different."""

    @property
    def texts(self) -> int:
        """How many rows have a word."""

    @property
    def words(self) -> int:
        """Of all rows, repeated ones too."""

    def counts(self, terms: Terms) -> Longs:
        """How many rows, dead ones too, have each term, int64 [q]."""

    def best(self, terms: Terms, idf: Singles, mean_length: float, chosen: Bits, k: int) -> tuple[Singles, Longs]:
        """The best by BM25 of the rows in `chosen` that have a term: at most k scores and rows, best first."""


class SparsePart(Protocol):
    """One sparse vector in one part. `indices` uint32 [q], all different."""

    @property
    def vectors(self) -> int:
        """How many rows have one."""

    def counts(self, indices: Indices) -> Longs:
        """How many rows, dead ones too, have each index, int64 [q]."""

    def best(self, indices: Indices, weights: Singles, chosen: Bits, k: int) -> tuple[Singles, Longs]:
        """The highest dot products of the rows in `chosen` that share an index: at most k scores and rows, best first."""


class Part(Protocol):
    """Rows of a collection, numbered from 0. Immutable; any thread."""

    @property
    def key(self) -> int:
        """Of this part alone while the collection is open; a sealed segment has that of the growing one it was."""

    @property
    def name(self) -> str:
        """For `explain`: "growing", or "segment 12"."""

    @property
    def rows(self) -> int:
        """How many, dead ones too."""

    @property
    def ids(self) -> npt.NDArray[np.uint64] | pa.StringArray:
        """Of all rows."""

    @property
    def id_order(self) -> Longs:
        """The rows by ascending id, of text by code points."""

    def dense(self, name: str) -> DenseRows:
        """The vectors of one name, [rows, d]; of a multi-vector see `multi`."""

    def multi(self, name: str) -> tuple[DenseRows, Longs]:
        """A multi-vector's vectors, and int64 [rows + 1]: row i has those from [i] on, before [i + 1]."""

    def indexed(self, name: str) -> tuple[VectorIndex | None, int]:
        """What finds candidates among the first so many rows; the others are scanned. None, 0: all are."""

    def passing(self, filter_: Filter) -> Bits:
        """The rows, dead ones too, that a filter is about; not to be written to."""

    def text(self, name: str) -> TextPart:
        """Of a text field."""

    def sparse(self, name: str) -> SparsePart:
        """Of a sparse vector."""

    def column(self, name: str) -> pa.Array:
        """A payload field, all rows; null where the part is older than the field."""

    def points(self, rows: Longs) -> pa.RecordBatch:
        """Chosen rows, of `points_schema`: a copy; vectors are float32 however they are stored."""


@dataclass(frozen=True, slots=True, eq=False)
class Living:
    """A part, and which of its rows are alive: `alive` uint8 [ceil(rows / 8)], read-only, None is all; `count` of them.
    The same one in several views while nothing of it changes. `derived`: as of a view."""

    part: Part
    alive: Bits | None
    count: int
    derived: dict[Any, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """`parts`, oldest first; `offset`: of the log, up to which it shows everything. `derived`: what searches worked out of it, by
    what it is; two threads may do so at once."""

    spec: CollectionSpec
    parts: tuple[Living, ...]
    offset: int = 0
    derived: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        """Points."""
        return sum(each.count for each in self.parts)

    def part(self, key: int) -> Living | None:
        """The part of a key, None where it is in no view any more."""
        return next((each for each in self.parts if each.part.key == key), None)


def order_of(ids: npt.NDArray[np.uint64] | pa.StringArray) -> Longs:
    """Rows by ascending id, of text by code points."""
    import pyarrow.compute as pc

    if isinstance(ids, np.ndarray):
        return np.argsort(ids, kind="stable")
    found: Longs = pc.array_sort_indices(ids).to_numpy().astype(np.int64)
    return found


def ids_at(part: Part, rows: Longs) -> Sequence[PointId]:
    """The ids of some rows, as Python has them."""
    ids = part.ids
    found: list[PointId] = ids[rows].tolist() if isinstance(ids, np.ndarray) else ids.take(rows).to_pylist()
    return found
