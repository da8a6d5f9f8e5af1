"""Which passage a sentence rests on, by the words both have. Pure.

A sentence rests on a passage that has most of its words of content, and every number of its. That is a test of wording, not of
truth: it finds the source of what was taken from a passage, and the sentences that were taken from none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.generation.grounding.passage import Passage
from engine.vectors.words import stems_of, words_of

CONTENT_WORDS_MIN: Final = 3
"""A sentence with fewer states nothing that could be looked for: "Yes." and "That is all I found." """

_CHARS_MIN: Final = 4
_PLAIN: Final = frozenset((
    "about", "above", "after", "again", "also", "although", "among", "another", "answer", "around", "because",
    "been", "before", "being", "below", "between", "both", "cannot", "could", "does", "doing", "down",
    "during", "each", "either", "else", "even", "every", "from", "further", "have", "having", "here",
    "however", "into", "itself", "just", "like", "made", "make", "many", "more", "most", "much", "must",
    "neither", "only", "other", "over", "passage", "passages", "question", "rather", "same", "shall",
    "should", "since", "some", "such", "than", "that", "their", "them", "then", "there", "these", "they",
    "this", "those", "through", "thus", "under", "until", "upon", "used", "using", "very", "were", "what",
    "when", "where", "which", "while", "whom", "whose", "will", "with", "within", "without", "would", "your",
))  # fmt: skip
"""Words of four letters and more that say nothing of what a sentence is about, in English; shorter ones never count."""


class Support:
    """Of the passages that were shown for one question. `share_min`: of a sentence's words, so many must be in the passage.
    `stemmer`: the language whose endings are left out, None for none."""

    def __init__(self, passages: Sequence[Passage], share_min: float, stemmer: str | None) -> None:
        self._share_min, self._stemmer = share_min, stemmer
        self._words = [frozenset(self._stems([*set(words_of(each.text))])) for each in passages]

    def content(self, sentence: str) -> frozenset[str]:
        """The words that say what it is about, numbers among them."""
        return frozenset(self._stems([each for each in set(words_of(sentence)) if _is_content(each)]))

    def shares(self, content: frozenset[str]) -> list[float]:
        """For each passage, how much of `content` it has; 0 where one of the numbers is not there."""
        numbers = {each for each in content if each.isdigit()}
        return [len(content & words) / len(content) if content and numbers <= words else 0.0 for words in self._words]

    def best(self, content: frozenset[str]) -> int | None:
        """The number of the passage that has most of it, from 1, of equals the first; None where none has enough."""
        shares = self.shares(content)
        number = max(range(len(shares)), key=shares.__getitem__, default=None)
        return number + 1 if number is not None and shares[number] >= self._share_min else None

    def holds(self, content: frozenset[str], number: int) -> bool:
        """Whether passage `number` has enough of it."""
        return self.shares(content)[number - 1] >= self._share_min

    def _stems(self, words: list[str]) -> list[str]:
        return words if self._stemmer is None else stems_of(words, self._stemmer)


def _is_content(word: str) -> bool:
    return word.isdigit() or (len(word) >= _CHARS_MIN and word not in _PLAIN) or not word.isascii()
