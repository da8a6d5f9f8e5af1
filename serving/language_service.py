"""`vireo.v1.Generation` as a table of methods on message bytes. It knows no transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from engine import EventReader, GenerationCall, GenerationKind, InvalidArgument
from protos.vireo.v1 import generation_pb2 as pb
from serving.codec import parse
from serving.language_calls import LanguageCalls, generation_call
from serving.methods import Call, Method, answering

SERVICE: Final = "vireo.v1.Generation"
_KINDS: Final = (GenerationKind.CHAT, *GenerationKind)
"""By number of the protocol; unspecified is chat."""
_DONE: Final = b"[DONE]"


class LanguageService:
    """The service's methods over one engine."""

    def __init__(self, calls: LanguageCalls) -> None:
        self._calls = calls
        self._models = calls.dispatch.engine.language_models

    def methods(self) -> list[Method]:
        """Every method of the service."""
        return [
            Method(f"/{SERVICE}/Generate", unary=self._generate),
            Method(f"/{SERVICE}/Stream", stream=self._stream),
            Method(f"/{SERVICE}/ListModels", unary=answering(pb.ListModelsRequest, lambda _: self._list())),
        ]

    async def _generate(self, call: Call, message: bytes) -> bytes:
        read = _call_in(call, message)
        if read.streams:
            raise InvalidArgument("request body: 'stream' is not for Generate; call Stream")
        answer = await self._calls.begin(read)
        assert isinstance(answer.body, bytes), "it was not asked to stream"
        encoded: bytes = pb.GenerateResponse(body=answer.body, status=answer.status).SerializeToString()
        return encoded

    async def _stream(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        read = _call_in(call, await anext(messages, b""))
        answer = await self._calls.begin(replace(read, body={**read.body, "stream": True}))
        if isinstance(answer.body, bytes):
            yield pb.GenerateEvent(event="" if answer.status < 400 else "error", data=answer.body).SerializeToString()
            return
        reader = EventReader()
        async with aclosing(answer.body) as chunks:
            async for chunk in chunks:
                for event in reader.feed(chunk):
                    if event.data != _DONE:
                        yield pb.GenerateEvent(event=event.kind or "", data=event.data).SerializeToString()

    def _list(self) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(
            models=[
                pb.LanguageModel(id=each.id, parent=each.parent or "", context_tokens=each.context_tokens or 0)
                for each in self._models.cards()
            ]
        )


def _call_in(call: Call, message: bytes) -> GenerationCall:
    request = parse(pb.GenerateRequest, message)
    if not 0 <= request.kind < len(_KINDS):
        raise InvalidArgument(f"kind: expected a number from 0 to {len(_KINDS) - 1}, got {request.kind}")
    return generation_call(_KINDS[request.kind], request.body, call.metadata(), call.deadline)
