"""Prompts are checked when they are declared, and filled with what was said and found, as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import InvalidArgument
from engine.generation.conversation import Conversation, conversation_of
from engine.generation.grounding.passage import Passage, fused
from engine.generation.grounding.prompt import (
    PromptSpec,
    answer_messages,
    in_document_order,
    prompt_problems,
    queries_in,
    query_messages,
    shown_passages,
)
from engine.generation.sampling import sampling_of


def passage(key: str, score: float = 1.0, text: str = "t") -> Passage:
    """One that was found."""
    return Passage(key, text, score)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (PromptSpec(question="{question}"), ("question", "{passages} is missing")),
        (PromptSpec(question="{passages} {questoin} {question}"), ("question", "nearest: 'question'")),
        (PromptSpec(passage="{text.__class__} {text}"), ("passage", "got '{text.__class__}'")),
        (PromptSpec(passage="{text:>10}{text}"), ("passage", "got '{text}'")),
        (PromptSpec(system="say {this}"), ("system", "a brace itself is written twice")),
        (PromptSpec(system="{"), ("system", "a brace itself is written twice")),
        (PromptSpec(queries="{count}"), ("queries", "{conversation} is missing")),
    ],
)
def test_a_wrong_place_is_found_where_it_is_declared(spec: PromptSpec, problem: tuple[str, str]) -> None:
    found = list(prompt_problems(spec))
    assert any(key == problem[0] and problem[1] in told for key, told in found), found


def test_the_default_has_no_problem() -> None:
    assert list(prompt_problems(PromptSpec())) == []


@given(st.text(), st.text(), st.text())
def test_what_is_filled_in_stays_as_it_is(question: str, text: str, system: str) -> None:
    spec = PromptSpec(system="S {{1}}", question="{passages}|{question}", passage="{number}:{text}")
    asked = Conversation(question, (system,), ({"role": "user", "content": "before"},))
    assert answer_messages(spec, asked, [passage("a", text=text)]) == [
        {"role": "system", "content": f"S {{1}}\n\n{system}"},
        {"role": "user", "content": "before"},
        {"role": "user", "content": f"1:{text}|{question}"},
    ]


def prompt_of(asked: Conversation, found: list[Passage]) -> str:
    """All messages, as an engine reads them."""
    return "".join(f"<{each['role']}>{each['content']}" for each in answer_messages(PromptSpec(), asked, found))


def test_prompts_for_the_same_passages_in_document_order_differ_in_nothing_but_the_question_at_their_end() -> None:
    found = [
        Passage("b", "later", 0.9, "d", 50),
        Passage("a", "sooner", 0.8, "d", 10),
        Passage("c", "first", 0.7, "a", 7),
    ]
    ordered = in_document_order(found)
    assert [each.id for each in ordered] == ["c", "a", "b"]
    assert in_document_order(found[::-1]) == ordered
    one, other = (prompt_of(Conversation(each, ("be kind",)), ordered) for each in ("How high?", "When?"))
    assert one.removesuffix("How high?") == other.removesuffix("When?")
    assert one.index(PromptSpec().system) < one.index("be kind") < one.index("[1] first") < one.index("[2] sooner")
    assert one.index("[3] later") < one.index("How high?")


def test_callers_of_one_model_share_its_instructions_before_anything_of_their_own() -> None:
    one, other = (prompt_of(Conversation("q", (each,)), [passage("a")]) for each in ("tenant A", "tenant B"))
    assert one.startswith(shared := f"<system>{PromptSpec().system}\n\n")
    assert other.startswith(shared)


def test_passages_are_shown_until_there_is_no_room() -> None:
    found = [passage("a", text="x" * 9), passage("b", text="x" * 4), passage("c", text="x"), passage("d", text="x")]
    assert [each.id for each in shown_passages(found, 3, 11)] == ["a", "c", "d"]
    assert [each.id for each in shown_passages(found, 9, 2)] == ["a"]
    assert shown_passages([], 3, 10) == []


def test_lists_are_fused_by_rank() -> None:
    one, two = [passage("a", 0.9), passage("b", 0.8)], [passage("b", 0.95), passage("c", 0.1)]
    assert [(each.id, each.score) for each in fused([one, two])] == [("b", 0.95), ("a", 0.9), ("c", 0.1)]
    assert fused([one]) == one


def test_queries_are_asked_for_and_read() -> None:
    asked = Conversation("And in winter?", before=({"role": "user", "content": "What do vireos eat?"},))
    content = query_messages(PromptSpec(), asked, 2)[0]["content"]
    assert "Write 2 " in content
    assert "user: What do vireos eat?\nuser: And in winter?" in content
    assert queries_in('1. "vireo winter diet"\n\n- what vireos eat\n- what vireos eat\nthird', 2) == [
        "vireo winter diet",
        "what vireos eat",
    ]


USER = {"role": "user", "content": "why?"}


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (None, "messages: a list"),
        ([], "messages: a list"),
        ("hi", "messages: a list"),
        ([1], "messages[0]: an object"),
        (
            [{"role": "usr", "content": "a"}],
            "messages[0].role: one of system, developer, user, assistant is expected, got 'usr'",
        ),
        ([{"role": "user"}], "messages[0].content: a text or a list"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            "messages[0].content[0]: a part of type 'text'",
        ),
        ([USER, {"role": "assistant", "content": "a"}], "the last must be the user's"),
        ([{"role": "user", "content": " "}], "messages[0].content: the question is empty"),
    ],
)
def test_a_conversation_that_cannot_be_answered_is_refused(messages: object, told: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        conversation_of({"messages": messages})
    assert told in raised.value.message


def test_a_conversation_is_what_was_said() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = {"messages": [{"role": "developer", "content": "be short"}, USER, {"role": "assistant", "content": "x"},
                         {"role": "user", "content": parts}]}  # fmt: skip
    found = conversation_of(body)
    assert (found.question, found.system, len(found.before)) == ("a\nb", ("be short",), 2)


@pytest.mark.parametrize(
    "body", [{"tools": [{}]}, {"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}]
)
def test_what_an_answer_from_passages_cannot_have_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(body))):
        sampling_of(body)


def test_how_it_is_worded_goes_to_the_model() -> None:
    body = {"model": "m", "messages": [], "stream": True, "n": 1, "temperature": 0.2, "max_tokens": 9, "top_k": 3}
    assert sampling_of(body) == {"temperature": 0.2, "max_tokens": 9, "top_k": 3}
