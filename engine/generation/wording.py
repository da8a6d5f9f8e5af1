"""Answers that this server words itself, in the form of the OpenAI API: whole, or the chunks of a stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.generation.call import GenerationKind

Chunk = dict[str, Any]

_OBJECTS: Final = {
    GenerationKind.CHAT: ("chatcmpl", "chat.completion", "chat.completion.chunk"),
    GenerationKind.COMPLETION: ("cmpl", "text_completion", "text_completion"),
}
"""How ids begin, what a whole answer is called, and what a chunk is."""


@dataclass(frozen=True, slots=True)
class Wording:
    """One answer under `model`'s name. `kind` is chat or completion."""

    kind: GenerationKind
    model: str
    id: str
    created_s: int

    @staticmethod
    def begun(kind: GenerationKind, model: str) -> Wording:
        """That begins now."""
        return Wording(kind, model, f"{_OBJECTS[kind][0]}-{time.time_ns():x}", int(time.time()))

    def piece(self, text: str, *, first: bool) -> Chunk:
        """The next piece of text; the `first` of a chat says whose it is."""
        role = {"role": "assistant"} if first else {}
        return self._chunk({"delta": {**role, "content": text}, "finish_reason": None}, text)

    def end(self, reason: str) -> Chunk:
        """There is no more text."""
        return self._chunk({"delta": {}, "finish_reason": reason}, "")

    def counted(self, usage: Mapping[str, int] | None) -> Chunk:
        """The chunk that tells the tokens; None where nobody knows them."""
        return {**self._head(2), "choices": [], "usage": usage}

    def whole(self, text: str, reason: str, usage: Mapping[str, int] | None) -> Chunk:
        """All of it."""
        said = (
            {"message": {"role": "assistant", "content": text}} if self.kind is GenerationKind.CHAT else {"text": text}
        )
        choice = {"index": 0, **said, "finish_reason": reason, "logprobs": None}
        return {**self._head(1), "choices": [choice], **({} if usage is None else {"usage": usage})}

    def _head(self, form: int) -> Chunk:
        return {"id": self.id, "object": _OBJECTS[self.kind][form], "created": self.created_s, "model": self.model}

    def _chunk(self, of_chat: Mapping[str, Any], text: str) -> Chunk:
        if self.kind is GenerationKind.CHAT:
            return {**self._head(2), "choices": [{"index": 0, **of_chat}]}
        reason = of_chat["finish_reason"]
        return {**self._head(2), "choices": [{"index": 0, "text": text, "finish_reason": reason, "logprobs": None}]}
