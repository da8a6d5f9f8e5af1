"""The OpenAI API over HTTP: chat, completions, responses, embeddings, models; and reranking, scores, tokens as vLLM has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from engine import Chunks, GenerationAnswer, GenerationKind, ModelCard, NotFound, VireoError, nearest, quoted
from serving.asked import asked_by
from serving.http_app import Endpoint, HttpCall, Reply, json_reply, while_here
from serving.language_calls import LanguageCalls, generation_call
from serving.language_errors import language_error_event, language_error_reply
from serving.ledger import LEDGER, MARKS, SERVER_TIMING, encode_ledger, encode_marks, server_timing, timeline_of

_STREAM_HEADERS: Final = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
"""No proxy on the way may keep events back."""

_PATHS: Final = {
    "/v1/chat/completions": (GenerationKind.CHAT, "An answer to a conversation, whole or as events"),
    "/v1/completions": (GenerationKind.COMPLETION, "How a text goes on, whole or as events"),
    "/v1/responses": (GenerationKind.RESPONSES, "An answer, whole or as events, in the newer form"),
    "/v1/embeddings": (GenerationKind.EMBEDDING, "Vectors of texts"),
    "/rerank": (GenerationKind.RERANK, "Documents in the order of their use for a query"),
    "/v1/rerank": (GenerationKind.RERANK, "The same by its newer path"),
    "/score": (GenerationKind.SCORE, "How well texts fit to texts"),
    "/tokenize": (GenerationKind.TOKENIZE, "The tokens of a text or a conversation"),
}


class LanguageEndpoints:
    """The endpoints over one engine."""

    def __init__(self, calls: LanguageCalls) -> None:
        self._calls = calls
        self._models = calls.dispatch.engine.language_models

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint, the busiest first."""
        return [
            *(_endpoint("POST", path, self._answer(kind), text) for path, (kind, text) in _PATHS.items()),
            _endpoint("GET", "/v1/models", self._list, "The language models and their adapters"),
            _endpoint("GET", "/v1/models/{model:path}", self._card, "One of them"),
        ]

    def _answer(self, kind: GenerationKind) -> Callable[[HttpCall], Awaitable[Reply]]:
        async def answer(call: HttpCall) -> Reply:
            body = await call.body()
            asked = generation_call(kind, body, call.headers(), call.deadline)
            answer = await while_here(call, self._calls.begin(asked))
            return _reply(answer, self._told(call, answer))

        return answer

    def _told(self, call: HttpCall, answer: GenerationAnswer) -> list[tuple[str, str]]:
        """What is told of the servable's work: fallbacks that it took, and where the time went if somebody asks. Of one that
        streams it is the first response's."""
        served = answer.served
        if served is None or served.response is None:
            return []
        headers = [(MARKS, encode_marks(served.response.marks))] if served.response.marks else []
        asked = asked_by(call.headers())
        if asked is not None and asked.ledger:
            now_ns = self._calls.dispatch.engine.clock()
            timeline = timeline_of(served.request, served.response, call.received_ns, now_ns)
            headers += [(LEDGER, encode_ledger(timeline)), (SERVER_TIMING, server_timing(timeline))]
        return headers

    async def _list(self, call: HttpCall) -> Reply:
        return json_reply({"object": "list", "data": [_listed(each) for each in self._models.cards()]})

    async def _card(self, call: HttpCall) -> Reply:
        name, cards = call.path["model"], {each.id: each for each in self._models.cards()}
        if name not in cards:
            raise NotFound(f"language model {quoted(name)} is not found{nearest(name, cards)}")
        return json_reply(_listed(cards[name]))


def _endpoint(verb: str, path: str, handler: Callable[[HttpCall], Awaitable[Reply]], text: str) -> Endpoint:
    return Endpoint(verb, path, handler, text, failed=language_error_reply)


def _reply(answer: GenerationAnswer, told: Sequence[tuple[str, str]]) -> Reply:
    headers = (*answer.headers, *told)
    if isinstance(answer.body, bytes):
        return Reply(answer.body, status=answer.status, headers=headers, packable=True)
    return Reply(
        content_type=answer.content_type,
        status=answer.status,
        headers=(*headers, *_STREAM_HEADERS),
        chunks=_Events(answer.body),
    )


class _Events(AsyncIterator[bytes]):
    """The events of a stream; what breaks it off is told in one of its own, the last."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks, self._broken = chunks, False

    async def __anext__(self) -> bytes:
        if self._broken:
            raise StopAsyncIteration
        try:
            return await anext(self._chunks)
        except VireoError as error:
            self._broken = True
            return language_error_event(error)

    async def aclose(self) -> None:
        await self._chunks.aclose()


def _listed(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id, "object": "model", "created": card.created_s, "owned_by": card.owned_by,
        "root": card.parent or card.id, "parent": card.parent, "max_model_len": card.context_tokens,
    }  # fmt: skip
