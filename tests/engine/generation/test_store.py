"""Language models come, answer, change, die and go, and no call is lost on the way."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine import (
    Deadline,
    DeadlineExceeded,
    Engine,
    GenerationAnswer,
    GenerationCall,
    GenerationKind,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    monotonic,
    parse_spec,
)
from engine.generation import store
from tests import language
from tests.fakes import PATIENCE_S
from tests.language import HANGING, MADE, REFUSING, Adaptive, Bigrams

Result = TypeVar("Result")
SPEC = "language_models: {parrot: {call: 'tests.language:Bigrams'%s}}"
CALL = GenerationCall(GenerationKind.COMPLETION, "parrot", {"prompt": "the cat sat on", "max_tokens": 6})
STREAM = replace(CALL, body={"prompt": "a b", "stream": True})


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One that serves the parrot, on a loop of its own."""
    made = Engine(parse_spec(SPEC % "", folder=Path()))
    made.start()
    yield made
    REFUSING.clear()
    HANGING.clear()
    made.close(1.0)


def run(engine: Engine, work: Coroutine[Any, Any, Result]) -> Result:
    """On the loop of the language models."""
    return engine.home.run(work, PATIENCE_S)


def ask(engine: Engine, call: GenerationCall = CALL) -> GenerationAnswer:
    """The answer to a call."""
    return run(engine, engine.language_models.answer(call))


def told(answer: GenerationAnswer) -> str:
    """The text of an answer that came whole."""
    assert isinstance(answer.body, bytes)
    return str(json.loads(answer.body)["choices"][0]["text"])


async def piece(answer: GenerationAnswer) -> bytes:
    """The next piece of a stream."""
    assert not isinstance(answer.body, bytes)
    return await anext(answer.body)


def model() -> Bigrams:
    """The one that was made last."""
    return MADE[-1]


def outcomes(engine: Engine) -> dict[str, int]:
    """Of the parrot's calls."""
    return dict(engine.language_models.statistics()[0][1].outcomes)


def eventually(is_so: Callable[[], object]) -> None:
    """Returns when `is_so`."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def apply(engine: Engine, text: str) -> None:
    """Serves what `text` says."""
    engine.apply(parse_spec(text, folder=Path()))


def test_a_whole_answer_and_a_stream_say_the_same(engine: Engine) -> None:
    assert told(ask(engine)) == "the cat sat on the cat"
    streamed = ask(engine, replace(CALL, body={**CALL.body, "stream": True}))

    async def read() -> list[bytes]:
        assert not isinstance(streamed.body, bytes)
        return [each async for each in streamed.body]

    pieces = run(engine, read())
    assert pieces[-1] == language.END
    assert " ".join(json.loads(each[6:])["choices"][0]["text"] for each in pieces[:-1]) == "the cat sat on the cat"
    counted = engine.language_models.statistics()[0][1]
    assert (dict(counted.outcomes), counted.under_way, sum(counted.first.counts)) == ({"ok": 2}, 0, 2)


def test_the_models_own_error_is_an_answer(engine: Engine) -> None:
    answer = ask(engine, replace(CALL, body={"prompt": "teapot"}))
    assert (answer.status, answer.headers) == (418, (("x-pot", "tea"),))
    assert outcomes(engine) == {"refused": 1}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (replace(CALL, model="parot"), NotFound, "language model 'parot' is not found; nearest: 'parrot'"),
        (replace(CALL, kind=GenerationKind.EMBEDDING), InvalidArgument, "it answers: chat, completion"),
        (replace(CALL, body={"prompt": ""}), InvalidArgument, "it has no words"),
    ],
)
def test_a_call_that_cannot_be_answered_is_refused(
    engine: Engine, call: GenerationCall, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(engine, call)
    assert engine.language_models.statistics()[0][1].under_way == 0


def test_an_adapter_that_comes_later_is_found_by_its_name(engine: Engine) -> None:
    model().adapters.append("pirate")
    assert told(ask(engine, replace(CALL, model="pirate"))) == "the cat sat on the cat"
    assert [each.id for each in engine.language_models.cards()] == ["parrot", "pirate"]


def test_a_model_that_can_follow_its_spec_is_not_loaded_anew(engine: Engine) -> None:
    spec = SPEC.replace("Bigrams", "Adaptive")
    apply(engine, spec % "")
    first = model()
    apply(engine, spec % ", calls_max: 3")
    assert model() is first
    streams = [ask(engine, STREAM) for _ in range(3)]
    with pytest.raises(ResourceExhausted, match=r"3 calls are under way"):
        ask(engine)
    for each in streams:
        run(engine, each.aclose())
    apply(engine, spec % ", calls_max: 1")
    assert engine.problems() == {"parrot": "language model 'parrot' wants more than one call"}
    apply(engine, spec % ", calls_max: 4")
    assert engine.problems() == {"parrot": "RuntimeError: no more of this"}
    assert (model() is first, told(ask(engine))) == (True, "the cat sat on the cat")
    apply(engine, spec % ", calls_max: 2")
    assert model() is not first
    assert not engine.problems()


def test_a_model_that_hangs_is_given_up_and_loaded_anew(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPEC.replace("Bigrams", "Adaptive")
    apply(engine, spec % "")
    hung = model()
    assert isinstance(hung, Adaptive)
    monkeypatch.setattr(store, "GENERATION_ADAPT_S_MAX", 0.01)
    apply(engine, spec % ", calls_max: 5")
    assert (model() is hung, told(ask(engine))) == (False, "the cat sat on the cat")
    assert not engine.problems()
    eventually(lambda: hung.left and hung.closed)


def test_more_calls_than_allowed_are_refused(engine: Engine) -> None:
    apply(engine, SPEC % ", calls_max: 1")
    first = ask(engine, STREAM)
    with pytest.raises(ResourceExhausted, match="1 calls are under way") as raised:
        ask(engine)
    assert raised.value.retry_after_s is not None
    run(engine, first.aclose())
    assert told(ask(engine)) == "the cat sat on the cat"


def test_a_deadline_ends_a_call_and_frees_what_it_held(engine: Engine) -> None:
    model().open.clear()
    for call in (CALL, replace(STREAM, deadline=Deadline.after(0.01, monotonic()))):
        call = replace(call, deadline=Deadline.after(0.01, monotonic()))

        async def work(call: GenerationCall = call) -> None:
            answer = await engine.language_models.answer(call)
            await piece(answer)

        with pytest.raises(DeadlineExceeded, match="language model 'parrot': deadline passed"):
            run(engine, work())
    assert outcomes(engine) == {"DeadlineExceeded": 2}
    assert model().under_way == 0


def test_a_call_without_a_deadline_has_that_of_the_spec(engine: Engine) -> None:
    apply(engine, SPEC % ", timeout_ms: 10")
    model().open.clear()
    with pytest.raises(DeadlineExceeded):
        ask(engine)


def test_closing_a_stream_frees_what_it_held(engine: Engine) -> None:
    begun, unbegun = ask(engine, STREAM), ask(engine, STREAM)
    assert b"a" in run(engine, piece(begun))
    assert model().under_way == 1
    for each in (begun, unbegun, begun):
        run(engine, each.aclose())
    assert model().under_way == 0
    assert outcomes(engine) == {"cancelled": 2}


def test_a_cancelled_call_frees_what_it_held(engine: Engine) -> None:
    model().open.clear()

    async def cancelled() -> None:
        task = asyncio.create_task(engine.language_models.answer(CALL))
        await asyncio.sleep(0)
        assert model().under_way == 1
        task.cancel()
        await asyncio.wait([task])

    run(engine, cancelled())
    assert model().under_way == 0
    assert outcomes(engine) == {"cancelled": 1}


def test_a_new_declaration_is_swapped_in_and_calls_under_way_end_on_the_old(engine: Engine) -> None:
    old, stream = model(), ask(engine, STREAM)
    apply(engine, SPEC % ", calls_max: 7")
    assert model() is not old
    assert told(ask(engine)) == "the cat sat on the cat"
    assert len(old.asked) == 1
    assert run(engine, piece(stream))
    assert not old.closed
    run(engine, stream.aclose())
    eventually(lambda: old.closed)


def test_the_same_declaration_keeps_the_model(engine: Engine) -> None:
    old = model()
    apply(engine, SPEC % "")
    assert model() is old
    assert not old.closed


def test_what_cannot_be_loaded_leaves_the_old_to_serve(engine: Engine) -> None:
    REFUSING.set()
    apply(engine, SPEC % ", calls_max: 7")
    assert engine.problems() == {"parrot": "as it was declared before: language model 'parrot' is not to be had now"}
    assert not engine.ready
    assert told(ask(engine)) == "the cat sat on the cat"
    REFUSING.clear()
    apply(engine, SPEC % ", calls_max: 7")
    assert engine.ready


def test_a_load_that_hangs_is_given_up_and_what_it_still_makes_is_closed(engine: Engine) -> None:
    old = model()
    HANGING.set()
    apply(engine, SPEC % ", load_s_max: 0.01")
    hangs = "it hangs: it was not loaded within 0.01 s (load_s_max)"
    assert engine.problems() == {"parrot": f"as it was declared before: {hangs}"}
    assert not engine.ready
    assert told(ask(engine)) == "the cat sat on the cat"
    HANGING.clear()
    eventually(lambda: model() is not old and model().closed)
    assert not old.closed
    apply(engine, SPEC % "")
    assert not engine.problems()
    assert not model().closed


def test_a_first_load_that_hangs_is_told_and_keeps_no_other_model_out() -> None:
    HANGING.set()
    hanging = "parrot: {call: 'tests.language:Bigrams', load_s_max: 0.01}"
    engine = Engine(parse_spec(f"language_models: {{{hanging}, b: {{call: 'tests.language:END'}}}}", folder=Path()))
    engine.start()
    try:
        told = "it hangs: it was not loaded within 0.01 s (load_s_max)"
        assert engine.problems()["parrot"] == told
        assert "not callable" in engine.problems()["b"]
        with pytest.raises(Unavailable, match=re.escape(told)):
            ask(engine)
        made = len(MADE)
        HANGING.clear()
        eventually(lambda: len(MADE) > made and model().closed)
    finally:
        HANGING.clear()
        assert engine.close(1.0)


def test_what_is_not_wanted_any_more_is_closed_and_not_found(engine: Engine) -> None:
    apply(engine, "")
    with pytest.raises(NotFound):
        ask(engine)
    eventually(lambda: model().closed)


def test_a_model_that_was_never_loaded_says_why() -> None:
    engine = Engine(
        parse_spec("language_models: {a: {call: 'tests.nowhere:x'}, b: {call: 'tests.language:END'}}", folder=Path())
    )
    engine.start()
    try:
        assert "cannot import 'tests.nowhere:x'" in engine.problems()["a"]
        assert "'tests.language:END' is not callable" in engine.problems()["b"]
        with pytest.raises(Unavailable, match="language model 'a' is not ready"):
            ask(engine, replace(CALL, model="a"))
    finally:
        engine.close(1.0)


def test_a_model_that_dies_is_not_ready_and_loaded_anew(engine: Engine) -> None:
    dead = model()
    REFUSING.set()
    dead.dead = "the engine core is gone"
    assert "the engine core is gone" in engine.problems()["parrot"]
    eventually(lambda: dead.closed)
    with pytest.raises(Unavailable, match="parrot"):
        ask(engine)
    REFUSING.clear()
    eventually(lambda: engine.ready)
    assert model() is not dead
    assert told(ask(engine)) == "the cat sat on the cat"
    assert engine.language_models.statistics()[0][1].restarts == 1


def test_a_closed_engine_refuses_and_has_closed_its_models() -> None:
    engine = Engine(parse_spec(SPEC % "", folder=Path()))
    engine.start()
    made = model()
    engine.stop_accepting()
    with pytest.raises(Unavailable, match="shutting down"):
        ask(engine)
    assert engine.close(1.0)
    assert made.closed
