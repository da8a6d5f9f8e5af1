"""Chunks have all of a document, are pieces of it, stay within their bounds and places, whatever the text is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.documents.document import Block, Document, without_gaps
from engine.documents.markdown import read_markdown
from engine.documents.plain_text import read_text
from engine.documents.sentences import sentences
from engine.documents.splitter import Chunk, ChunkBounds, split_document

PIECES = st.sampled_from((
    "The sea is deep. ", "Is it cold? ", "e.g. this ", "no. 7 ", "word ",
    "x" * 90 + " ", "\n", "\n\n", "\t", "海は深い。", "とても",
    "e\u0301", "👩\u200d🚀", "नि", "\u00a0", "\r\n\r\n", "# Top\n\n", "## Under\n\n", "- item\n", "```\ncode  x\n```\n\n",
    "| a | b |\n", "[x]: y\n", "...", "!\" ",
))  # fmt: skip
TEXTS = st.lists(PIECES, max_size=60).map("".join)


def words_counted(text: str) -> int:
    """As an encoder with two special tokens counts: a word, or a sign that is no letter, each four letters more another one."""
    return 2 + sum(1 + len(each) // 4 for each in re.findall(r"\w+|[^\w\s]", text))


def no_context(place: Block) -> str:
    """None."""
    return ""


def path(place: Block) -> str:
    """The headings."""
    return " > ".join(place.headings) + "\n" if place.headings else ""


def check(document: Document, chunks: list[Chunk], bounds: ChunkBounds) -> None:
    """What holds of all chunks."""
    text = document.text
    covered = [False] * len(text)
    for chunk in chunks:
        assert 0 <= chunk.start < chunk.end <= len(text)
        assert not text[chunk.start].isspace() or text[chunk.start] in " \t\u00a0", (
            "nothing but what code is indented by"
        )
        assert chunk.end - chunk.start <= bounds.chars_max
        if bounds.tokens is not None and bounds.tokens_max is not None:
            assert bounds.tokens(chunk.context + text[chunk.start : chunk.end]) <= bounds.tokens_max
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
    assert all(known or character.isspace() for known, character in zip(covered, text, strict=True))
    for before, after in itertools.pairwise(chunks):
        assert before.start < after.start, "they go on"
        assert before.end < after.end
        assert before.end - after.start <= bounds.overlap_chars


@pytest.mark.parametrize("read", [read_text, read_markdown], ids=["text", "markdown"])
@given(
    text=TEXTS, chars_max=st.integers(4, 120), overlap=st.integers(0, 60), tokens_max=st.none() | st.integers(30, 60)
)
@settings(deadline=None, max_examples=150)
def test_chunks_have_all_of_the_text_within_their_bounds(
    read: Callable[[str], Document], text: str, chars_max: int, overlap: int, tokens_max: int | None
) -> None:
    document = read(text)
    tokens = None if tokens_max is None else words_counted
    bounds = ChunkBounds(chars_max, min(overlap, chars_max // 2), tokens_max, tokens)
    check(document, split_document(document, bounds, path), bounds)


@given(text=TEXTS)
@settings(deadline=None, max_examples=200)
def test_blocks_of_markdown_ascend_and_leave_nothing_out(text: str) -> None:
    at = 0
    for block in read_markdown(text).blocks:
        assert not text[at : block.start].strip()
        assert block.start < block.end
        at = block.end
    assert not text[at:].strip()


@given(text=TEXTS)
def test_accents_and_joined_signs_stay_whole(text: str) -> None:
    document = read_text(text)
    for chunk in split_document(document, ChunkBounds(8), no_context):
        if chunk.start and not text[chunk.start - 1].isspace():
            assert text[chunk.start] not in "\u0301\u200d\u093f"


def test_a_section_that_fits_is_one_chunk_with_the_headings_above_it() -> None:
    text = "# Guide\n\n## Install\n\nRun it.\n\nThen look.\n\n## Use\n\nCall it.\n"
    chunks = split_document(read_markdown(text), ChunkBounds(200), path)
    assert [text[each.start : each.end] for each in chunks] == [
        "# Guide\n\n## Install\n\nRun it.\n\nThen look.", "## Use\n\nCall it.",
    ]  # fmt: skip
    assert [each.headings for each in chunks] == [("Guide", "Install"), ("Guide", "Use")]
    assert [each.context for each in chunks] == ["Guide > Install\n", "Guide > Use\n"]


def test_what_is_too_long_is_split_between_sentences_and_begins_with_the_last_ones_before() -> None:
    text = "The sea is deep. The fox is red. The tide turns at noon. A bell rings."
    chunks = split_document(read_text(text), ChunkBounds(40, overlap_chars=20), no_context)
    assert [text[each.start : each.end] for each in chunks] == [
        "The sea is deep. The fox is red.", "The fox is red. The tide turns at noon.", "A bell rings.",
    ]  # fmt: skip
    apart = split_document(read_text(text), ChunkBounds(40), no_context)
    assert [text[each.start : each.end] for each in apart] == [
        "The sea is deep. The fox is red.", "The tide turns at noon. A bell rings.",
    ]  # fmt: skip


def test_code_is_split_between_lines_and_no_chunk_crosses_a_page() -> None:
    text = "```\nfirst = 1\nsecond = 2\nthird = 3\n```"
    chunks = split_document(read_markdown(text), ChunkBounds(24), no_context)
    assert [text[each.start : each.end] for each in chunks] == ["```\nfirst = 1\nsecond = 2", "third = 3\n```"]
    paged = Document("one two", (Block(0, 3, page=1), Block(4, 7, page=2)))
    assert [(each.start, each.end, each.page) for each in split_document(paged, ChunkBounds(50), no_context)] == [
        (0, 3, 1),
        (4, 7, 2),
    ]


def test_a_context_leaves_half_of_the_tokens_to_the_text() -> None:
    text = "word " * 40
    bounds = ChunkBounds(1000, 0, 30, words_counted)
    chunks = split_document(read_text(text), bounds, lambda place: "title " * 50)
    assert words_counted(chunks[0].context) <= 15
    assert sum(each.end - each.start for each in chunks) > 150
    check(read_text(text), chunks, bounds)


def test_sentences_end_where_readers_see_them_end() -> None:
    text = 'See e.g. the sea. "Is it?" No. 7 is. Yes... And 3.5 m!\n\nlast'
    found = [text[start:end] for start, end in sentences(text, 0, len(text))]
    assert found == ["See e.g. the sea.", '"Is it?"', "No. 7 is.", "Yes...", "And 3.5 m!", "last"]


def test_dots_without_end_take_no_time_that_grows_with_their_square() -> None:
    text = f"Contents {'.' * 300_000}7 and on. More."  # each dot tried took half an hour
    assert [text[start:end][-9:] for start, end in sentences(text, 0, len(text))] == ["7 and on.", "More."]


def test_what_lies_between_blocks_is_one() -> None:
    blocks = without_gaps("a [x]: y b", [Block(0, 2), Block(8, 10)])
    assert [(each.start, each.end, each.kind) for each in blocks] == [
        (0, 1, "prose"),
        (2, 8, "lines"),
        (9, 10, "prose"),
    ]
