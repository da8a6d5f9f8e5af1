"""A small language model for tests, served by the spec's `language_models`: it goes on as its prompt went, word by word."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import (
    Chunks,
    GenerationAnswer,
    GenerationCall,
    GenerationKind,
    InvalidArgument,
    LanguageModelSpec,
    ModelCard,
    ModelLoadError,
)

MADE: list[Bigrams] = []
"""All so far, the last one last."""

REFUSING = threading.Event()
"""While it is set, none can be loaded."""

HANGING = threading.Event()
"""While it is set, none finishes loading."""

END = b"data: [DONE]\n\n"


class Bigrams:
    """After each word comes the one that came after it last in the prompt. `max_tokens` words, or for ever."""

    kinds = frozenset((GenerationKind.CHAT, GenerationKind.COMPLETION))

    def __init__(self, name: str) -> None:
        while HANGING.is_set():
            time.sleep(0.001)
        if REFUSING.is_set():
            raise ModelLoadError(f"language model '{name}' is not to be had now")
        self.name = name
        self.adapters: list[str] = []
        self.dead: str | None = None
        self.closed = False
        self.open = asyncio.Event()
        self.open.set()
        self.asked: list[GenerationCall] = []
        self.under_way = 0
        MADE.append(self)

    def cards(self) -> Sequence[ModelCard]:
        """See `LanguageModel`."""
        return [ModelCard(self.name, 0), *(ModelCard(each, 0, parent=self.name) for each in self.adapters)]

    def problem(self) -> str | None:
        """See `LanguageModel`."""
        return self.dead

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        self.asked.append(call)
        words = _prompt(call.body).split()
        if not words:
            raise InvalidArgument("prompt: it has no words")
        if words[0] == "teapot":
            return GenerationAnswer(b'{"error": {"message": "I am one"}}', 418, (("x-pot", "tea"),))
        told = self._told(words, call.body.get("max_tokens"))
        if call.streams:
            return GenerationAnswer(_events(told))
        text = " ".join([each async for each in told])
        message = {"role": "assistant", "content": text}
        return GenerationAnswer(json.dumps({"choices": [{"index": 0, "message": message, "text": text}]}).encode())

    async def _told(self, words: list[str], most: int | None) -> AsyncGenerator[str, None]:
        after = dict(zip(words, words[1:] + words[:1], strict=True))
        word, said = words[-1], 0
        self.under_way += 1
        try:
            while most is None or said < most:
                await self.open.wait()
                word, said = after[word], said + 1
                yield word
                await asyncio.sleep(0)
        finally:
            self.under_way -= 1

    async def aclose(self) -> None:
        """See `LanguageModel`."""
        self.closed = True


class Adaptive(Bigrams):
    """Follows a bound or a deadline without being loaded anew; a bound of 1 it cannot have, for one of 2 it is loaded anew, at
    one of 4 it fails as nobody foresaw, at one of 5 it hangs until it is `left`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.left = False

    async def adapt(self, spec: LanguageModelSpec, folder: Path) -> bool:
        """See `Adaptable`."""
        if spec.calls_max == 1:
            raise ModelLoadError(f"language model '{self.name}' wants more than one call")
        if spec.calls_max == 4:
            raise RuntimeError("no more of this")
        if spec.calls_max == 5:
            try:
                await asyncio.Event().wait()
            finally:
                self.left = True
        return spec.calls_max != 2


class CarriageReturns(Bigrams):
    """Ends the lines of its events as some servers do."""

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        answer = await super().answer(call)
        assert not isinstance(answer.body, bytes)
        return GenerationAnswer(_with_carriage_returns(answer.body))


async def _with_carriage_returns(chunks: Chunks) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            yield chunk.replace(b"\n", b"\r\n")
    finally:
        await chunks.aclose()


def _prompt(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])


async def _events(words: AsyncGenerator[str, None]) -> AsyncGenerator[bytes, None]:
    try:
        async for each in words:
            piece = {"choices": [{"index": 0, "delta": {"content": each}, "text": each}]}
            yield b"data: " + json.dumps(piece).encode() + b"\n\n"
    finally:
        await words.aclose()
    yield END
