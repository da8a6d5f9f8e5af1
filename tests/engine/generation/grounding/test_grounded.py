"""A model grounded in what a function finds: its answers cite what was shown, whole and streamed, and say what they rest on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import (
    Deadline,
    DeadlineExceeded,
    Engine,
    GenerationAnswer,
    GenerationCall,
    GenerationKind,
    Internal,
    InvalidArgument,
    ModelCard,
    SpecError,
    monotonic,
    parse_spec,
)
from tests.fakes import PATIENCE_S

FACTS = {
    b"f-1": "The red-eyed vireo sings all day, even in summer heat.",
    b"f-2": "Vireos hang their nests in forked twigs.",
    b"f-3": "A kiwi cannot fly.",
}
GOING = threading.Event()
ASKED: list[Mapping[str, Any]] = []

SPEC = """
functions:
  facts:
    call: tests.engine.generation.grounding.test_grounded:facts
    inline_us_max: 0
    inputs: {question: {datatype: BYTES, shape: [-1]}}
    outputs:
      ids: {datatype: BYTES, shape: [-1, -1]}
      text: {datatype: BYTES, shape: [-1, -1]}
      scores: {datatype: FP32, shape: [-1, -1]}
language_models:
  writer: {call: 'tests.engine.generation.grounding.test_grounded:Writer'}
  birds: {grounded: {retrieval: facts, model: writer, queries: 0, score_min: 0.5, prompt: {version: '7'}}}
  ordered: {grounded: {retrieval: facts, model: writer, order: document}}
  wide: {grounded: {retrieval: facts, model: writer, queries: 2, citations: marked}}
"""


def facts(question: np.ndarray[Any, Any]) -> Mapping[str, np.ndarray[Any, Any]]:
    """The facts, best first, by the words that question and fact share; an empty place at the end of each list."""
    ids, texts, scores = [], [], []
    for asked in question:
        if asked == b"slow vireo":
            GOING.wait(PATIENCE_S)
        words = set(asked.decode().lower().strip("?").split())
        shares = {key: len(words & set(text.lower().strip(".").split())) / len(words) for key, text in FACTS.items()}
        best = sorted(shares, key=lambda key: -shares[key])
        ids.append([*best, b""])
        texts.append([*(FACTS[key].encode() for key in best), b""])
        scores.append([*(shares[key] for key in best), np.nan])
    return {"ids": np.array(ids, object), "text": np.array(texts, object), "scores": np.array(scores, np.float32)}


class Writer:
    """A model that repeats the first passage it is shown, cites it and one that nobody showed, and adds a sentence of its own."""

    kinds = frozenset((GenerationKind.CHAT,))

    def __init__(self, name: str) -> None:
        self.name = name

    def cards(self) -> Sequence[ModelCard]:
        """See `LanguageModel`."""
        return [ModelCard(self.name, 0)]

    def problem(self) -> str | None:
        """See `LanguageModel`."""
        return None

    async def aclose(self) -> None:
        """See `LanguageModel`."""

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        ASKED.append(call.body)
        if call.body.get("temperature") == 9:
            return GenerationAnswer(b'{"error": {"message": "too hot"}}', 400)
        if not call.streams:
            return GenerationAnswer(
                json.dumps({"choices": [{"message": {"content": "1. vireos nests\n2. kiwi fly"}}]}).encode()
            )
        prompt = call.body["messages"][-1]["content"]
        first = prompt.splitlines()[0].removeprefix("[1] ")
        return GenerationAnswer(_events(f"{first} [1][8] Elephants remember everything forever. {first}", call.body))


async def _events(text: str, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "writer"}
    for at in range(0, len(text), 5):
        await asyncio.sleep(0)
        piece = {"index": 0, "delta": {"content": text[at : at + 5]}, "finish_reason": None}
        yield b"data: " + json.dumps(head | {"choices": [piece]}).encode() + b"\n\n"
        if body.get("seed") == 13:
            yield b'data: {"error": {"message": "the engine died"}}\n\n'
    yield (
        b"data: "
        + json.dumps(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()
        + b"\n\n"
    )
    yield (
        b"data: " + json.dumps(head | {"choices": [], "usage": {"total_tokens": 5}}).encode() + b"\n\ndata: [DONE]\n\n"
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One that serves the birds."""
    made = Engine(parse_spec(SPEC, folder=Path()))
    made.start()
    yield made
    GOING.set()
    made.close(1.0)


def call(question: str = "where do vireos hang their nests?", model: str = "birds", **more: object) -> GenerationCall:
    """A question."""
    return GenerationCall(GenerationKind.CHAT, model, {"messages": [{"role": "user", "content": question}], **more})


def run(engine: Engine, asked: GenerationCall) -> tuple[int, bytes]:
    """The status and the whole body."""

    async def read() -> tuple[int, bytes]:
        answer = await engine.language_models.answer(asked)
        try:
            return answer.status, answer.body if isinstance(answer.body, bytes) else b"".join(
                [each async for each in answer.body]
            )
        finally:
            await answer.aclose()

    return engine.home.run(read(), PATIENCE_S)


def told(engine: Engine, asked: GenerationCall) -> dict[str, Any]:
    """The body of a whole answer."""
    status, body = run(engine, asked)
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def test_passages_are_shown_in_the_order_that_is_declared(engine: Engine) -> None:
    shown = {
        model: [each["id"] for each in told(engine, call("where do kiwi fly?", model))["grounding"]["passages"]]
        for model in ("wide", "ordered")
    }
    assert shown["wide"][0] == "f-3"
    assert shown["ordered"] == ["f-1", "f-2", "f-3"]


NESTS = "Vireos hang their nests in forked twigs"


def test_an_answer_cites_what_was_shown(engine: Engine) -> None:
    answer = told(engine, call())
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "birds"
    assert answer["usage"] == {"total_tokens": 5}
    assert answer["choices"][0]["finish_reason"] == "stop"
    text, grounding = answer["choices"][0]["message"]["content"], answer["grounding"]
    assert text == f"{NESTS}. [1] Elephants remember everything forever. {NESTS} [1]."
    assert [(each["passage"], text[each["start"] : each["end"]]) for each in grounding["citations"]] == [
        ("f-2", f"{NESTS}."),
        ("f-2", NESTS),
    ]
    assert [text[each["start"] : each["end"]] for each in grounding["unsupported"]] == [
        "Elephants remember everything forever."
    ]
    assert grounding["supported_share"] == pytest.approx(2 / 3)
    assert (grounding["answerable"], grounding["prompt_version"]) == (True, "7")
    assert grounding["retrieval"] == {"model": "facts", "version": "1"}
    assert grounding["passages"][0] == {"number": 1, "id": "f-2", "score": pytest.approx(2 / 3), "text": f"{NESTS}."}
    assert len(grounding["passages"]) == 3
    assert ASKED[-1]["messages"][0]["role"] == "system"


def test_a_stream_says_the_same_and_ends_with_what_it_rests_on(engine: Engine) -> None:
    whole = told(engine, call())
    lines = run(engine, call(stream=True))[1].decode().strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    said = "".join(each["choices"][0]["delta"].get("content", "") for each in chunks)
    assert said == whole["choices"][0]["message"]["content"]
    assert [each["grounding"] for each in chunks if "grounding" in each] == [whole["grounding"]]
    assert {each["model"] for each in chunks} == {"birds"}
    assert all("usage" not in each for each in chunks)
    counted = run(engine, call(stream=True, stream_options={"include_usage": True}))[1]
    assert b'"usage":{"total_tokens":5}' in counted


def test_what_the_passages_do_not_hold_is_not_asked_of_a_model(engine: Engine) -> None:
    asked = len(ASKED)
    answer = told(engine, call("how old is the moon"))
    assert answer["choices"][0]["message"]["content"] == "The documents do not answer this."
    assert (answer["grounding"]["answerable"], answer["grounding"]["passages"]) == (False, [])
    assert len(ASKED) == asked
    assert b"The documents do not" in run(engine, call("how old is the moon", stream=True))[1]


def test_more_ways_to_search_are_asked_for_and_fused(engine: Engine) -> None:
    grounding = told(engine, call("what of birds?", "wide"))["grounding"]
    assert grounding["queries"] == ["what of birds?", "vireos nests", "kiwi fly"]
    assert {each["id"] for each in grounding["passages"]} == {"f-1", "f-2", "f-3"}


def test_the_models_own_error_is_the_answer(engine: Engine) -> None:
    status, body = run(engine, call(temperature=9))
    assert (status, json.loads(body)) == (400, {"error": {"message": "too hot"}})


def test_what_breaks_off_is_told(engine: Engine) -> None:
    for stream in (False, True):
        with pytest.raises(Internal, match="language model 'writer': the engine died"):
            run(engine, call(seed=13, stream=stream))


def test_a_deadline_reaches_the_search(engine: Engine) -> None:
    GOING.clear()
    with pytest.raises(DeadlineExceeded):
        run(engine, replace(call("slow vireo"), deadline=Deadline.after(0.05, monotonic())))
    GOING.set()


def test_what_cannot_be_answered_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidArgument, match="tools: it calls no tools"):
        run(engine, call(tools=[{}]))
    with pytest.raises(InvalidArgument, match="answers no embedding calls"):
        run(engine, replace(call(), kind=GenerationKind.EMBEDDING))


@pytest.mark.parametrize(
    ("grounded", "problem"),
    [
        ("retrieval: fact, model: writer", "birds.grounded.retrieval: nothing is called 'fact'; nearest: 'facts'"),
        (
            "retrieval: facts, model: writr",
            "birds.grounded.model: no language model is called 'writr'; nearest: 'writer'",
        ),
        ("retrieval: facts, model: writer, stemmer: englsh", "birds.grounded.stemmer: stemmer 'englsh': not known"),
        ("retrieval: facts, model: birds", "birds.grounded.model: a model cannot word its own answers"),
        ("retrieval: facts, model: writer, passages_max: 0", "birds.grounded.passages_max: must be from 1"),
        (
            "retrieval: facts, model: writer, prompt: {question: hi}",
            "birds.grounded.prompt.question: {passages} is missing",
        ),
        ("retrieval: facts, model: writer, citations: some", "birds.grounded.citations: "),
        ("retrieval: facts, model: writer, unanswerable: ' '", "birds.grounded.unanswerable: must say something"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_place(grounded: str, problem: str) -> None:
    text = SPEC[: SPEC.index("  birds:")] + f"  birds: {{grounded: {{{grounded}}}}}\n"
    with pytest.raises(SpecError) as raised:
        parse_spec(text, folder=Path(), source="app.yaml")
    assert problem in raised.value.message


def test_models_that_would_ask_each_other_for_ever_are_refused() -> None:
    text = SPEC[: SPEC.index("  birds:")] + (
        "  birds: {grounded: {retrieval: facts, model: wide}}\n"
        "  wide: {grounded: {retrieval: facts, model: deep}}\n"
        "  deep: {grounded: {retrieval: facts, model: birds}}\n"
    )
    with pytest.raises(SpecError, match=r"birds\.grounded\.model: 'wide' asks 'birds' in turn"):
        parse_spec(text, folder=Path())
