"""Which rows have which terms, whatever a term is: the hash of a word, or an index of a sparse vector."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from engine.vectors.view import Indices, Longs, Terms
from kernels.postings import find_terms, scan_counts

Kind = TypeVar("Kind", Terms, Indices)

_EVERY: Final = np.empty(0, np.uint8)


class Postings:
    """Inverted. `terms` uint64 [t], ascending; term i is in rows[offsets[i]:offsets[i + 1]], uint32; `offsets` int64 [t + 1]."""

    def __init__(self, terms: Terms, offsets: Longs, rows: npt.NDArray[np.uint32]) -> None:
        self._terms = terms
        self._offsets = offsets
        self._rows = rows

    def counts(self, terms: Terms | Indices) -> Longs:
        """How many rows, dead ones too, have each term, int64 [q]."""
        ordinals = self._ordinals(terms)
        return np.where(ordinals < 0, 0, self._offsets[ordinals + 1] - self._offsets[ordinals])

    def _ordinals(self, terms: Terms | Indices) -> Longs:
        """The place of each term, below 0 where no row has it."""
        found = np.empty(len(terms), np.int64)
        find_terms(self._terms, terms.astype(np.uint64, copy=False), found)
        return found


class RowTerms(Generic[Kind]):
    """By row, as they came: row i has terms[starts[i]:starts[i + 1]]; `starts` int64 [rows + 1]."""

    def __init__(self, rows: int, starts: Longs, terms: Kind) -> None:
        self.rows = rows
        self._starts = starts
        self._terms: Kind = terms

    def counts(self, terms: Kind) -> Longs:
        """See Postings."""
        found = np.empty(len(terms), np.int64)
        scan_counts(self._starts, self._terms, self.rows, _EVERY, terms, found)
        return found
