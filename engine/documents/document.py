"""A document as it was read: its text, and the blocks that it is made of, each with its place. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from engine.documents.sentences import without_blanks


@dataclass(frozen=True, slots=True)
class Block:
    """`text[start:end]` of a document, in characters: a `heading`, a paragraph or list of `prose`, which may be split between
    sentences, or `lines` (code, tables), which may be split between these.

    `headings`: those that it stands below, the outermost first; of a heading with itself. `page`: counted from 1, None where
    the document has none.
    """

    start: int
    end: int
    kind: Literal["heading", "prose", "lines"] = "prose"
    headings: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """`blocks` ascend and do not overlap; between them there is nothing but blanks."""

    text: str
    blocks: tuple[Block, ...]
    title: str | None = None


class Headings:
    """Those that hold at a place of a document that is read from its beginning to its end."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, text: str) -> None:
        """A heading: those of its level and below it are over."""
        self._open = [each for each in self._open if each[0] < level]
        if text:
            self._open.append((level, text))

    @property
    def path(self) -> tuple[str, ...]:
        """The outermost first."""
        return tuple(text for _, text in self._open)


def without_gaps(text: str, blocks: Iterable[Block]) -> tuple[Block, ...]:
    """`blocks` of `text`, ascending, without the blanks around them; what stands between them and is not blank is `lines`."""
    return tuple(_filled(text, blocks))


def _filled(text: str, blocks: Iterable[Block]) -> Iterator[Block]:
    at, last = 0, Block(0, 0)
    for each in blocks:
        yield from _trimmed(text, Block(at, each.start, "lines", last.headings, each.page))
        yield from _trimmed(text, each)
        at, last = each.end, each
    yield from _trimmed(text, Block(at, len(text), "lines", last.headings, last.page))


def _trimmed(text: str, block: Block) -> Iterator[Block]:
    for start, end in without_blanks(text, block.start, block.end):
        yield Block(start, end, block.kind, block.headings, block.page)
