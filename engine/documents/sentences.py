"""Where sentences, lines and words of a text begin and end. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

Span = tuple[int, int]
"""Begin and end, in characters."""

SENTENCE_END: Final = re.compile(r"(?<![.!?])[.!?]++[\"')»”\u2019]*+(?=\s|\Z)")
"""What ends a sentence of languages that put blanks between words. A run of stops is tried once: dots that lead to a page's
number are many, and trying each of them takes time with the square of that."""

_BREAK: Final = re.compile(
    rf"{SENTENCE_END.pattern}(?!\s+[a-z\d])|[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\u201d\u2019\uff09]*|\n[^\S\n]*(?=\n)"
)
"""Not before a small letter or a number: "e.g. this", "no. 7". Chinese and Japanese stops need no blank behind them."""

_LINE: Final = re.compile(r"[^\r\n]+")
_WORD: Final = re.compile(r"\S+")
_JOINER: Final = "\u200d"


def sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """Those of `text[start:end]`, which may have no ending, without the blanks around them."""
    at = start
    for each in _BREAK.finditer(text, start, end):
        yield from without_blanks(text, at, each.end())
        at = each.end()
    yield from without_blanks(text, at, end)


def lines(text: str, start: int, end: int) -> Iterator[Span]:
    """Those that are not blank, with what they are indented by."""
    for each in _LINE.finditer(text, start, end):
        if not each[0].isspace():
            yield each.span()


def words(text: str, start: int, end: int) -> Iterator[Span]:
    """What stands between blanks."""
    for each in _WORD.finditer(text, start, end):
        yield each.span()


def whole_characters(text: str, start: int, end: int) -> int:
    """The last place up to `end`, past `start`, at which `text` may be cut without tearing accents or joined signs off; `end`
    where there is none."""
    at = end
    while at > start + 1 and at < len(text) and _joined(text, at):
        at -= 1
    return end if at == start + 1 and at < len(text) and _joined(text, at) else at


def _joined(text: str, at: int) -> bool:
    return _JOINER in text[at - 1 : at + 1] or unicodedata.category(text[at]) in ("Mn", "Me", "Mc")


def without_blanks(text: str, start: int, end: int) -> Iterator[Span]:
    """`text[start:end]` without the blanks around it; nothing where there is nothing else."""
    part = text[start:end]
    left = start + len(part) - len(part.lstrip())
    right = start + len(part.rstrip())
    if left < right:
        yield left, right
