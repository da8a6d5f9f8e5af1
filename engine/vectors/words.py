"""The words of a text: how documents and queries are cut into terms, and the numbers terms are kept as.

A text is brought to NFKC with case folded (Unicode Standard Annex 15; Core Specification 3.13). A word is a run of letters,
digits and marks; a Han character or a Hiragana is a word alone, as Annex 29 has it, for nothing separates words there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from engine.errors import FailedPrecondition, nearest, quoted

if TYPE_CHECKING:
    import pyarrow as pa

WORD_CHARS_MAX: Final = 64
"""Of a longer word only the beginning counts."""

_ALONE: Final = (
    (0x3005, 0x3007),
    (0x3041, 0x309F),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Of which each is a word: iteration marks, Hiragana, Han."""


class _Letters(dict[int, str]):
    """For str.translate: what a character becomes, asked once for each there is."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if any(first <= code <= last for first, last in _ALONE):
            found = f" {character} "
        elif character.isalnum() or unicodedata.category(character)[0] == "M":
            found = character
        else:
            found = " "
        self[code] = found
        return found


_LETTERS: Final = _Letters()


def words_of(text: str) -> list[str]:
    """The words of `text`, in order, repeated where they are, each of at most WORD_CHARS_MAX characters."""
    folded = text.lower() if text.isascii() else _folded(text)
    found = folded.translate(_LETTERS).split()
    if len(folded) > WORD_CHARS_MAX:
        return [each[:WORD_CHARS_MAX] for each in found]
    return found


def _folded(text: str) -> str:
    """Folding takes some characters out of NFKC: they are brought back."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The terms of n texts. Text i has terms[offsets[i]:offsets[i + 1]], ascending, each once, and as many frequencies.

    `offsets` int64 [n + 1]; `terms` uint64; `frequencies` uint16, or uint32 where one does not fit; `lengths` uint32 [n]: the
    words of each text, repeated ones too.
    """

    offsets: npt.NDArray[np.int64]
    terms: npt.NDArray[np.uint64]
    frequencies: npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.uint32]


def term_hashes(words: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The number of each word, uint64 [n], the same on every machine and in every version: `kernels.hashing` of its UTF-8."""
    import pyarrow as pa

    from kernels.hashing import hash_strings

    column = pa.array(words, pa.large_string())
    hashes, checks = np.empty(len(column), np.uint64), np.empty(len(column), np.uint32)
    if len(column):
        _, offsets, data = column.buffers()
        hash_strings(offsets.address, True, 0 if data is None else data.address, 0, column.offset, hashes, checks)
    return hashes


def stems_of(words: Sequence[str], language: str) -> list[str]:
    """Each word without its ending, by the Snowball stemmer (Porter, 2001) of a language, for example "english".

    Raises FailedPrecondition where the package is not there, or does not know the language.
    """
    try:
        snowball = import_module("snowballstemmer")
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"stemmer {quoted(language)}: the package 'snowballstemmer' is not installed; leave the stemmer out, or install it"
        ) from error
    known = snowball.algorithms()
    if language not in known:
        raise FailedPrecondition(f"stemmer {quoted(language)}: not known{nearest(language, known)}")
    found: list[str] = snowball.stemmer(language).stemWords(words)  # one a call: it has a state
    return found


def stemmer_problem(language: str) -> str | None:
    """Why there is no stemmer of this language; None where there is."""
    try:
        stems_of([], language)
    except FailedPrecondition as error:
        return error.message
    return None


def terms_of(texts: Sequence[str | None] | pa.Array, stemmer: str | None = None) -> Terms:
    """The terms of each text, of a list of texts (an array field) those of all; null has none.

    `stemmer`: the language whose endings are cut off. Raises FailedPrecondition as `stems_of`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    if not pa.types.is_list(column.type):
        return _folded_terms(*_hashes_of(column, stemmer))
    starts, hashes = _hashes_of(column.flatten(), stemmer)
    values = np.zeros(len(column) + 1, np.int64)
    np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(), out=values[1:])
    return _folded_terms(starts[values], hashes)


def _hashes_of(column: pa.Array, stemmer: str | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The hashes of every text's words in order, text i's from starts[i] on. ASCII is left to a kernel, unless it is stemmed."""
    from kernels.words import OTHER, count_words, hash_words

    counts, where = np.full(len(column), OTHER, np.int64), _addresses(column)
    if stemmer is None:
        count_words(*where, counts)
    others = np.flatnonzero(counts == OTHER)
    sizes = counts.copy()
    sizes[others], ordinals, known = _numbered(column.take(others).to_pylist() if len(others) else [], stemmer)
    starts = np.zeros(len(column) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    hashes = np.empty(int(starts[-1]), np.uint64)
    if len(others) < len(column):
        hash_words(*where, WORD_CHARS_MAX, counts, starts, hashes)
    if len(ordinals):
        before = np.cumsum(sizes[others]) - sizes[others]
        hashes[np.repeat(starts[others] - before, sizes[others]) + np.arange(len(ordinals))] = known[ordinals]
    return starts, hashes


def _addresses(column: pa.Array) -> tuple[int, bool, int, int, int]:
    """Where a column of strings lies, as `kernels.words` asks; it must live on meanwhile."""
    import pyarrow as pa

    validity, offsets, data = (0 if each is None else each.address for each in column.buffers())
    return offsets, pa.types.is_large_string(column.type), data, validity, column.offset


def _numbered(
    texts: Sequence[str | None], stemmer: str | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """How many words each text has, each word's number, and the hash of each number."""
    numbers: dict[str, int] = {}
    found: list[int] = []
    counts = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts):
        if text:
            words = words_of(text)
            counts[row] = len(words)
            for word in words:
                found.append(numbers.setdefault(word, len(numbers)))
    known = list(numbers) if stemmer is None else stems_of(list(numbers), stemmer)
    return counts, np.array(found, np.int64), term_hashes(known)


def _folded_terms(starts: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]) -> Terms:
    from kernels.words import fold_words

    offsets, frequencies = np.zeros(len(starts), np.int64), np.empty(len(hashes), np.uint32)
    highest = fold_words(starts, hashes, offsets[1:], frequencies)
    size = int(offsets[-1])
    return Terms(
        offsets=offsets,
        terms=hashes[:size],
        frequencies=frequencies[:size].astype(np.uint16) if highest < 1 << 16 else frequencies[:size],
        lengths=np.diff(starts).astype(np.uint32),
    )
