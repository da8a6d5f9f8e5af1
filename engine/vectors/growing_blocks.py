"""What grows is searched in pieces: blocks of rows that are inverted already, and the last rows as they came.

Blocks have 512 rows times a power of two and are merged like the digits of a binary counter, so a row is inverted a few times,
and a search meets a few blocks and at most 511 rows to scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from engine.vectors.view import Bits, Indices, Longs, Singles, Terms

Inverted = TypeVar("Inverted", covariant=True)
Best = tuple[Singles, Longs]

BLOCK_ROWS: Final = 512
"""Of the smallest: 12,000 words are scanned in 10 us or less."""
BLOCK_ROWS_MAX: Final = 1 << 14
"""The writer waits for a block to be inverted: 200,000 words take some 5 ms."""


@dataclass(frozen=True, slots=True, eq=False)
class Block(Generic[Inverted]):
    """Rows `start` to `end` - 1, multiples of BLOCK_ROWS, counted from 0 in `part`."""

    start: int
    end: int
    part: Inverted


def block_spans(rows: int) -> list[tuple[int, int]]:
    """Where the blocks of so many rows begin and end: largest first, no gaps, as few as there are binary digits."""
    found, start, size = [], 0, BLOCK_ROWS_MAX
    while size >= BLOCK_ROWS:
        while rows - start >= size:
            found.append((start, start + size))
            start += size
        size //= 2
    return found


def blocks_of(
    before: tuple[Block[Inverted], ...], rows: int, invert: Callable[[int, int], Inverted]
) -> tuple[Block[Inverted], ...]:
    """The blocks of so many rows; those of fewer rows `before` are used again where they are still right."""
    spans = block_spans(rows)
    if len(spans) == len(before) and all(
        (each.start, each.end) == span for each, span in zip(before, spans, strict=True)
    ):
        return before
    known = {(each.start, each.end): each for each in before}
    return tuple(known.get(span) or Block(*span, invert(*span)) for span in spans)


class Counted(Protocol):
    """Rows that have terms."""

    def counts(self, terms: Any, /) -> Longs:  # noqa: ANN401  uint64 or uint32 [q]
        """How many rows have each term, int64 [q]."""


Piece = TypeVar("Piece", bound=Counted)


class Pieces(Generic[Piece]):
    """The first rows of what grows: blocks, and what comes after them as it came."""

    def __init__(self, blocks: Sequence[Block[Piece]], rows: int, tail: Callable[[int], Piece]) -> None:
        """`blocks`: of so many rows or more; `tail`: the rows from one on, before `rows`."""
        within = [each for each in blocks if each.end <= rows]
        self._pieces = [(each.start, each.part) for each in within]
        start = within[-1].end if within else 0
        if start < rows or not self._pieces:
            self._pieces.append((start, tail(start)))

    def counts(self, terms: Terms | Indices) -> Longs:
        """How many rows, dead ones too, have each term, int64 [q]."""
        found = np.zeros(len(terms), np.int64)
        for _, each in self._pieces:
            found += each.counts(terms)
        return found

    def total(self, of: Callable[[Piece], int]) -> int:
        """The sum over the pieces."""
        return sum(of(each) for _, each in self._pieces)

    def best_of_each(self, best: Callable[[Piece, Bits], Best], chosen: Bits, k: int) -> Best:
        """The best k; `best` is asked for those of a piece, with its rows of `chosen`."""
        return best_of_all([(start, best(each, chosen_from(chosen, start))) for start, each in self._pieces], k)


def chosen_from(chosen: Bits, start: int) -> Bits:
    """The bits of the rows from `start` on, a multiple of 8; none stay none."""
    return chosen[start >> 3 :]


def best_of_all(pieces: Sequence[tuple[int, Best]], k: int) -> Best:
    """The best k of several pieces' best, each with the row it begins at, in order; of equals the lower row."""
    if len(pieces) == 1:
        start, (scores, rows) = pieces[0]
        return scores, rows + start
    scores = np.concatenate([np.empty(0, np.float32), *(each for _, (each, _) in pieces)])
    rows = np.concatenate([np.empty(0, np.int64), *(each + start for start, (_, each) in pieces)])
    order: npt.NDArray[np.int64] = np.argsort(-scores, kind="stable")[:k]
    return scores[order], rows[order]
