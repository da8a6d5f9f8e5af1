"""The citations of an answer while it is being written: `[2]` is kept where passage 2 was shown, and left out where it was not;
a sentence that names none gets the number of the passage it rests on. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from engine.documents.sentences import SENTENCE_END
from engine.generation.grounding.support import CONTENT_WORDS_MIN, Support

_MARKER: Final = re.compile(r"\[\s{0,3}\d{1,3}(?:\s{0,3}[,;]\s{0,3}\d{1,3}){0,8}\s{0,3}\]")
_MARKER_BEGUN: Final = re.compile(r"\[[\s\d,;]{0,96}\Z")
_MARKER_OPEN: Final = re.compile(r"\[[\s\d,;]*\Z")
_GAP: Final = "\N{HORIZONTAL ELLIPSIS}"
"""Left where a marker is left out of the middle of another, which would else be put together of its halves: "[1[9]]"."""

_TAIL: Final = 100
_NUMBER: Final = re.compile(r"\d+")
_SPACES_HELD_MAX: Final = 64
"""A model may write blanks without end; so many are waited through for what follows a sentence."""


@dataclass(frozen=True, slots=True)
class Citation:
    """Passage `number`, counted from 1 as it was shown, stands behind the characters from `start` to `end` of the answer."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of the answer with enough words to be looked for, by its characters. `supported`: a passage has its words, one
    that it cites where it cites any."""

    start: int
    end: int
    supported: bool


class CitedText:
    """Reads an answer piece by piece. `shown`: how many passages there are. `attributes`: sentences without a number get one."""

    def __init__(self, shown: int, support: Support, *, attributes: bool) -> None:
        self._shown, self._support, self._attributes = shown, support, attributes
        self._held = self._tail = ""
        self._length = 0
        self._sentence = ""
        self._start = self._end = 0
        self._numbers: list[int] = []
        self._over = False
        self.citations: list[Citation] = []
        self.statements: list[Statement] = []

    def feed(self, piece: str) -> str:
        """What can be said now; a few characters may be held until it is known what they become."""
        self._held += piece
        return self._read(last=False)

    def end(self) -> str:
        """What was held."""
        return self._read(last=True) + self._closed()

    def _read(self, *, last: bool) -> str:
        said = ""
        while self._held:
            step = self._step(last=last)
            if step is None:
                break
            said += step
        return said

    def _step(self, *, last: bool) -> str | None:
        """The next piece of text, which may be empty; None where more must come first."""
        held = self._held
        if held[0] == "[":
            return self._bracket(last=last)
        if held[0].isspace():
            return self._blank(last=last)
        if (ending := SENTENCE_END.match(held)) is not None:
            follows = held[ending.end() :].lstrip(" \t")
            if not last and self._undecided(held[ending.end() :], follows):
                return None  # ".5", more closing quotes or a marker may follow
            closed = self._closed() if self._over else ""
            self._over = True
            attributed = "" if _MARKER.match(follows) else self._attributed()
            return closed + attributed + self._plain(ending.end())
        closed = self._closed() if self._over else ""
        return closed + self._plain(self._run(held))

    def _bracket(self, *, last: bool) -> str | None:
        if (marker := _MARKER.match(self._held)) is not None:
            self._held = self._held[marker.end() :]
            return self._marked(_numbers(marker[0]))
        return None if not last and _MARKER_BEGUN.match(self._held) else self._plain(1)

    @staticmethod
    def _undecided(after: str, follows: str) -> bool:
        """Whether what comes `after` a sentence may still become a marker."""
        return (not follows and len(after) < _SPACES_HELD_MAX) or _MARKER_BEGUN.match(follows) is not None

    def _run(self, held: str) -> int:
        """How many characters, at least one, are neither blank nor the beginning of a marker or of a sentence's end."""
        run = re.match(r"[^\s\[.!?]+|[.!?]+", held)
        return 1 if run is None else run.end()

    def _blank(self, *, last: bool) -> str | None:
        """Blanks are held until what follows is there: a marker that is left out takes those before it along."""
        run = len(self._held) - len(self._held.lstrip())
        rest = self._held[run:]
        if not last and run < _SPACES_HELD_MAX and (not rest or _MARKER_BEGUN.match(rest)):
            return None
        blanks = self._held[:run]
        if (marker := _MARKER.match(rest)) is not None and "\n" not in blanks:
            self._held = rest[marker.end() :]
            return self._marked(_numbers(marker[0]), blanks)
        closed = self._closed() if self._over or "\n" in blanks else ""
        return closed + self._plain(run)

    def _plain(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        return self._said(text)

    def _said(self, text: str) -> str:
        if not self._sentence and text.strip():
            self._start = self._length + len(text) - len(text.lstrip())
        if self._sentence or text.strip():
            self._sentence += text
        self._length += len(text)
        self._tail = (self._tail + text)[-_TAIL:]
        if text.strip():
            self._end = self._length - (len(text) - len(text.rstrip()))
        return text

    def _marked(self, numbers: list[int], blanks: str = "") -> str:
        """The marker with those numbers that were shown; nothing, and no blanks, where none was."""
        kept = [each for each in dict.fromkeys(numbers) if 1 <= each <= self._shown]
        if not kept:
            return self._said(_GAP) if _MARKER_OPEN.search(self._tail) else ""
        claimed = self._length
        for each in kept:
            self.citations.append(Citation(each, self._start if self._sentence else claimed, claimed))
        self._numbers += kept
        marker = blanks + "".join(f"[{each}]" for each in kept)
        self._length += len(marker)
        self._tail = ""
        return marker

    def _attributed(self) -> str:
        """The marker of the passage that the sentence rests on, where it names none."""
        if not self._attributes or self._numbers:
            return ""
        content = self._support.content(self._sentence)
        if len(content) < CONTENT_WORDS_MIN or (number := self._support.best(content)) is None:
            return ""
        return self._marked([number], " ")

    def _closed(self) -> str:
        """The sentence is over: a statement, where it says enough; else what follows belongs to it."""
        self._over = False
        content = self._support.content(self._sentence)
        if len(content) < CONTENT_WORDS_MIN:
            return ""
        best = None if self._numbers else self._support.best(content)
        attributed = self._marked([best], " ") if self._attributes and best is not None else ""
        numbers = self._numbers or ([] if best is None else [best])
        supported = any(self._support.holds(content, number) for number in numbers)
        self.statements.append(Statement(self._start, self._end, supported))
        self._sentence, self._numbers = "", []
        return attributed


def _numbers(marker: str) -> list[int]:
    return [int(each) for each in _NUMBER.findall(marker)]
