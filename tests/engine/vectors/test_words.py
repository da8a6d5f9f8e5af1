"""Texts are cut into the same words by the kernel and by Python, and words into the same terms everywhere."""

from __future__ import annotations

import random
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import FailedPrecondition
from engine.vectors.declaration import FieldSpec
from engine.vectors.lexical import GrowingText, SealedText, weighted_terms
from engine.vectors.words import Terms, stems_of, term_hashes, terms_of, words_of

STEMMED = FieldSpec("text", stemmer="english")
HASHES = [5670721635117691465, 10060968764592129601, 10199543857036796440]


def plain(texts: list[str | None]) -> list[dict[int, int]]:
    """How often each text has each hash."""
    counted = [Counter(words_of(each or "")) for each in texts]
    return [dict(zip(term_hashes(list(each)).tolist(), each.values(), strict=True)) if each else {} for each in counted]


def by_row(found: Terms) -> list[dict[int, int]]:
    """The same of what was found; terms ascend."""
    rows = []
    for begin, end in zip(found.offsets, found.offsets[1:], strict=False):
        terms = found.terms[begin:end].tolist()
        assert terms == sorted(set(terms))
        rows.append(dict(zip(terms, found.frequencies[begin:end].tolist(), strict=True)))
    return rows


def drawn(draw: random.Random, letters: str) -> list[str | None]:
    sizes = (0, 1, 7, 8, 9, 63, 64, 65, 300)
    return [
        None if draw.random() < 0.1 else "".join(draw.choice(letters) for _ in range(draw.choice(sizes)))
        for _ in range(draw.randrange(8))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_the_kernel_cuts_texts_as_python_does(seed: int) -> None:
    draw = random.Random(seed)
    ascii_only = draw.choice(["aZ09 ", "".join(map(chr, range(128))), "abcdefghijKLMNOPQRST01234567 "])
    for letters in (ascii_only, ascii_only + "é日ßﬁİ\u0301あΩ "):
        texts = drawn(draw, letters)
        for column in (texts, pa.array(["cut off", None, *texts], pa.string())[2:], pa.array(texts, pa.large_string())):
            found = terms_of(column)
            assert by_row(found) == plain(texts)
            assert found.lengths.tolist() == [len(words_of(each or "")) for each in texts]


def test_lists_of_texts_are_cut_as_one_text_each() -> None:
    values = [["a b", "b é"], None, [], [None, "c"]]
    found = terms_of(pa.array([["x"], *values, ["y"]], pa.list_(pa.string()))[1:5])
    assert by_row(found) == plain(["a b b é", None, "", "c"])


def test_a_word_beyond_64_characters_is_cut() -> None:
    for letter in "xé":
        assert term_hashes(words_of(letter * 65)).tolist() == term_hashes([letter * 64]).tolist()
        assert by_row(terms_of([letter * 65])) == by_row(terms_of([letter * 64])) != by_row(terms_of([letter * 63]))


def test_frequencies_are_16_bits_unless_one_does_not_fit() -> None:
    assert terms_of(["a " * 65_535]).frequencies.dtype == np.uint16
    assert terms_of(["a " * 65_536, "b"]).frequencies.tolist() == [65_536, 1]


def test_hashes_are_stored_and_never_change() -> None:
    assert term_hashes(["dog", "日", ""]).tolist() == HASHES
    assert terms_of(["DOG"]).terms.tolist() == HASHES[:1]


@pytest.mark.skipif(find_spec("snowballstemmer") is not None, reason="the stemmer is there")
def test_a_stemmer_that_is_not_installed_is_named() -> None:
    for act in (
        lambda: weighted_terms("dogs", STEMMED)[0],
        lambda: SealedText.of(pa.array(["dogs"]), STEMMED),
        lambda: GrowingText(STEMMED).append(pa.array(["dogs"])),
    ):
        with pytest.raises(FailedPrecondition, match="'english': the package 'snowballstemmer' is not installed"):
            act()


@pytest.mark.skipif(find_spec("snowballstemmer") is None, reason="no stemmer")
def test_a_stemmed_field_finds_other_forms_of_a_word() -> None:
    column = pa.array(["The dogs were running", "a cat", None, "Zoë's DOG"])
    growing = GrowingText(STEMMED)
    growing.append(column)
    for part in (SealedText.of(column, STEMMED), growing.frozen(4)):
        assert part.counts(weighted_terms("dog", STEMMED)[0]).tolist() == [2]
        assert part.counts(weighted_terms("run runs running", STEMMED)[0]).tolist() == [1]
    with pytest.raises(FailedPrecondition, match="nearest: 'english'"):
        stems_of(["dogs"], "englisch")
