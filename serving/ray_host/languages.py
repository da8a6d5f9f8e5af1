"""The way from one replica to the language models of another deployment, streamed as they speak. For the loop that Ray runs this
replica's methods on, as all of `RayLink` is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from engine import Clock, DescribedLanguage, GenerationAnswer, GenerationCall, Internal, Unavailable, quoted
from serving.ray_host.hop import Message, error_of, generation_message, language_of

_TRIES: Final = 3
"""A call whose replica died before it said anything is made again."""
_DESCRIBE_S_MAX: Final = 1800.0
"""So long a model of many gigabytes may take until it is there."""
_ELSEWHERE_S: Final = 0.05
"""Before another replica is asked for what one has not yet as it is declared here: while an update goes on."""


class RayLanguages:
    """See `engine.LanguageLink`."""

    def __init__(self, deployment: str, handle: DeploymentHandle, clock: Clock) -> None:
        """`handle`: that pickles what it carries."""
        self._deployment, self._clock = deployment, clock
        self._describing = handle.options(method_name="describe_language")
        self._answering = handle.options(method_name="generate", stream=True)

    async def describe(self, name: str, declared: str) -> DescribedLanguage:
        """See `engine.LanguageLink`."""
        try:
            async with asyncio.timeout(_DESCRIBE_S_MAX):
                while True:
                    found = await self._described(name, declared)
                    if found is not None:
                        return language_of(found)
                    await asyncio.sleep(_ELSEWHERE_S)
        except (RayActorError, RayServeException, TimeoutError) as error:
            raise Unavailable(f"deployment {quoted(self._deployment)} does not answer: {error}") from error

    async def _described(self, name: str, declared: str) -> Message | None:
        response = self._describing.remote(name, declared)
        try:
            found: Message | None = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        return found

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `engine.LanguageLink`."""
        chunks, head = await self._begun(call)
        if head[0] == "error":
            raise error_of(head)
        _, body, status, headers = head
        return GenerationAnswer(chunks if body is None else body, status, headers)

    async def _begun(self, call: GenerationCall) -> tuple[_Chunks, Message]:
        """What is answered, and the first message of it."""
        for tries_left in reversed(range(_TRIES)):
            message = generation_message(call, self._clock)
            chunks = _Chunks(self._answering.remote(message), f"language model {quoted(call.model)}", self._deployment)
            try:
                return chunks, await chunks.taken()
            except Unavailable:  # the way there is lost; what the model says is a message
                if not tries_left:
                    raise
            except BaseException:
                await chunks.aclose()
                raise
        raise AssertionError


class _Chunks(AsyncIterator[bytes]):
    """See `engine.Chunks`: of an answer that comes through a Ray generator of responses."""

    def __init__(self, stream: Any, name: str, deployment: str) -> None:  # noqa: ANN401  Ray's generator
        self._stream, self._name, self._deployment = stream, name, deployment

    async def taken(self) -> Any:  # noqa: ANN401  a head, a chunk or an error
        """What comes next. Raises StopAsyncIteration at the end, Unavailable, Internal."""
        where = f"{self._name}: deployment {quoted(self._deployment)}"
        try:
            return await anext(self._stream)
        except (RayActorError, RayServeException) as error:
            raise Unavailable(f"{where} lost the call: {error}") from error
        except RayTaskError as broken:
            raise Internal(f"{where}: {type(broken.cause).__name__}: {broken.cause}") from broken

    async def __anext__(self) -> bytes:
        found = await self.taken()
        if isinstance(found, bytes):
            return found
        raise error_of(found)

    async def aclose(self) -> None:
        """See `engine.Chunks`."""
        self._stream.cancel()
