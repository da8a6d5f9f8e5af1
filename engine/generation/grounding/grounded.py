"""A language model that answers from passages: it retrieves, asks another model to word the answer, and cites what it showed.

Its answers are those of the OpenAI API's chat, with one key more, `grounding`: in a stream it comes with the last chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from engine.errors import Internal, quoted
from engine.generation.asking import AskingModel
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind, asks_usage
from engine.generation.conversation import Conversation, conversation_of
from engine.generation.grounding.citation import CitedText
from engine.generation.grounding.declaration import GroundingSpec
from engine.generation.grounding.passage import Passage, fused
from engine.generation.grounding.prompt import (
    answer_messages,
    in_document_order,
    queries_in,
    query_messages,
    shown_passages,
)
from engine.generation.grounding.retrieval import Found, Retrieval
from engine.generation.grounding.support import Support
from engine.generation.language_model import Ask
from engine.generation.sampling import sampling_of
from engine.generation.sse import DONE, EventReader, event_bytes
from engine.generation.wording import Chunk, Wording

_QUERY_TOKENS: Final = 48
"""For each more way to search that is asked for."""


class GroundedModel(AskingModel):
    """See the module."""

    kinds = frozenset((GenerationKind.CHAT,))

    def __init__(self, name: str, spec: GroundingSpec, retrieval: Retrieval, ask: Ask) -> None:
        super().__init__(name)
        self._spec, self._retrieval, self._ask = spec, retrieval, ask

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`. An error that the wording model words itself is the answer."""
        asked, sampling = conversation_of(call.body), sampling_of(call.body)
        queries = [asked.question, *await self._more_queries(asked, call)]
        found = await asyncio.gather(*(self._retrieval.find(each, call) for each in queries))
        grounding = _Grounding(self._spec, self._retrieval.name, queries, found)
        if not grounding.answerable:
            return await self._answered(call, grounding, _said(self._name, self._spec.unanswerable))
        body = {
            **sampling,
            "model": self._spec.model,
            "messages": answer_messages(self._spec.prompt, asked, grounding.shown),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        worded = await self._ask(replace(call, model=self._spec.model, body=body))
        if isinstance(worded.body, bytes):
            return worded
        return await self._answered(call, grounding, _chunks(self._spec.model, worded))

    async def _more_queries(self, asked: Conversation, call: GenerationCall) -> list[str]:
        """More ways to search, in the model's words; none where it refuses, for the question itself is always searched."""
        count, model = self._spec.queries, self._spec.model
        if not count:
            return []
        body = {
            "model": model,
            "messages": query_messages(self._spec.prompt, asked, count),
            "max_tokens": _QUERY_TOKENS * count,
            "temperature": 0,
        }
        answer = await self._ask(replace(call, model=model, body=body))
        try:
            if answer.status != 200 or not isinstance(answer.body, bytes):
                return []
            text = orjson.loads(answer.body)["choices"][0]["message"]["content"]
            return queries_in(text or "", count)
        finally:
            await answer.aclose()

    async def _answered(
        self, call: GenerationCall, grounding: _Grounding, worded: AsyncGenerator[Chunk, None]
    ) -> GenerationAnswer:
        chunks = _cited(call.model, grounding, worded)
        if call.streams:
            return GenerationAnswer(_events(chunks, usage=asks_usage(call.body)))
        try:
            return GenerationAnswer(orjson.dumps(await _folded(chunks)))
        finally:
            await chunks.aclose()


class _Grounding:
    """What one answer rests on."""

    def __init__(self, spec: GroundingSpec, retrieval: str, queries: Sequence[str], found: Sequence[Found]) -> None:
        passages = fused([each.passages for each in found])
        best = max((each.score for each in passages), default=None)
        self._spec, self._queries = spec, queries
        self._retrieval = {"model": retrieval, "version": str(found[0].version)}
        self.answerable = best is not None and (spec.score_min is None or best >= spec.score_min)
        self.shown = shown_passages(passages, spec.passages_max, spec.chars_max) if self.answerable else []
        if spec.order == "document":
            self.shown = in_document_order(self.shown)
        support = Support(self.shown, spec.support_min, spec.stemmer)
        self.text = CitedText(len(self.shown), support, attributes=spec.citations == "attributed")

    def told(self) -> dict[str, Any]:
        """As the key `grounding` of an answer, once it has ended."""
        statements = self.text.statements
        supported = sum(each.supported for each in statements)
        return {
            "answerable": self.answerable,
            "prompt_version": self._spec.prompt.version,
            "retrieval": self._retrieval,
            "queries": list(self._queries),
            "passages": [_passage(number, each) for number, each in enumerate(self.shown, 1)],
            "citations": [
                {"number": each.number, "passage": self.shown[each.number - 1].id, "start": each.start, "end": each.end}
                for each in self.text.citations
            ],
            "unsupported": [{"start": each.start, "end": each.end} for each in statements if not each.supported],
            "supported_share": supported / len(statements) if statements else None,
        }


def _passage(number: int, passage: Passage) -> dict[str, Any]:
    place = {"document": passage.document, "start": passage.start, "end": passage.end}
    told = {"number": number, "id": passage.id, "score": passage.score, "text": passage.text}
    return told | {key: value for key, value in place.items() if value is not None}


async def _chunks(model: str, worded: GenerationAnswer) -> AsyncGenerator[Chunk, None]:
    """The chunks of a streamed answer, as objects. Raises Internal where the model breaks off with an error of its own."""
    assert not isinstance(worded.body, bytes)
    reader = EventReader()
    try:
        async for piece in worded.body:
            for event in reader.feed(piece):
                if event.data == b"[DONE]":
                    return
                chunk: Chunk = orjson.loads(event.data)
                if (error := chunk.get("error")) is not None:
                    told = error.get("message") if isinstance(error, Mapping) else error
                    raise Internal(f"language model {quoted(model)}: {told}")
                yield chunk
    finally:
        await worded.aclose()


async def _said(name: str, text: str) -> AsyncGenerator[Chunk, None]:
    """A text that no model was asked for, as its chunks."""
    wording = Wording.begun(GenerationKind.CHAT, name)
    yield wording.piece(text, first=True)
    yield wording.end("stop")


async def _cited(name: str, grounding: _Grounding, worded: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The same chunks under `name`, their text with its citations put right, and `grounding` with the one that ends the text."""
    try:
        async for chunk in worded:
            chunk["model"] = name
            for choice in chunk.get("choices") or ():
                delta = choice.setdefault("delta", {})
                said = grounding.text.feed(delta.get("content") or "") if grounding.answerable else delta.get("content")
                if choice.get("finish_reason") is not None:
                    said = (said or "") + (grounding.text.end() if grounding.answerable else "")
                    chunk["grounding"] = grounding.told()
                if said or "content" in delta:
                    delta["content"] = said or ""
            yield chunk
    finally:
        await worded.aclose()


async def _events(chunks: AsyncGenerator[Chunk, None], *, usage: bool) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            if chunk.get("choices") or usage:  # the chunk without choices is that of the usage
                yield event_bytes(orjson.dumps(chunk))
        yield DONE
    finally:
        await chunks.aclose()


async def _folded(chunks: AsyncGenerator[Chunk, None]) -> dict[str, Any]:
    """The whole answer that a stream amounts to."""
    whole: dict[str, Any] = {}
    text, reason = "", None
    async for chunk in chunks:
        whole |= {key: value for key, value in chunk.items() if key != "choices" and value is not None}
        for choice in chunk.get("choices") or ():
            text += choice["delta"].get("content") or ""
            reason = choice.get("finish_reason") or reason
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return whole | {"object": "chat.completion", "choices": [choice]}
