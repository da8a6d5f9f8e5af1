"""A language model that other servers run: each call is routed to a target, tried again elsewhere inside its deadline,
and handed on to a language model of this spec where no target answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

from engine.clock import Clock, wall_us
from engine.errors import DeadlineExceeded, ResourceExhausted, Unavailable, VireoError, quoted
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind
from engine.generation.language_model import Ask, ModelCard
from engine.generation.upstream.declaration import UpstreamSpec
from engine.generation.upstream.quota import Quotas, Reservation
from engine.generation.upstream.relay import Ended
from engine.generation.upstream.routing import Outcome, Router, Stop, Try
from engine.generation.upstream.statistics import Ending, TargetStatistics, TenantStatistics, UpstreamStatistics
from engine.generation.upstream.target import Missed, Surroundings, Target, kinds_of
from engine.generation.upstream.usage import Usage, prompt_bytes, reserve
from engine.limits import UPSTREAM_RETRIES_SPARE

log = logging.getLogger("vireo.generation")

OTHERS: Final = ""
"""Whose use of quotas is counted together: tenants that the spec does not name, and calls without one."""


class UpstreamModel:
    """See `LanguageModel`. `seed` makes its choices repeatable; None is for serving."""

    def __init__(
        self, name: str, spec: UpstreamSpec, folder: Path, *, clock: Clock, ask: Ask, seed: int | None = None
    ) -> None:
        self.name, self.spec, self._clock, self._ask = name, spec, clock, ask
        self._router = Router(spec, Random(seed).random, spare=UPSTREAM_RETRIES_SPARE)
        counted = {target: TargetStatistics() for target in spec.targets}
        self.statistics = UpstreamStatistics(counted)
        around = Surroundings(name, folder, clock, wall_us)
        self._targets = {
            target: Target(around, target, each, self._router.health[target], counted[target])
            for target, each in spec.targets.items()
        }
        self._able = {
            kind: [target for target, each in spec.targets.items() if kind in kinds_of(each)] for kind in GenerationKind
        }
        self._quotas = None if spec.quotas is None else Quotas(spec.quotas, name)
        self._card = ModelCard(name, int(time.time()))

    @property
    def kinds(self) -> Collection[GenerationKind]:
        """See `LanguageModel`."""
        return [kind for kind, targets in self._able.items() if targets]

    def cards(self) -> Sequence[ModelCard]:
        """See `LanguageModel`."""
        return (self._card,)

    def problem(self) -> str | None:
        """See `LanguageModel`: targets that fail come back of themselves."""
        return None

    def available(self, target: str) -> bool:
        """Whether the target of that name would be asked now."""
        return self._router.health[target].available(self._clock())

    def ejections(self, target: str) -> int:
        """How often the target of that name was ejected."""
        return self._router.health[target].ejections

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        settle = self._admitted(call)
        try:
            return await self._routed(call, settle)
        except BaseException:
            settle(Ending.FAILED, None)
            raise

    def _admitted(self, call: GenerationCall) -> Ended:
        """What is called with what was used. Raises ResourceExhausted where the tenant's quota is used up."""
        quotas = self.spec.quotas
        if self._quotas is None or quotas is None:
            return lambda how, usage: None
        tenant = call.tenant if call.tenant in quotas.tenants else OTHERS
        counted = self.statistics.tenants.setdefault(tenant or OTHERS, TenantStatistics())
        try:
            wanted = reserve(prompt_bytes(call.body), call.body)
            reservation = self._quotas.admit(call.tenant, wanted, self._clock())
        except ResourceExhausted:
            counted.refused += 1
            raise
        return self._settling(reservation, counted)

    def _settling(self, reservation: Reservation, counted: TenantStatistics) -> Ended:
        def settle(how: Ending, usage: Usage | None) -> None:
            used = 0 if usage is None else usage.total
            counted.tokens += used
            reservation.settle(used, self._clock())

        return settle

    async def _routed(self, call: GenerationCall, settle: Ended) -> GenerationAnswer:
        route = self._router.route(self._able[call.kind], call.deadline)
        missed: list[Missed] = []
        step = route.first(self._clock())
        while isinstance(step, Try):
            await self._until(step.at_ns)
            found = await self._targets[step.target].ask(call, settle)
            if isinstance(found, GenerationAnswer):
                return _signed(found, step.target)
            missed.append(found)
            now_ns = self._clock()
            if found.unfit:
                step = route.past(now_ns)
            else:
                refusal = found.refusal
                step = route.next(now_ns, retry_after_s=refusal.retry_after_s, spent=refusal.spent)
        settle(Ending.FAILED, None)
        return await self._handed_on(call, self._error(step, missed))

    async def _until(self, at_ns: int) -> None:
        left_s = (at_ns - self._clock()) / 1e9
        if left_s > 0:
            await asyncio.sleep(left_s)

    def _error(self, stop: Stop, missed: Sequence[Missed]) -> VireoError:
        """What the caller is told when no target answered."""
        asked = [each for each in missed if not each.unfit]
        if not asked and missed:
            return missed[0].error
        told = [each.error.message.removeprefix(f"model {quoted(self.name)}: ") for each in asked]
        message = f"model {quoted(self.name)}: {'; '.join([stop.why, *dict.fromkeys(told)])}"
        if not asked:
            if stop.retry_after_s is None:
                return DeadlineExceeded(message)
            return Unavailable(message, retry_after_s=stop.retry_after_s)
        limited = all(each.refusal.outcome is Outcome.LIMITED for each in asked)
        return (ResourceExhausted if limited else Unavailable)(message, retry_after_s=stop.retry_after_s)

    async def _handed_on(self, call: GenerationCall, error: VireoError) -> GenerationAnswer:
        """The answer of the first fallback that gives one. Raises `error` where none does."""
        for name in self.spec.fallback:
            if call.deadline.expired(self._clock()):
                break
            try:
                answer = await self._ask(replace(call, model=name, body={**call.body, "model": name}))
            except VireoError as failure:
                log.warning("model %s: the fallback %s does not answer: %s", self.name, name, failure.message)
                continue
            if answer.status >= 500:
                await answer.aclose()
                continue
            self.statistics.fallbacks[name] = self.statistics.fallbacks.get(name, 0) + 1
            return _signed(answer, name)
        raise error

    async def aclose(self) -> None:
        """See `LanguageModel`."""
        for each in self._targets.values():
            await each.aclose()


def _signed(answer: GenerationAnswer, by: str) -> GenerationAnswer:
    """`answer`, which says who gave it; what was said already, by a fallback's own target, stays."""
    if any(name == SIGNATURE for name, _ in answer.headers):
        return answer
    return GenerationAnswer(answer.body, answer.status, (*answer.headers, (SIGNATURE, by)))


SIGNATURE: Final = "vireo-target"
"""The header of an answer that names the target, or the language model, that gave it."""
