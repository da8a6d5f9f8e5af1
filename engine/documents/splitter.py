"""Documents into chunks: by structure first, then by sentences, lines, words. Pure.

A chunk stays below one heading and on one page. Blocks that fit are kept whole, and as many as fit are taken together. What is
too long alone is taken apart: prose between sentences, code and tables between lines, either between words, a word anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from engine.documents.document import Block, Document
from engine.documents.sentences import Span, lines, sentences, whole_characters, words

Tokens = Callable[[str], int]
"""How many tokens an encoder takes of a text, its special ones among them."""

Cut = Callable[[str, int, int], Iterator[Span]]

_CUTS: Final[dict[str, tuple[Cut, ...]]] = {
    "heading": (words,),
    "prose": (sentences, words),
    "lines": (lines, words),
}
TOKENS_OF_CHARACTER_MAX: Final = 4
"""A character is at most so many bytes, and tokenizers fall back to one token a byte."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text[start:end]` of a document. `context`: what is put before it to be embedded; `headings`, `page`: its place."""

    start: int
    end: int
    context: str = ""
    headings: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkBounds:
    """Of one chunk. `chars_max`: of its text. `tokens_max`: of its context and text together, as `tokens` counts them. A chunk
    begins with the last sentences of the one before, as many as have together at most `overlap_chars`."""

    chars_max: int
    overlap_chars: int = 0
    tokens_max: int | None = None
    tokens: Tokens | None = None


def split_document(document: Document, bounds: ChunkBounds, context: Callable[[Block], str]) -> list[Chunk]:
    """The chunks of a document, in its order; together they have all of its text but blanks.

    `context` says what is put before a chunk that such a block decides the place of. It is cut where it alone takes more than
    half of `tokens_max`.
    """
    found = []
    for section in _sections(document.blocks):
        place = section[-1]
        packing = _Packing(document.text, bounds, _short(context(place), bounds))
        for start, end in packing.packed(section):
            found.append(Chunk(start, end, packing.context, place.headings, place.page))
    return found


def _sections(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Runs of blocks of one page below one heading; headings that nothing stands below belong to what follows."""
    section: list[Block] = []
    for block in blocks:
        heading = block.kind == "heading"
        if section and (block.page != section[-1].page or (heading and section[-1].kind != "heading")):
            yield section
            section = []
        section.append(block)
    if section:
        yield section


def _short(context: str, bounds: ChunkBounds) -> str:
    """`context`, so much of it as leaves room for a text."""
    if bounds.tokens is None or bounds.tokens_max is None:
        return context
    while context and bounds.tokens(context) > bounds.tokens_max // 2:
        context = context[: len(context) // 2]
    return context


class _Packing:
    """Of one section."""

    def __init__(self, text: str, bounds: ChunkBounds, context: str) -> None:
        self._text, self._bounds, self.context = text, bounds, context
        self._taken = 0 if bounds.tokens is None else bounds.tokens(context)

    def packed(self, section: Sequence[Block]) -> Iterator[Span]:
        """The spans of its chunks."""
        atoms = [atom for block in section for atom in self._atoms(block.start, block.end, _CUTS[block.kind])]
        at, start = 0, atoms[0][0]
        while at < len(atoms):
            at += self._most(start, atoms, at)
            end = atoms[at - 1][1]
            yield start, end
            if at < len(atoms):
                start = self._overlapping(start, end, atoms[at])

    def _atoms(self, start: int, end: int, cuts: tuple[Cut, ...]) -> Iterator[Span]:
        """Spans that fit, as coarse as they can be."""
        if self._fits(start, end):
            yield start, end
        elif not cuts:
            yield from self._slices(start, end)
        else:
            for each in cuts[0](self._text, start, end):
                yield from self._atoms(*each, cuts[1:])

    def _fits(self, start: int, end: int) -> bool:
        bounds = self._bounds
        if end - start > bounds.chars_max:
            return False
        if bounds.tokens is None or bounds.tokens_max is None:
            return True
        if self._taken + TOKENS_OF_CHARACTER_MAX * (end - start) <= bounds.tokens_max:
            return True
        return bounds.tokens(self.context + self._text[start:end]) <= bounds.tokens_max

    def _slices(self, start: int, end: int) -> Iterator[Span]:
        while start < end:
            most = _most_that(lambda count, start=start: self._fits(start, start + count), end - start)  # type: ignore[misc]
            cut = whole_characters(self._text, start, start + most)
            yield start, cut
            start = cut

    def _most(self, start: int, atoms: Sequence[Span], at: int) -> int:
        """How many atoms from `at` on fit into a chunk that begins at `start`."""
        return _most_that(lambda count: self._fits(start, atoms[at + count - 1][1]), len(atoms) - at)

    def _overlapping(self, start: int, end: int, following: Span) -> int:
        """Where the chunk begins that follows `text[start:end]`: with its last sentences where the next atom leaves room."""
        least = max(start + 1, end - self._bounds.overlap_chars)
        for begin, _ in sentences(self._text, start, end) if least < end else ():
            if begin >= least and self._fits(begin, following[1]):
                return begin
        return following[0]


def _most_that(holds: Callable[[int], bool], count: int) -> int:
    """The greatest number up to `count` for which it holds, which it does up to some number, and for 1."""
    low, step = 1, 1
    while low + step <= count and holds(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, count + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
