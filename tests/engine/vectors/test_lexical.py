"""Words are found, counted and scored as a loop over plain texts does, wherever a collection is cut into parts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from engine.errors import DataLoss, FailedPrecondition
from engine.vectors.declaration import CollectionSpec, FieldSpec
from engine.vectors.growing_blocks import BLOCK_ROWS, BLOCK_ROWS_MAX, best_of_all, block_spans
from engine.vectors.lexical import (
    GrowingText,
    SealedText,
    text_statistics,
    weighted_terms,
    write_text_postings,
)
from engine.vectors.postings_room import inverse_frequency, sums_room
from engine.vectors.rows import points_schema
from engine.vectors.segment import SealedSegment, SegmentWriter
from engine.vectors.view import Terms, TextPart
from engine.vectors.words import words_of
from kernels.reference_vectors import bitset_of, bm25

TEXT = FieldSpec("text")
TEXTS = FieldSpec("text", array=True)
EVERY = np.empty(0, np.uint8)

_SAID = "the of and a to dog cat Dog CAT run2 x_y don't STRASSE Straße ﬁsh fish naïve 日本語 かな İstanbul é e\u0301 Ω -- ..."
WORDS = [*_SAID.split(), "", "long" * 30, "long" * 16]


def terms_in(query: str) -> Terms:
    """The terms of a query alone."""
    return weighted_terms(query, TEXT)[0]


def drawn(rng: np.random.Generator, rows: int) -> list[str | None]:
    """Texts of few words, which many share; some have none, some are null."""
    found: list[str | None] = []
    for _ in range(rows):
        places = np.minimum(rng.zipf(1.4, rng.integers(0, 12)) - 1, len(WORDS) - 1)
        found.append(None if rng.random() < 0.1 else " ".join(WORDS[each] for each in places))
    return found


def plain_best(texts: Sequence[str | None], query: str, among: set[int]) -> dict[int, float]:
    """The score of each row in `among`, from the formula."""
    documents = [Counter(words_of(each or "")) for each in texts]
    lengths = [each.total() for each in documents]
    rows = sum(length > 0 for length in lengths)
    numbers = {word: number for number, word in enumerate({word for each in documents for word in each})}
    idf = {}
    for word in set(words_of(query)) & numbers.keys():
        having = sum(word in each for each in documents)
        idf[numbers[word]] = log(1 + (rows - having + 0.5) / (having + 0.5))
    numbered = [{numbers[word]: often for word, often in each.items()} for each in documents]
    every = bm25(numbered, lengths, idf, sum(lengths) / max(1, rows) or 1.0, 1.2, 0.75)
    return {row: score for row, score in every.items() if row in among}


def part_of(kind: str, texts: list[str | None], path: Path, rng: np.random.Generator) -> TextPart:
    """These rows as a sealed part, one in a file, or a growing part that got them in batches."""
    column = pa.array(["before", *texts], pa.string())[1:]
    if kind == "file":
        write_text_postings(path, "body", TEXT, column)
        return SealedText.open(path)
    if kind == "memory":
        return SealedText.of(column, TEXT)
    growing, at = GrowingText(TEXT), 0
    while at < len(texts):
        size = int(rng.integers(1, 400))
        growing.append(column[at : at + size])
        at += size
    return growing.frozen(len(texts))


def agree(found: tuple[NDArray[np.float32], NDArray[np.int64]], every: dict[int, float], k: int) -> None:
    scores, rows = found
    wanted = sorted(every.values(), reverse=True)[:k]
    assert len(scores) == len(rows) == len(wanted) == len(set(rows.tolist()))
    assert np.allclose(scores, wanted, rtol=1e-5, atol=1e-6)
    assert np.allclose(scores, [every[row] for row in rows.tolist()], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_parts_cut_anywhere_score_as_the_formula_does(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    texts = drawn(rng, int(rng.choice([0, 1, 2, 9, 300, 2000])))
    cuts = sorted({0, len(texts), *rng.integers(0, len(texts) + 1, 3).tolist()})
    bounds = list(pairwise(cuts)) or [(0, 0)]
    parts = [
        (begin, part_of(str(rng.choice(["file", "memory", "growing"])), texts[begin:end], tmp_path / str(begin), rng))
        for begin, end in bounds
    ]
    for query in ("the", "dog CAT the dog", "strasse fish ﬁsh 本 é", "nobody says this", "... --", "long" * 40):
        terms = terms_in(query)
        idf, mean_length = text_statistics([each for _, each in parts], terms)
        living = rng.random(len(texts)) < 0.6
        for k in (1, 10, 5000):
            found = [(begin, part.best(terms, idf, mean_length, EVERY, k)) for begin, part in parts]
            agree(best_of_all(found, k), plain_best(texts, query, set(range(len(texts)))), k)
            chosen = [np.packbits(living[begin:end], bitorder="little") for begin, end in bounds]
            found = [
                (begin, part.best(terms, idf, mean_length, bits, k))
                for (begin, part), bits in zip(parts, chosen, strict=True)
            ]
            agree(best_of_all(found, k), plain_best(texts, query, set(np.flatnonzero(living).tolist())), k)


def test_of_equal_scores_the_lower_row_is_first_sealed_or_growing() -> None:
    column = pa.array(["same words"] * 1300)
    growing = GrowingText(TEXT)
    growing.append(column)
    terms = terms_in("words")
    for part in (SealedText.of(column, TEXT), growing.frozen(1300)):
        idf, mean_length = text_statistics([part], terms)
        assert part.best(terms, idf, mean_length, EVERY, 7)[1].tolist() == list(range(7))


def test_a_word_that_a_query_says_twice_is_one_term_of_twice_the_weight() -> None:
    terms, often = weighted_terms("dog cat dog DOG", TEXT)
    assert dict(zip(terms.tolist(), often.tolist(), strict=True)) == {
        int(terms_in("dog")[0]): 3,
        int(terms_in("cat")[0]): 1,
    }
    assert terms.tolist() == sorted(terms.tolist()) == terms_in("cat dog").tolist()
    assert often.dtype == np.float32
    assert [len(each) for each in weighted_terms(" -- ", TEXT)] == [0, 0]


def test_an_array_has_the_words_of_all_its_values() -> None:
    values = [["the dog", None, "dog"], None, [], ["a cat", "é the 日本"], [None]]
    column = pa.array([["before"], *values], pa.list_(pa.string()))[1:]
    joined = pa.array(["the dog dog", None, "", "a cat é the 日本", None])
    growing = GrowingText(TEXTS)
    growing.append(column[:2])
    growing.append(column[2:])
    wanted = SealedText.of(joined, TEXT)
    terms = terms_in("the dog 日")
    for part in (SealedText.of(column, TEXTS), growing.frozen(5)):
        assert (part.texts, part.words) == (wanted.texts, wanted.words) == (2, 9)
        assert part.counts(terms).tolist() == wanted.counts(terms).tolist()
        idf, mean_length = text_statistics([part], terms)
        ours, theirs = (each.best(terms, idf, mean_length, EVERY, 9) for each in (part, wanted))
        assert ours[0].tolist() == theirs[0].tolist()
        assert ours[1].tolist() == theirs[1].tolist()


@pytest.mark.parametrize("texts", [[], [None], [""], ["...", None, " "]])
def test_rows_without_words_are_found_by_none(texts: list[str | None], tmp_path: Path) -> None:
    terms = terms_in("dog")
    for kind in ("file", "memory", "growing"):
        part = part_of(kind, texts, tmp_path / "postings", np.random.default_rng(0))
        idf, mean_length = text_statistics([part], terms)
        assert (part.texts, part.words, part.counts(terms).tolist(), mean_length) == (0, 0, [0], 1.0)
        assert np.isfinite(idf).all()
        for asked in (terms, terms[:0]):
            assert len(part.best(asked, idf[: len(asked)], mean_length, EVERY, 10)[0]) == 0
    assert text_statistics([], terms)[1] == 1.0


def test_a_word_that_is_said_70000_times_is_counted_so(tmp_path: Path) -> None:
    texts: list[str | None] = ["again " * 70_000, "again and again", None]
    terms = terms_in("again")
    for kind in ("file", "memory", "growing"):
        part = part_of(kind, texts, tmp_path / "postings", np.random.default_rng(0))
        assert part.words == 70_003
        idf, mean_length = text_statistics([part], terms)
        agree(part.best(terms, idf, mean_length, EVERY, 5), plain_best(texts, "again", {0, 1}), 5)


def test_idf_is_never_negative_even_where_more_rows_count_than_there_are() -> None:
    found = inverse_frequency(10, np.array([0, 1, 5, 10, 99]))
    assert found.dtype == np.float32
    assert (found > 0).all()
    assert (np.diff(found) <= 0).all()
    assert np.isclose(found[1], log(1 + 9.5 / 1.5))


def test_what_is_frozen_is_not_changed_by_rows_that_come_while_it_is_searched() -> None:
    rng = np.random.default_rng(5)
    texts = drawn(rng, 6000)
    column = pa.array(texts, pa.string())
    growing, terms = GrowingText(TEXT), terms_in("the dog cat")
    growing.append(column[:700])
    views: list[tuple[int, TextPart]] = [(700, growing.frozen(700))]

    def write() -> None:
        for at in range(700, 6000, 13):
            growing.append(column[at : at + 13])
            views.append((min(at + 13, 6000), growing.frozen(min(at + 13, 6000))))

    writer = threading.Thread(target=write)
    writer.start()
    checked = 0
    while writer.is_alive() or checked < 30:
        rows, part = views[int(rng.integers(len(views)))]
        fresh = SealedText.of(column[:rows], TEXT)
        idf, mean_length = text_statistics([fresh], terms)
        assert part.counts(terms).tolist() == fresh.counts(terms).tolist()
        ours, theirs = (each.best(terms, idf, mean_length, EVERY, 20) for each in (part, fresh))
        assert ours[0].tolist() == theirs[0].tolist(), "a row scores otherwise growing than sealed"
        assert ours[1].tolist() == theirs[1].tolist()
        checked += 1
    writer.join()


def test_fewer_rows_than_came_can_be_frozen() -> None:
    column = pa.array(["dog", "cat"] * 1000)
    growing, terms = GrowingText(TEXT), terms_in("dog")
    growing.append(column)
    for rows in (0, 1, 511, 512, 513, 1024, 1999, 2000):
        part = growing.frozen(rows)
        assert (part.texts, part.words, int(part.counts(terms)[0])) == (rows, rows, (rows + 1) // 2)


def test_blocks_leave_no_gap_and_few_rows_over() -> None:
    for rows in [*range(0, 3000, 7), 8191, 8192, 100_000]:
        spans = block_spans(rows)
        assert [begin for begin, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
        assert rows - (spans[-1][1] if spans else 0) < BLOCK_ROWS
        assert len(spans) <= rows // BLOCK_ROWS_MAX + 5


def test_the_terms_of_growing_rows_are_handed_out_by_row() -> None:
    growing = GrowingText(TEXT)
    growing.append(pa.array(["b a b", None, "c"]))
    found = growing.terms(1, 3)
    assert found.offsets.tolist() == [0, 0, 1]
    assert found.terms.tolist() == terms_in("c").tolist()
    assert found.lengths.tolist() == [0, 1]


def test_a_thread_has_one_room_for_all_segments() -> None:
    small, _ = sums_room(10)
    large, touched = sums_room(10_000)
    assert sums_room(10)[0] is large
    assert len(large) >= 10_000
    assert len(touched) > len(large)
    others: list[NDArray[np.float32]] = []
    thread = threading.Thread(target=lambda: others.append(sums_room(10)[0]))
    thread.start()
    thread.join()
    assert others[0] is not large
    assert len(small) >= 10


def test_a_file_is_what_was_written_and_is_not_copied(tmp_path: Path) -> None:
    texts = drawn(np.random.default_rng(3), 500)
    path = tmp_path / "words-0.postings"
    write_text_postings(path, "bödy", FieldSpec("text"), pa.array(texts))
    opened, fresh = SealedText.open(path), SealedText.of(pa.array(texts), TEXT)
    assert (opened.field, opened.stemmer, opened.rows) == ("bödy", None, 500)
    assert (opened.texts, opened.words) == (fresh.texts, fresh.words)
    assert not opened._rows.flags.writeable
    assert not opened._rows.flags.owndata
    path.unlink()
    assert opened.counts(terms_in("the")).tolist() == fresh.counts(terms_in("the")).tolist()


def test_a_file_cut_anywhere_or_longer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "postings"
    write_text_postings(path, "body", TEXT, pa.array(["the dog", "a cat", None]))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataLoss, match="damaged"):
            SealedText.open(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataLoss, match="damaged"):
        SealedText.open(path)
    path.unlink()
    with pytest.raises(DataLoss, match="is gone"):
        SealedText.open(path)


def test_a_file_with_a_wrong_byte_is_refused_or_searched_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "postings"
    write_text_postings(path, "body", TEXT, pa.array(["the dog", "a cat the the", None, "the"]))
    whole, terms, refused = path.read_bytes(), terms_in("the dog a cat"), 0
    for at in range(len(whole)):
        for mask in (1, 0x80, 0xFF):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            try:
                part = SealedText.open(path)
            except (DataLoss, FailedPrecondition):
                refused += 1
            else:
                rows = part.best(terms, np.ones(len(terms), np.float32), 2.0, EVERY, 10)[1]
                assert ((rows >= 0) & (rows < 4)).all()
    assert refused > len(whole) // 2
    assert (sums_room(1)[0] == -np.inf).all(), "a query left its sums behind"


def test_a_newer_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "postings"
    write_text_postings(path, "body", TEXT, pa.array(["the dog"]))
    whole = bytearray(path.read_bytes())
    whole[8] = 2
    path.write_bytes(bytes(whole))
    with pytest.raises(FailedPrecondition, match="format version 2, this program reads 1"):
        SealedText.open(path)


def test_rows_in_no_bitset_are_left_out() -> None:
    part, terms = SealedText.of(pa.array(["dog"] * 20), TEXT), terms_in("dog")
    idf, mean_length = text_statistics([part], terms)
    assert part.best(terms, idf, mean_length, bitset_of({3, 17}, 20), 10)[1].tolist() == [3, 17]
    assert part.best(terms, idf, mean_length, bitset_of(set(), 20), 10)[1].tolist() == []


def test_a_segment_keeps_postings_beside_its_rows_and_notices_damage(tmp_path: Path) -> None:
    spec = CollectionSpec(vectors={}, fields={"body": TEXT})
    batch = pa.RecordBatch.from_pydict(
        {"id": np.arange(3, dtype=np.uint64), "field.body": ["the dog", None, "a dog"]}, schema=points_schema(spec)
    )
    with SegmentWriter(tmp_path / "1", spec) as writer:
        writer.add(batch)
        rows = writer.finish_rows()
        write_text_postings(writer.folder / "new", "body", TEXT, rows.column("field.body", pa.string()))
        writer.move_in("words-0.postings", writer.folder / "new")
        segment = writer.seal(0, 1)
    part = SealedText.open(segment.file("words-0.postings"))
    assert part.counts(terms_in("dog the cat")).sum() == 3
    path = tmp_path / "1" / "words-0.postings"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    with pytest.raises(DataLoss, match=r"words-0\.postings.*is damaged"):
        SealedSegment.open(tmp_path / "1")
