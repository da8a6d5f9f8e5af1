"""Calls of language models, from any front: read, begun up to the first bytes of the answer, and counted while somebody waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from engine import (
    INTERACTIVE,
    Chunks,
    Deadline,
    GenerationAnswer,
    GenerationCall,
    GenerationKind,
    InvalidArgument,
    limits,
    quoted,
)
from serving.asked import asked_by
from serving.codec import check_name
from serving.dispatch import Dispatch
from serving.json_body import decoded

_TENANT: Final = "vireo-tenant"
_ID: Final = "x-request-id"
_CACHING: Final = "cache-control"


def generation_call(
    kind: GenerationKind, body: bytes, headers: Mapping[str, str], deadline: Deadline
) -> GenerationCall:
    """The call that a JSON `body` and headers, or gRPC metadata, make. Raises InvalidArgument."""
    read: dict[str, Any] = decoded(body, dict[str, Any])
    model = read.get("model")
    if not isinstance(model, str):
        raise InvalidArgument(f"request body: 'model' must be a text, got {quoted(str(model))}")
    stream = read.get("stream")
    if not isinstance(stream, bool | None):  # vLLM would take "yes" for true, and who awaits a whole answer not
        raise InvalidArgument(f"request body: 'stream' must be true or false, got {quoted(str(stream))}")
    asked = asked_by(headers)
    priority = INTERACTIVE if asked is None or asked.priority is None else asked.priority
    trace = None if asked is None or asked.parent is None else str(asked.parent)
    request_id = headers.get(_ID, "")[: limits.ID_CHARS_MAX]
    return GenerationCall(
        kind,
        check_name("model", model),
        read,
        deadline,
        headers.get(_TENANT),
        priority,
        request_id,
        trace,
        _fresh(headers),
    )


def _fresh(headers: Mapping[str, str]) -> bool:
    """Whether the caller wants no kept answer (RFC 9111, 5.2.1)."""
    directives = {each.strip().lower() for each in headers.get(_CACHING, "").split(",")}
    return not directives.isdisjoint(("no-cache", "no-store"))


class Begun(AsyncIterator[bytes]):
    """A stream whose first bytes are there; at its end, whichever that is, `over` is called."""

    def __init__(self, first: bytes | None, chunks: Chunks, over: Callable[[], None]) -> None:
        self._first, self._chunks, self._over = first, chunks, over

    async def __anext__(self) -> bytes:
        """The next chunk."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """See `Chunks`."""
        over, self._over = self._over, _nothing
        over()
        await self._chunks.aclose()


def _nothing() -> None: ...


@dataclass(slots=True)
class LanguageCalls:
    """What every front asks."""

    dispatch: Dispatch

    async def begin(self, call: GenerationCall) -> GenerationAnswer:
        """The answer, of a stream when its first bytes are there: what fails before them is raised. To be closed."""
        dispatch = self.dispatch
        dispatch.in_flight += 1
        try:
            answer = await dispatch.engine.language_models.answer(call)
            chunks = answer.body
            if isinstance(chunks, bytes):
                dispatch.in_flight -= 1
                return answer
            try:
                first = await anext(chunks, None)
            except BaseException:
                await chunks.aclose()
                raise
        except BaseException:
            dispatch.in_flight -= 1
            raise
        return replace(answer, body=Begun(first, chunks, self._over))

    def _over(self) -> None:
        self.dispatch.in_flight -= 1
