"""One server behind a language model: asked once, with what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from engine.clock import Clock
from engine.errors import InvalidArgument, ResourceExhausted, TooLarge, Unavailable, VireoError, quoted
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind
from engine.generation.upstream.anthropic_dialect import AnthropicDialect
from engine.generation.upstream.credentials import credential_source
from engine.generation.upstream.declaration import TargetSpec
from engine.generation.upstream.dialect import Dialect
from engine.generation.upstream.endpoint import headers_of, model_name, url_of
from engine.generation.upstream.health import Health
from engine.generation.upstream.http_client import HttpClient, Incoming
from engine.generation.upstream.openai_dialect import OpenAiDialect
from engine.generation.upstream.refusal import Refusal, refusal
from engine.generation.upstream.relay import Ended, Relay
from engine.generation.upstream.routing import Outcome
from engine.generation.upstream.statistics import Ending, TargetStatistics
from engine.generation.upstream.usage import Usage, estimate
from engine.limits import MESSAGE_BYTES_MAX, UPSTREAM_ERROR_BYTES_MAX

log = logging.getLogger("vireo.engine")

SURFACES: Final[Mapping[GenerationKind, str]] = {
    GenerationKind.CHAT: "chat/completions",
    GenerationKind.COMPLETION: "completions",
    GenerationKind.RESPONSES: "responses",
    GenerationKind.EMBEDDING: "embeddings",
    GenerationKind.RERANK: "rerank",
    GenerationKind.SCORE: "score",
}
"""Where OpenAI's protocol, and vLLM's additions to it, answer each kind of call."""

_TOLD: Final = ("x-request-id", "request-id")
"""Headers of an answer that callers are told."""


_NO_ANSWER: Final = Refusal(Outcome.FAILED)


@dataclass(frozen=True, slots=True)
class Missed:
    """A try that did not answer: `error` says why. `unfit`: the server was not asked, since it could not take the
    call."""

    error: VireoError
    refusal: Refusal = _NO_ANSWER
    unfit: bool = False


def kinds_of(target: TargetSpec) -> Collection[GenerationKind]:
    """The calls a target's provider knows."""
    if target.provider == "anthropic":
        return (GenerationKind.CHAT,)
    known = tuple(SURFACES)
    return known[:4] if target.provider == "azure" else known


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the targets of one model share: its name, the folder where paths begin, the clock, and microseconds since
    1970."""

    model: str
    folder: Path
    clock: Clock
    wall_us: Callable[[], int]


class Target:
    """Asks one server. Used on one event loop."""

    def __init__(
        self, around: Surroundings, name: str, spec: TargetSpec, health: Health, counted: TargetStatistics
    ) -> None:
        self.name, self.spec, self._health, self._counted = name, spec, health, counted
        self._clock, self._wall_us = around.clock, around.wall_us
        self._about = f"model {quoted(around.model)}: target {quoted(name)}"
        self._dialect = _dialect(spec, around.wall_us)
        where = f"language_models.{around.model}.upstream.targets.{name}"
        self._credentials = credential_source(spec, where, around.folder, around.clock)
        self._client = HttpClient(spec)

    async def ask(self, call: GenerationCall, ended: Ended) -> GenerationAnswer | Missed:
        """One try. `ended` is called once if there is an answer, when that has ended."""
        surface = SURFACES[call.kind]
        try:
            body = orjson.dumps(self._dialect.request(surface, call.body, model_name(self.spec, call.model)))
        except InvalidArgument as error:
            return Missed(InvalidArgument(f"{self._about}: {error.message}"), unfit=True)
        self._health.begin(self._clock())
        self._counted.in_flight += 1
        began_ns = self._clock()
        try:
            credential = await self._credentials.get()
            headers = headers_of(self.spec, credential, stream=call.streams)
            if call.trace is not None:
                headers["traceparent"] = call.trace
            incoming = await self._client.post(url_of(self.spec, surface), headers, body)
        except VireoError as error:
            return self._failed(error.message)
        except BaseException:
            self._left()
            raise
        return await self._received(call, surface, incoming, began_ns, len(body), ended)

    async def _received(
        self, call: GenerationCall, surface: str, incoming: Incoming, began_ns: int, sent: int, ended: Ended
    ) -> GenerationAnswer | Missed:
        try:
            if not 200 <= incoming.status < 300:
                return await self._refused(incoming, ended)
            if call.streams and incoming.headers.get("content-type", "").startswith("text/event-stream"):
                return await self._streamed(call, surface, incoming, began_ns, sent, ended)
            return await self._whole(surface, incoming, began_ns, sent, ended)
        except VireoError as error:
            await incoming.aclose()
            return self._failed(error.message)
        except BaseException:
            await incoming.aclose()
            self._left()
            raise

    async def _whole(
        self, surface: str, incoming: Incoming, began_ns: int, sent: int, ended: Ended
    ) -> GenerationAnswer:  # fmt: skip
        data = await incoming.read(MESSAGE_BYTES_MAX)
        self._counted.first_byte.observe(self._clock() - began_ns)
        body, usage = self._dialect.answer(surface, data)
        await incoming.aclose()
        self._ended(Ending.ANSWERED, usage or estimate(sent, len(body)), ended)
        return GenerationAnswer(body, headers=_told(incoming))

    async def _streamed(
        self, call: GenerationCall, surface: str, incoming: Incoming, began_ns: int, sent: int, ended: Ended
    ) -> GenerationAnswer:
        prompt = estimate(sent, 0).input

        def over(how: Ending, usage: Usage | None) -> None:
            known = usage or Usage(estimated=True)
            self._ended(how, Usage(prompt, known.output, estimated=True) if known.estimated else known, ended)

        relay = Relay(incoming, self._dialect.reading(surface, call.body), over, self._about)
        await relay.begin()
        self._counted.first_byte.observe(self._clock() - began_ns)
        self._health.answering()
        return GenerationAnswer(relay, headers=_told(incoming))

    async def _refused(self, incoming: Incoming, ended: Ended) -> GenerationAnswer | Missed:
        status = incoming.status
        try:
            data = await incoming.read(UPSTREAM_ERROR_BYTES_MAX)
        except TooLarge:
            data = b""
        await incoming.aclose()
        error = self._dialect.error(data)
        meant = refusal(status, incoming.headers, error, self._wall_us() / 1e6)
        if meant.outcome is Outcome.ANSWERED:
            self._health.succeeded()
            self._over(Ending.REFUSED)
            ended(Ending.REFUSED, None)
            return GenerationAnswer(orjson.dumps({"error": error}), status, _told(incoming))
        if meant.outcome is Outcome.LIMITED:
            return self._limited(status, meant)
        if meant.retry_after_s is not None:
            self._health.rest(meant.retry_after_s, self._clock())
        told = "" if status in (401, 403) else f": {quoted(str(error['message']))}"  # some repeat part of the key
        return self._failed(f"answered with status {status}{told}", meant)

    def _limited(self, status: int, meant: Refusal) -> Missed:
        if meant.retry_after_s is None:
            self._health.left()
        else:
            self._health.rest(meant.retry_after_s, self._clock())
        self._over(Ending.LIMITED)
        message = f"{self._about} is at its limit (status {status})"
        return Missed(ResourceExhausted(message, retry_after_s=meant.retry_after_s), meant)

    def _failed(self, why: str, meant: Refusal = _NO_ANSWER) -> Missed:
        message = why if why.startswith(self._about) else f"{self._about}: {why}"
        log.warning("%s", message)
        self._health.failed(self._clock())
        self._over(Ending.FAILED)
        return Missed(Unavailable(message, retry_after_s=meant.retry_after_s), meant)

    def _left(self) -> None:
        self._health.left()
        self._over(Ending.LEFT)

    def _ended(self, how: Ending, usage: Usage, ended: Ended) -> None:
        """An answer that began has ended."""
        if how is Ending.ANSWERED:
            self._health.succeeded()
        elif how is Ending.BROKEN:
            log.warning("%s: the answer broke off", self._about)
            self._health.failed(self._clock())
        self._counted.used(usage, self.spec.price)
        self._over(how)
        ended(how, usage)

    def _over(self, how: Ending) -> None:
        self._counted.in_flight -= 1
        self._counted.endings[how] += 1

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._client.aclose()


def _dialect(spec: TargetSpec, wall_us: Callable[[], int]) -> Dialect:
    if spec.provider == "anthropic":
        return AnthropicDialect(wall_us, spec.drop_parameters, spec.output_tokens_max)
    return OpenAiDialect(spec.drop_parameters, asks_usage=spec.stream_usage)


def _told(incoming: Incoming) -> tuple[tuple[str, str], ...]:
    found: dict[str, Any] = {name: incoming.headers.get(name) for name in _TOLD}
    identity = next((each for each in found.values() if each), None)
    return () if identity is None else (("x-request-id", identity),)
