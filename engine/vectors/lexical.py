"""The words of text fields: inverted and in a file where a segment is sealed, by row and in memory while it grows.

BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) with Lucene's inverse document frequency, which is
never negative. Its statistics are of a whole collection: each part only counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.vectors.declaration import FieldSpec
from engine.vectors.doubling import Doubling
from engine.vectors.growing_blocks import Block, Pieces, blocks_of
from engine.vectors.postings import Postings, RowTerms
from engine.vectors.postings_file import check_lengths, check_postings, read_postings, write_postings
from engine.vectors.postings_room import best_room, inverse_frequency, sums_room
from engine.vectors.view import Bits, Longs, Singles, TextPart
from engine.vectors.view import Terms as Hashes
from engine.vectors.words import Terms, stems_of, term_hashes, terms_of, words_of
from kernels.postings import best_by_bm25, invert, scan_by_bm25

K1: Final = 1.2
B: Final = 0.75

_DTYPES: Final = {
    "terms": ("<u8",), "offsets": ("<i8",), "rows": ("<u4",), "frequencies": ("<u2", "<u4"), "lengths": ("<u4",),
}  # fmt: skip


def weighted_terms(text: str, spec: FieldSpec) -> tuple[Hashes, Singles]:
    """The terms of a query, uint64 [q], ascending, and how often it says each, float32 [q]: idf is to be multiplied by that.

    Raises FailedPrecondition where the field's stemmer is not there.
    """
    words = words_of(text)
    terms, often = np.unique(
        term_hashes(words if spec.stemmer is None else stems_of(words, spec.stemmer)), return_counts=True
    )
    return terms, often.astype(np.float32)


def text_statistics(parts: Sequence[TextPart], terms: Hashes) -> tuple[Singles, float]:
    """Of all of a collection's parts: the inverse document frequency of each term, float32 [q], and how many words a row has
    that has one, at least 1."""
    rows, words = sum(each.texts for each in parts), sum(each.words for each in parts)
    counts = np.zeros(len(terms), np.int64)
    for each in parts:
        counts += each.counts(terms)
    return inverse_frequency(rows, counts), max(1.0, words / max(1, rows))


class SealedText(Postings):
    """TextPart. Of rows that never change: `terms` uint64 [t], ascending; term i is in rows[offsets[i]:offsets[i + 1]], with as
    many `frequencies`; `lengths` uint32 [n]: the words of each row."""

    def __init__(
        self, terms: Hashes, offsets: Longs, rows: npt.NDArray[np.uint32], frequencies: npt.NDArray[Any],
        lengths: npt.NDArray[np.uint32], *, field: str = "", stemmer: str | None = None,
    ) -> None:  # fmt: skip
        self.field = field
        self.stemmer = stemmer
        super().__init__(terms, offsets, rows)
        self.rows = len(lengths)
        self._frequencies = frequencies
        self._lengths = lengths
        self.texts = int(np.count_nonzero(lengths))
        self.words = int(lengths.sum(dtype=np.int64))

    @classmethod
    def of(cls, column: pa.Array, spec: FieldSpec, field: str = "") -> SealedText:
        """Of a field of all rows, in memory."""
        return cls.inverted(terms_of(column, spec.stemmer), field, spec.stemmer)

    @classmethod
    def inverted(cls, found: Terms, field: str = "", stemmer: str | None = None) -> SealedText:
        """Of what each row has."""
        rows = np.repeat(np.arange(len(found.lengths), dtype=np.uint32), np.diff(found.offsets))
        terms, offsets, order = invert(found.terms)
        return cls(terms, offsets, rows[order], found.frequencies[order], found.lengths, field=field, stemmer=stemmer)

    @classmethod
    def open(cls, path: Path) -> SealedText:
        """A file of `write`, mapped. Raises DataLoss where it is damaged, FailedPrecondition where it is newer."""
        header, arrays = read_postings(path, _DTYPES)
        check_postings(path, header.rows, arrays["terms"], arrays["offsets"], arrays["rows"], arrays["frequencies"])
        check_lengths(path, header.rows, arrays["lengths"])
        return cls(**arrays, field=header.name, stemmer=header.stemmer)

    def write(self, path: Path) -> None:
        """Into a new file. Raises ResourceExhausted, Unavailable."""
        arrays: tuple[npt.NDArray[Any], ...] = (
            self._terms,
            self._offsets,
            self._rows,
            self._frequencies,
            self._lengths,
        )
        named = dict(zip(_DTYPES, arrays, strict=True))
        write_postings(path, "text", self.field, self.rows, named, self.stemmer)

    def best(self, terms: Hashes, idf: Singles, mean_length: float, chosen: Bits, k: int) -> tuple[Singles, Longs]:
        """See TextPart."""
        scores, best = best_room(k, self.rows)
        sums, touched = sums_room(self.rows)
        found = best_by_bm25(
            self._offsets, self._rows, self._frequencies, self._lengths, self._ordinals(terms), idf, mean_length,
            K1, B, chosen, sums, touched, scores, best,
        )  # fmt: skip
        return scores[:found], best[:found]


def write_text_postings(path: Path, field: str, spec: FieldSpec, column: pa.Array) -> None:
    """The postings of a text field of all rows of a segment, as a file. Raises ResourceExhausted, Unavailable."""
    SealedText.of(column, spec, field).write(path)


class GrowingText:
    """A text field of rows that come one after another. One thread appends; what is frozen any thread may search meanwhile."""

    def __init__(self, spec: FieldSpec) -> None:
        self._spec = spec
        self._starts = Doubling(np.zeros(1, np.int64))
        self._starts.rows = 1
        self._terms = Doubling(np.empty(0, np.uint64))
        self._frequencies = Doubling(np.empty(0, np.uint32))
        self._lengths = Doubling(np.empty(0, np.uint32))
        self._blocks: tuple[Block[SealedText], ...] = ()

    def append(self, column: pa.Array) -> None:
        """The field in further rows. Raises FailedPrecondition where the stemmer is not there."""
        found = terms_of(column, self._spec.stemmer)
        self._starts.append(self._terms.rows + found.offsets[1:])
        self._terms.append(found.terms)
        self._frequencies.append(found.frequencies)
        self._lengths.append(found.lengths)
        self._blocks = blocks_of(self._blocks, self._lengths.rows, self._inverted)

    def terms(self, begin: int, end: int) -> Terms:
        """What rows `begin` to `end` - 1 have."""
        offsets = self._starts.array[begin : end + 1]
        here = slice(int(offsets[0]), int(offsets[-1]))
        return Terms(
            offsets - offsets[0], self._terms.array[here], self._frequencies.array[here],
            self._lengths.array[begin:end],
        )  # fmt: skip

    def _inverted(self, begin: int, end: int) -> SealedText:
        return SealedText.inverted(self.terms(begin, end))

    def frozen(self, rows: int) -> GrowingTextPart:
        """The first so many rows, which are there."""

        def tail(start: int) -> TextPart:
            return _TextTail(
                rows - start, self._starts.array[start : rows + 1], self._terms.array, self._frequencies.array,
                self._lengths.array[start:rows],
            )  # fmt: skip

        return GrowingTextPart(self._blocks, rows, tail)


class GrowingTextPart(Pieces[TextPart]):
    """TextPart. The first rows of a growing field."""

    @cached_property
    def texts(self) -> int:
        """See TextPart."""
        return self.total(lambda each: each.texts)

    @cached_property
    def words(self) -> int:
        """See TextPart."""
        return self.total(lambda each: each.words)

    def best(self, terms: Hashes, idf: Singles, mean_length: float, chosen: Bits, k: int) -> tuple[Singles, Longs]:
        """See TextPart."""
        return self.best_of_each(lambda each, here: each.best(terms, idf, mean_length, here, k), chosen, k)


class _TextTail(RowTerms[Hashes]):
    """TextPart. Rows as they came."""

    def __init__(
        self, rows: int, starts: Longs, terms: Hashes, frequencies: npt.NDArray[np.uint32],
        lengths: npt.NDArray[np.uint32],
    ) -> None:  # fmt: skip
        super().__init__(rows, starts, terms)
        self._frequencies = frequencies
        self._lengths = lengths

    @cached_property
    def texts(self) -> int:
        return int(np.count_nonzero(self._lengths))

    @cached_property
    def words(self) -> int:
        return int(self._lengths.sum(dtype=np.int64))

    def best(self, terms: Hashes, idf: Singles, mean_length: float, chosen: Bits, k: int) -> tuple[Singles, Longs]:
        scores, best = best_room(k, self.rows)
        found = scan_by_bm25(
            self._starts, self._terms, self._frequencies, self._lengths, self.rows, terms, idf, mean_length, K1, B,
            chosen, scores, best,
        )  # fmt: skip
        return scores[:found], best[:found]
