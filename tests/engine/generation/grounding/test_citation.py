"""Whatever a model writes, in whatever pieces: its citations name passages that were shown, and nothing else of it is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.generation.grounding.citation import Citation, CitedText, Statement
from engine.generation.grounding.passage import Passage
from engine.generation.grounding.support import Support

PASSAGES = (
    Passage("a", "Vireo holds a p99 of 50 milliseconds for ranking recommendations.", 1.0),
    Passage("b", "Triton executes cancelled requests although nobody waits.", 0.5),
)
PIECES = ["[1]", "[2]", " [7]", "[1, 9]", "[", "]", " ", "\n", ". ", ".", "3.5", "?\"", "Vireo holds", "50 milliseconds",
          "Triton executes cancelled", "requests", "bananas are yellow fruit", "[x]", "[ 2 ;1]", "[1"]  # fmt: skip
MARKER = re.compile(r"\s*\[\s{0,3}\d{1,3}(?:\s{0,3}[,;]\s{0,3}\d{1,3}){0,8}\s{0,3}\]")


def unmarked(text: str) -> str:
    """What is left without marks, and the blanks that may go with them."""
    return "".join(MARKER.sub("", text).replace("…", "").split())


def reader(*, attributes: bool = True, shown: int = 2) -> CitedText:
    """Of an answer from the passages."""
    return CitedText(shown, Support(PASSAGES[:shown], 0.6, None), attributes=attributes)


def read(text: str, cuts: list[int], *, attributes: bool = True) -> tuple[str, list[Citation], list[Statement]]:
    """`text` in pieces of those lengths, the rest as one."""
    cited, said, at = reader(attributes=attributes), "", 0
    for cut in cuts:
        said += cited.feed(text[at : at + cut])
        at += cut
    return said + cited.feed(text[at:]) + cited.end(), cited.citations, cited.statements


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Vireo holds 50 milliseconds for recommendations. Bananas are yellow fruit.",
         "Vireo holds 50 milliseconds for recommendations [1]. Bananas are yellow fruit."),
        ("Triton executes cancelled requests. [2] Yes.", "Triton executes cancelled requests. [2] Yes."),
        ("Triton executes cancelled requests [1].", "Triton executes cancelled requests [1]."),
        ("Triton executes cancelled requests [7].", "Triton executes cancelled requests [2]."),
        ("It rests on two [1; 2,9].", "It rests on two [1][2]."),
        ("- Triton executes cancelled requests\n- so", "- Triton executes cancelled requests [2]\n- so"),
        ("Vireo holds 60 milliseconds for recommendations.", "Vireo holds 60 milliseconds for recommendations."),
        ("no [9] more", "no more"),
        ("a [1[9]] b", "a [1…] b"),
        ("[see here] and [1", "[see here] and [1"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_becomes_of_an_answer(text: str, told: str) -> None:
    assert read(text, [])[0] == told


def test_marks_alone_are_kept_where_nothing_is_attributed() -> None:
    said, citations, _ = read(
        "Triton executes cancelled requests. Vireo holds 50 milliseconds [1].", [], attributes=False
    )
    assert said == "Triton executes cancelled requests. Vireo holds 50 milliseconds [1]."
    assert [said[each.start : each.end] for each in citations] == ["Vireo holds 50 milliseconds"]


def test_a_statement_that_its_own_citation_does_not_hold_is_not_supported() -> None:
    text = "Triton executes cancelled requests [1]. Triton executes cancelled requests [2]. Bananas are yellow fruit."
    said, _, statements = read(text, [])
    assert [(said[each.start : each.end], each.supported) for each in statements] == [
        ("Triton executes cancelled requests [1].", False),
        ("Triton executes cancelled requests [2].", True),
        ("Bananas are yellow fruit.", False),
    ]


@given(
    st.lists(st.sampled_from(PIECES), max_size=20).map("".join), st.lists(st.integers(1, 9), max_size=30), st.booleans()
)
def test_an_answer_is_the_same_in_all_pieces(text: str, cuts: list[int], attributes: bool) -> None:
    whole = read(text, [], attributes=attributes)
    assert read(text, cuts, attributes=attributes) == whole
    said, citations, statements = whole
    assert unmarked(said) == unmarked(text)
    assert {each.number for each in citations} <= {1, 2}
    assert {int(each) for each in re.findall(r"\[(\d+)\]", said)} <= {each.number for each in citations}
    assert all(0 <= each.start <= each.end <= len(said) for each in citations)
    assert all(0 <= each.start < each.end <= len(said) for each in statements)


@given(st.text(alphabet=" \n\t.[1", max_size=300))
def test_blanks_without_end_are_not_held_for_ever(text: str) -> None:
    cited = reader()
    said = cited.feed(text)
    assert len(text) - len(said) <= 200
    assert unmarked(said + cited.end()) == unmarked(text)
