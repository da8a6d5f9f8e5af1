"""A language model that replicas of another deployment run, called over its link; where there is none while nobody calls, one is
brought up first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Final

from engine.clock import Clock, Deadline
from engine.errors import Unavailable, quoted
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind
from engine.generation.declaration import LanguageModelSpec
from engine.generation.language_model import ModelCard
from engine.home import Home
from engine.placement import fingerprint_of
from engine.servables.linked import DescribedLanguage, LanguageLink, Way

_TOLD_S: Final = 0.02
"""Before its deadline a caller is told what it waited for, instead of that the deadline passed."""
_START_S: Final = 10.0
"""After it a caller is asked to come again while no start has been seen that would tell how long one takes."""


def load_linked(name: str, spec: LanguageModelSpec, way: Way, clock: Clock, home: Home) -> LinkedModel:
    """The model as it is there, once it is `declared` so; one that may be at rest as its spec says that it is. Off the loop of
    `home`. Raises what the link does."""
    declared = fingerprint_of(spec.apart)
    if way.placed.rests_after_s is not None:
        return RestingModel(name, spec, way, way.placed.rests_after_s, clock)
    return LinkedModel(home.run(way.link.describe(name, declared)), way.link)


class LinkedModel:
    """A `LanguageModel` whose replicas look after themselves."""

    def __init__(self, described: DescribedLanguage, link: LanguageLink) -> None:
        self._described, self._link = described, link

    @property
    def kinds(self) -> Collection[GenerationKind]:
        """See `LanguageModel`."""
        return self._described.kinds

    def cards(self) -> Sequence[ModelCard]:
        """See `LanguageModel`."""
        return self._described.cards

    def problem(self) -> str | None:
        """None: a replica that can answer nothing any more is replaced where it runs."""
        return None

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        return await self._link.answer(call)

    async def aclose(self) -> None:
        """The link is its owner's."""


class RestingModel(LinkedModel):
    """The same where there may be no replica. Until one was seen, it says that it answers whatever language models do, by the
    names of its spec. Calls that come while it rests wait, each within its deadline, for one replica to be brought up."""

    def __init__(self, name: str, spec: LanguageModelSpec, way: Way, rests_after_s: float, clock: Clock) -> None:
        created_s, adapters = int(time.time()), () if spec.vllm is None else tuple(spec.vllm.adapters)
        cards = ModelCard(name, created_s), *(ModelCard(each, created_s, parent=name) for each in adapters)
        super().__init__(DescribedLanguage(frozenset(GenerationKind), cards), way.link)
        self._name, self._declared, self._deployment = name, fingerprint_of(spec.apart), way.deployment
        self._clock = clock
        self._rests_after_ns = int(rests_after_s * 1e9)
        self._awake_until_ns = clock()
        self._waking: asyncio.Task[None] | None = None
        self._woken_ns = 0
        self._start_s = 0.0
        """That the longest start took that was seen."""

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`. Raises Unavailable, with when to try again, where the deadline comes before a replica."""
        if self._clock() >= self._awake_until_ns:
            await self._awake(call)
        answer = await super().answer(call)
        self._seen()
        return answer

    def _seen(self) -> None:
        """A replica does not go before so long a time without calls."""
        self._awake_until_ns = self._clock() + self._rests_after_ns

    async def _awake(self, call: GenerationCall) -> None:
        """Returns when a replica has told of itself: that comes, though this caller leave."""
        if self._waking is None:
            self._woken_ns = self._clock()
            self._waking = asyncio.create_task(self._wake())
            self._waking.add_done_callback(_seen_to)
        waking = self._waking
        left_s = None if call.deadline == Deadline.NEVER else call.deadline.remaining_s(self._clock()) - _TOLD_S
        await asyncio.wait([waking], timeout=None if left_s is None else max(0.0, left_s))
        if not waking.done():
            since_s = (self._clock() - self._woken_ns) / 1e9
            took = f"; a start has taken up to {self._start_s:.1f} s" if self._start_s else ""
            raise Unavailable(
                f"language model {quoted(self._name)}: deployment {quoted(self._deployment)} was at rest and has been starting "
                f"for {since_s:.1f} s, longer than the deadline of this call allows{took}",
                retry_after_s=max(1.0, (self._start_s or _START_S) - since_s),
            )
        waking.result()

    async def _wake(self) -> None:
        try:
            self._described = await self._link.describe(self._name, self._declared)
            self._start_s = max(self._start_s, (self._clock() - self._woken_ns) / 1e9)  # 0 where another door woke it
            self._seen()
        finally:
            self._waking = None

    async def aclose(self) -> None:
        """See `LanguageModel`."""
        if self._waking is not None:
            self._waking.cancel()


def _seen_to(waking: asyncio.Task[None]) -> None:
    """How it failed, nobody may be there to hear."""
    if not waking.cancelled():
        waking.exception()
