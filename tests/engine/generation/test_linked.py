"""Language models of another deployment: asked over a link, and woken where they rest while nobody calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from engine import (
    AutoscalingSpec,
    Deadline,
    DeploymentSpec,
    DescribedLanguage,
    GenerationAnswer,
    GenerationCall,
    GenerationKind,
    LanguageModelSpec,
    ModelCard,
    Unavailable,
    fingerprint_of,
)
from engine.generation.declaration import VllmSpec
from engine.generation.linked import LinkedModel, load_linked
from engine.home import Home
from engine.servables.linked import Way
from tests.fakes import ManualClock
from tests.language import Bigrams

SPEC = LanguageModelSpec(vllm=VllmSpec("weights", adapters={"poet": "adapters/poet"}))
CALL = GenerationCall(GenerationKind.COMPLETION, "chat", {"prompt": "the cat sat on", "max_tokens": 2})
CALM_S = 60.0


class Far:
    """A link to a deployment whose replica is there while `there` is set; `broken`: it cannot be started."""

    def __init__(self) -> None:
        self.model = Bigrams("chat")
        self.there = asyncio.Event()
        self.described: list[tuple[str, str]] = []
        self.broken: Unavailable | None = None

    async def describe(self, name: str, declared: str) -> DescribedLanguage:
        self.described.append((name, declared))
        await self.there.wait()
        if self.broken is not None:
            raise self.broken
        return DescribedLanguage(frozenset(self.model.kinds), (ModelCard("chat", 7, context_tokens=512),))

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        await self.there.wait()
        return await self.model.answer(call)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def loaded(far: Far, clock: ManualClock, replicas_min: int = 0) -> LinkedModel:
    """As a host loads it: off the loop."""
    scaling = AutoscalingSpec(replicas_min=replicas_min, calm_s=CALM_S)
    way = Way("llm", DeploymentSpec(("chat",), autoscaling=scaling), far)
    home = Home()
    try:
        return load_linked("chat", SPEC, way, clock, home)
    finally:
        home.close()


async def soon(is_so: Callable[[], bool]) -> None:
    """Returns when it is."""
    for _ in range(1_000):
        if is_so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


def test_one_that_is_always_there_says_what_it_is_when_it_is_loaded(clock: ManualClock) -> None:
    far = Far()
    far.there.set()
    model = loaded(far, clock, replicas_min=1)
    assert far.described == [("chat", fingerprint_of(SPEC))]
    assert (set(model.kinds), [each.context_tokens for each in model.cards()]) == (set(Bigrams.kinds), [512])
    asyncio.run(model.answer(CALL))
    assert far.model.asked == [CALL]


def test_one_at_rest_is_woken_by_the_first_call_and_again_when_it_has_rested(clock: ManualClock) -> None:
    far = Far()
    model = loaded(far, clock)
    assert far.described == []
    assert [each.id for each in model.cards()] == ["chat", "poet"]
    assert set(model.kinds) == set(GenerationKind)

    async def ask() -> None:
        calls = [asyncio.create_task(model.answer(CALL)) for _ in range(3)]
        await soon(lambda: bool(far.described))
        far.there.set()
        await asyncio.gather(*calls)
        assert len(far.described) == 1
        assert [each.context_tokens for each in model.cards()] == [512]
        clock.advance(CALM_S - 1)
        await model.answer(CALL)
        clock.advance(CALM_S - 1)
        await model.answer(CALL)
        assert len(far.described) == 1
        clock.advance(CALM_S)
        await model.answer(CALL)
        assert len(far.described) == 2

    asyncio.run(ask())


def test_call_whose_deadline_is_shorter_than_the_start_is_told_when_to_come_again(clock: ManualClock) -> None:
    far = Far()
    model = loaded(far, clock)

    def hurried() -> GenerationCall:
        return replace(CALL, deadline=Deadline.after(0.05, clock()))

    async def ask() -> None:
        with pytest.raises(
            Unavailable, match=r"'chat': deployment 'llm' was at rest and has been starting for 0.0 s"
        ) as told:
            await model.answer(hurried())
        assert told.value.retry_after_s == 10.0
        patient = asyncio.create_task(model.answer(CALL))
        clock.advance(40)
        with pytest.raises(Unavailable) as told:
            await model.answer(hurried())
        assert told.value.retry_after_s == 1.0
        far.there.set()
        await patient
        assert len(far.described) == 1
        far.there.clear()
        clock.advance(CALM_S)
        with pytest.raises(Unavailable, match=r"a start has taken up to 40.0 s") as told:
            await model.answer(hurried())
        assert told.value.retry_after_s == 40.0
        await model.aclose()

    asyncio.run(ask())


def test_one_that_cannot_be_started_tells_who_waits_and_is_tried_again(clock: ManualClock) -> None:
    far = Far()
    model = loaded(far, clock)

    async def ask() -> None:
        left = asyncio.create_task(model.answer(CALL))
        await soon(lambda: bool(far.described))
        left.cancel()
        far.broken = Unavailable("it does not fit")
        waiting = asyncio.create_task(model.answer(CALL))
        await asyncio.sleep(0)
        far.there.set()
        with pytest.raises(Unavailable, match="it does not fit"):
            await waiting
        far.broken = None
        await model.answer(CALL)
        assert len(far.described) == 2

    asyncio.run(ask())
