"""Sparse vectors, scored by dot product: inverted and in a file where a segment is sealed, by row in memory while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.vectors.doubling import Doubling
from engine.vectors.growing_blocks import Block, Pieces, blocks_of
from engine.vectors.postings import Postings, RowTerms
from engine.vectors.postings_file import check_postings, read_postings, write_postings
from engine.vectors.postings_room import best_room, inverse_frequency, sums_room
from engine.vectors.view import Bits, Indices, Longs, Singles, SparsePart
from kernels.postings import best_by_weights, invert, scan_by_weights

_DTYPES: Final = {"terms": ("<u8",), "offsets": ("<i8",), "rows": ("<u4",), "weights": ("<f4",), "totals": ("<i8",)}


def sparse_idf(parts: Sequence[SparsePart], indices: Indices) -> Singles:
    """The inverse document frequency of each index over all of a collection's parts, float32 [q]."""
    counts = np.zeros(len(indices), np.int64)
    for each in parts:
        counts += each.counts(indices)
    return inverse_frequency(sum(each.vectors for each in parts), counts)


def rows_of_sparse(indices: pa.ListArray, values: pa.ListArray) -> tuple[Longs, Indices, Singles]:
    """Offsets int64 [n + 1], indices and values of n rows; a row of null has none."""
    counts = pc.fill_null(pc.list_value_length(indices), 0).to_numpy().astype(np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return starts, indices.flatten().to_numpy(), values.flatten().to_numpy()


class SealedSparse(Postings):
    """SparsePart. Of rows that never change: `terms` uint64 [t] are the indices, ascending; index i is in
    rows[offsets[i]:offsets[i + 1]], with as many `weights`."""

    def __init__(
        self, terms: npt.NDArray[np.uint64], offsets: Longs, rows: npt.NDArray[np.uint32], weights: Singles, *,
        segment_rows: int, vectors: int, name: str = "",
    ) -> None:  # fmt: skip
        super().__init__(terms, offsets, rows)
        self.name = name
        self.vectors = vectors
        self.rows = segment_rows
        self._weights = weights

    @classmethod
    def of(cls, starts: Longs, indices: Indices, values: Singles, name: str = "") -> SealedSparse:
        """Of all rows, in memory: what `SealedSegment.sparse` or `rows_of_sparse` gives."""
        counts = np.diff(starts)
        rows = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
        terms, offsets, order = invert(indices.astype(np.uint64))
        vectors = int(np.count_nonzero(counts))
        return cls(terms, offsets, rows[order], values[order], segment_rows=len(counts), vectors=vectors, name=name)

    @classmethod
    def open(cls, path: Path) -> SealedSparse:
        """A file of `write`, mapped. Raises DataLoss where it is damaged, FailedPrecondition where it is newer."""
        header, arrays = read_postings(path, _DTYPES)
        totals = arrays.pop("totals")
        check_postings(path, header.rows, arrays["terms"], arrays["offsets"], arrays["rows"], arrays["weights"])
        return cls(**arrays, segment_rows=header.rows, vectors=int(totals[0]), name=header.name)

    def write(self, path: Path) -> None:
        """Into a new file. Raises ResourceExhausted, Unavailable."""
        arrays = (self._terms, self._offsets, self._rows, self._weights, np.array([self.vectors], np.int64))
        write_postings(path, "sparse", self.name, self.rows, dict(zip(_DTYPES, arrays, strict=True)))

    def best(self, indices: Indices, weights: Singles, chosen: Bits, k: int) -> tuple[Singles, Longs]:
        """See SparsePart."""
        scores, best = best_room(k, self.rows)
        sums, touched = sums_room(self.rows)
        found = best_by_weights(
            self._offsets, self._rows, self._weights, self._ordinals(indices), weights, chosen, sums, touched, scores,
            best,
        )  # fmt: skip
        return scores[:found], best[:found]


def write_sparse_postings(path: Path, name: str, starts: Longs, indices: Indices, values: Singles) -> None:
    """The postings of a sparse vector of all rows of a segment, as a file. Raises ResourceExhausted, Unavailable."""
    SealedSparse.of(starts, indices, values, name).write(path)


class GrowingSparse:
    """A sparse vector of rows that come one after another. One thread appends; what is frozen any thread may search meanwhile."""

    def __init__(self) -> None:
        self._starts = Doubling(np.zeros(1, np.int64))
        self._starts.rows = 1
        self._indices = Doubling(np.empty(0, np.uint32))
        self._weights = Doubling(np.empty(0, np.float32))
        self._blocks: tuple[Block[SealedSparse], ...] = ()

    def append(self, indices: pa.ListArray, values: pa.ListArray) -> None:
        """Further rows."""
        starts, flat, weights = rows_of_sparse(indices, values)
        self._starts.append(self._indices.rows + starts[1:])
        self._indices.append(flat)
        self._weights.append(weights)
        self._blocks = blocks_of(self._blocks, self._starts.rows - 1, self._inverted)

    def _inverted(self, begin: int, end: int) -> SealedSparse:
        starts = self._starts.array[begin : end + 1]
        here = slice(int(starts[0]), int(starts[-1]))
        return SealedSparse.of(starts - starts[0], self._indices.array[here], self._weights.array[here])

    def frozen(self, rows: int) -> GrowingSparsePart:
        """The first so many rows, which are there."""

        def tail(start: int) -> SparsePart:
            starts = self._starts.array[start : rows + 1]
            return _SparseTail(rows - start, starts, self._indices.array, self._weights.array)

        return GrowingSparsePart(self._blocks, rows, tail)


class GrowingSparsePart(Pieces[SparsePart]):
    """SparsePart. The first rows of a growing sparse vector."""

    @cached_property
    def vectors(self) -> int:
        """See SparsePart."""
        return self.total(lambda each: each.vectors)

    def best(self, indices: Indices, weights: Singles, chosen: Bits, k: int) -> tuple[Singles, Longs]:
        """See SparsePart."""
        return self.best_of_each(lambda each, here: each.best(indices, weights, here, k), chosen, k)


class _SparseTail(RowTerms[Indices]):
    """SparsePart. Rows as they came."""

    def __init__(self, rows: int, starts: Longs, indices: Indices, weights: Singles) -> None:
        super().__init__(rows, starts, indices)
        self._weights = weights

    @cached_property
    def vectors(self) -> int:
        return int(np.count_nonzero(np.diff(self._starts)))

    def best(self, indices: Indices, weights: Singles, chosen: Bits, k: int) -> tuple[Singles, Longs]:
        scores, best = best_room(k, self.rows)
        found = scan_by_weights(
            self._starts, self._terms, self._weights, self.rows, indices, weights, chosen, scores, best
        )
        return scores[:found], best[:found]
