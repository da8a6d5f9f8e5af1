"""What grows is searched in pieces: blocks of rows that are inverted already, and the last rows as they came.

Blocks have 512 rows times a power of two and are merged like the digits of a binary counter, so a row is inverted a few times,
and a search meets a few blocks and at most 511 rows to scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from engine.vectors.view import Bits, Longs, Singles

Inverted = TypeVar("Inverted")
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
