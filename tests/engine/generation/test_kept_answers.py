"""Answers are given again to the same call, and only while everything that they came from is the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Engine, GenerationCall, GenerationKind, SpecError, parse_spec
from engine.generation.declaration import AnswersSpec
from engine.generation.kept_answers import KeptAnswers
from engine.generation.statistics import GenerationStatistics
from tests.engine.generation.grounding import test_retrieval_graph
from tests.engine.generation.grounding.test_retrieval_graph import Documents
from tests.fakes import PATIENCE_S, ManualClock
from tests.language import MADE, Bigrams

ANSWERS = "answers: {bytes_max: 100000, ttl_s: 60, always: true}"
SPEC = (
    test_retrieval_graph.SPEC
    + f"""
    {ANSWERS}
  asking: {{grounded: {{retrieval: passages, model: parrot}}, {ANSWERS}}}
  careful: {{graph: {{call: careful_graph, text: {{prompt: asked}}}}, {ANSWERS}}}
  bare: {{call: 'tests.engine.generation.grounding.test_grounded:Writer', {ANSWERS}}}
  small: {{call: 'tests.language:Bigrams', {ANSWERS.replace("100000", "1300")}}}
  parrot: {{call: 'tests.language:Adaptive', {ANSWERS}}}
"""
)
SPEC = SPEC.replace(
    "functions:",
    """functions:
  spoken:
    call: tests.engine.generation.test_kept_answers:spoken
    inputs: {asked: {datatype: BYTES, shape: [1]}}
    outputs: {answer: {datatype: BYTES, shape: [1]}}""",
    1,
).replace(
    "graphs:",
    """graphs:
  careful_graph:
    inputs: {asked: {datatype: BYTES, shape: [1]}}
    nodes:
      said: {call: spoken, inputs: {asked: asked}, on_error: {default: {answer: nothing}}}
    outputs: {answer: said.answer}""",
    1,
)
CALL = GenerationCall(GenerationKind.COMPLETION, "parrot", {"prompt": "the cat sat on", "max_tokens": 6})
STREAM = replace(CALL, body={**CALL.body, "stream": True})
QUESTION = {"messages": [{"role": "user", "content": "vireo nest?"}]}
BOOK = GenerationCall(GenerationKind.CHAT, "handbook", QUESTION)


Told = tuple[str | None, list[bytes]]
"""Whether it was kept, as the answer says, and its body or chunks."""


def spoken(asked: np.ndarray[Any, Any]) -> Mapping[str, np.ndarray[Any, Any]]:
    """What was asked, if it is not too hard."""
    if asked[0] == b"why?":
        raise ValueError("nobody knows")
    return {"answer": asked}


@pytest.fixture
def clock() -> ManualClock:
    """Of the engine."""
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock, tmp_path: Path) -> Iterator[Engine]:
    """With forty passages."""
    made = Engine(parse_spec(SPEC, folder=tmp_path), clock=clock)
    made.start()
    assert not made.problems()
    Documents(made).write(0)
    yield made
    made.close(1.0)


def ask(engine: Engine, call: GenerationCall = CALL, chunks_max: int = 1 << 20) -> Told:
    """The answer, of a stream its first chunks."""

    async def read() -> Told:
        answer = await engine.language_models.answer(call)
        told = dict(answer.headers).get("vireo-cache")
        if isinstance(answer.body, bytes):
            return told, [answer.body]
        found: list[bytes] = []
        try:
            async for each in answer.body:
                found.append(each)
                if len(found) == chunks_max:
                    break
        finally:
            await answer.aclose()
        return told, found

    return engine.home.run(read(), PATIENCE_S)


def parrot() -> Bigrams:
    """The one that was made last."""
    return next(each for each in reversed(MADE) if each.name == "parrot")


@pytest.mark.parametrize("call", [CALL, STREAM])
def test_the_same_call_is_answered_once(engine: Engine, call: GenerationCall) -> None:
    first = ask(engine, call)
    again = ask(engine, replace(call, body={key: call.body[key] for key in reversed(list(call.body))}, id="another"))
    assert (first[0], again) == ("miss", ("hit", first[1]))
    assert len(parrot().asked) == 1
    counted = dict(engine.language_models.statistics())["parrot"]
    assert (counted.kept_hits, counted.kept_misses, dict(counted.outcomes)) == (1, 1, {"ok": 2})


@pytest.mark.parametrize(
    "other",
    [
        replace(CALL, tenant="b"),
        replace(
            CALL, kind=GenerationKind.CHAT, body={"messages": [{"role": "user", "content": "a b"}], "max_tokens": 1}
        ),
        replace(CALL, body={**CALL.body, "max_tokens": 5}),
        STREAM,
    ],
)
def test_another_call_is_none_of_its(engine: Engine, other: GenerationCall) -> None:
    ask(engine, replace(CALL, tenant="a"))
    assert ask(engine, other)[0] == "miss"


def test_who_wants_no_kept_answer_gets_none_and_leaves_none(engine: Engine) -> None:
    assert [ask(engine, replace(CALL, fresh=fresh))[0] for fresh in (True, False, True, False)] == [
        None, "miss", None, "hit",
    ]  # fmt: skip
    assert len(parrot().asked) == 3


def test_an_answer_from_documents_lasts_until_they_change(engine: Engine) -> None:
    first = ask(engine, BOOK)
    assert (first[0], ask(engine, BOOK)) == ("miss", ("hit", first[1]))
    Documents(engine).write(1)
    changed = ask(engine, BOOK)
    assert changed[0] == "miss"
    assert changed[1] != first[1]
    assert ask(engine, BOOK) == ("hit", changed[1])


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("Writer'}", "Writer', calls_max: 9}"),  # the model that words the answer is loaded anew
        ("k: 5", "k: 4"),  # the search is, and the graph with it
    ],
)
def test_an_answer_lasts_until_a_model_is_another(engine: Engine, was: str, becomes: str, tmp_path: Path) -> None:
    assert [ask(engine, BOOK)[0] for _ in range(2)] == ["miss", "hit"]
    engine.apply(parse_spec(SPEC.replace(was, becomes, 1), folder=tmp_path))
    assert [ask(engine, BOOK)[0] for _ in range(2)] == ["miss", "hit"]


def test_a_model_that_follows_its_spec_gives_no_answer_of_before(engine: Engine, tmp_path: Path) -> None:
    ask(engine)
    model = parrot()
    engine.apply(parse_spec(SPEC.replace("Adaptive', ", "Adaptive', calls_max: 3, "), folder=tmp_path))
    assert (parrot() is model, ask(engine)[0]) == (True, "miss")


def test_who_asks_a_model_that_followed_its_spec_gives_no_answer_of_before(engine: Engine, tmp_path: Path) -> None:
    call = replace(BOOK, model="asking", body={**QUESTION, "max_tokens": 3})
    assert [ask(engine, call)[0] for _ in range(2)] == ["miss", "hit"]
    engine.apply(parse_spec(SPEC.replace("Adaptive', ", "Adaptive', calls_max: 3, "), folder=tmp_path))
    assert [ask(engine, call)[0] for _ in range(2)] == ["miss", "hit"]


def test_an_answer_that_a_fallback_stood_in_for_is_not_kept(engine: Engine) -> None:
    calls = [GenerationCall(GenerationKind.COMPLETION, "careful", {"prompt": each}) for each in ("how?", "why?")]
    assert [ask(engine, each)[0] for each in calls * 2] == ["miss", "miss", "hit", "miss"]


def test_what_changed_while_it_was_answered_is_not_kept(engine: Engine, tmp_path: Path) -> None:
    async def read() -> None:
        answer = await engine.language_models.answer(replace(BOOK, body={**QUESTION, "stream": True}))
        assert not isinstance(answer.body, bytes)
        await anext(answer.body)
        Documents(engine).write(2)
        assert [each async for each in answer.body][-1] == b"data: [DONE]\n\n"

    engine.home.run(read(), PATIENCE_S)
    assert dict(engine.language_models.kept())["handbook"].bytes_size == 0


@pytest.mark.parametrize(
    ("call", "chunks_max"),
    [
        (replace(CALL, body={"prompt": "teapot"}), 1),  # an error that the model words
        (STREAM, 2),  # a caller who leaves
        (STREAM, 6),  # one who leaves before the end is told
        (GenerationCall(GenerationKind.CHAT, "bare", {**QUESTION, "stream": True, "seed": 13}), 1 << 20),  # breaks off
    ],
)
def test_what_did_not_end_well_is_not_kept(engine: Engine, call: GenerationCall, chunks_max: int) -> None:
    assert [ask(engine, call, chunks_max)[0] for _ in range(2)] == ["miss", "miss"]


def test_the_longest_unused_goes_first_and_what_is_too_large_is_not_kept(engine: Engine) -> None:
    calls = [replace(CALL, model="small", body={"prompt": f"a b {at}", "max_tokens": 3}) for at in range(3)]
    assert [ask(engine, each)[0] for each in (*calls[:2], calls[0], calls[2], calls[0], calls[1])] == [
        "miss", "miss", "hit", "miss", "hit", "miss",
    ]  # fmt: skip
    assert 0 < dict(engine.language_models.kept())["small"].bytes_size <= 1300
    large = replace(STREAM, model="small", body={"prompt": "a b", "max_tokens": 90, "stream": True})
    assert [ask(engine, large)[0] for _ in range(2)] == ["miss", "miss"]


def test_an_answer_grows_too_old(engine: Engine, clock: ManualClock) -> None:
    ask(engine)
    clock.advance(59.9)
    assert ask(engine)[0] == "hit"
    clock.advance(0.2)
    assert [ask(engine)[0] for _ in range(2)] == ["miss", "hit"]


@pytest.mark.parametrize(
    ("kind", "body", "kept"),
    [
        (GenerationKind.CHAT, {}, False),
        (GenerationKind.CHAT, {"temperature": 0.5}, False),
        (GenerationKind.COMPLETION, {"temperature": 0}, True),
        (GenerationKind.CHAT, {"temperature": 0.5, "seed": 3}, True),
        (GenerationKind.CHAT, {"temperature": False, "seed": None}, False),
        (GenerationKind.EMBEDDING, {"input": "a"}, True),
        (GenerationKind.RESPONSES, {"temperature": 0}, False),
    ],
)
def test_only_what_is_certain_to_be_answered_the_same_is_kept(
    kind: GenerationKind, body: dict[str, object], kept: bool
) -> None:
    answers = KeptAnswers(AnswersSpec(1000), ManualClock(), GenerationStatistics())
    assert (answers.key(GenerationCall(kind, "m", body)) is not None) is kept


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ("{bytes_max: 0}", "answers.bytes_max: must be from 1 to"),
        ("{bytes_max: 9, ttl_s: 0}", "answers.ttl_s: must be from 0.001 to"),
        ("{bytes_max: 9, always: true}", "answers.always: needs ttl_s"),
        ("{bytes_max: 9}", "answers: function 'embed' may read what it likes, so nothing tells when an answer is old"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_place(answers: str, told: str, tmp_path: Path) -> None:
    text = test_retrieval_graph.SPEC + f"    answers: {answers}\n"
    with pytest.raises(SpecError) as raised:
        parse_spec(text, folder=tmp_path, source="app.yaml")
    assert f"app.yaml:{len(text.splitlines())}: language_models.handbook.{told}" in raised.value.message


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("a: {call: 'm:f', answers: {bytes_max: 9}}", "'a' is code of your own"),
        (
            "a: {upstream: {targets: {b: {model: c, base_url: 'http://h/v1'}}}, answers: {bytes_max: 9}}",
            "'a' is answered by",
        ),
        ("a: {vllm: {model: m}, answers: {bytes_max: 9}}", None),
    ],
)
def test_what_nothing_tells_the_age_of_is_kept_only_by_its_age(section: str, told: str | None, tmp_path: Path) -> None:
    text = f"language_models: {{{section}}}"
    if told is None:
        assert parse_spec(text, folder=tmp_path).language_models["a"].answers == AnswersSpec(9)
        return
    with pytest.raises(SpecError, match=told):
        parse_spec(text, folder=tmp_path)
