"""Anthropic's Messages API, spoken for callers who speak OpenAI's. Pure, but for the clock that dates answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from engine.generation.call import asks_usage
from engine.generation.sse import DONE, Event, event_bytes
from engine.generation.upstream.anthropic_answer import openai_answer
from engine.generation.upstream.anthropic_request import anthropic_request
from engine.generation.upstream.anthropic_stream import AnthropicStream
from engine.generation.upstream.dialect import Json, openai_error, parsed
from engine.generation.upstream.usage import Usage


class AnthropicDialect:
    """See `Dialect`. `wall_us`: microseconds since 1970."""

    def __init__(self, wall_us: Callable[[], int], drop: tuple[str, ...], output_tokens_max: int) -> None:
        self._wall_us = wall_us
        self._drop = drop
        self._output_tokens_max = output_tokens_max

    def request(self, surface: str, body: Mapping[str, Any], model: str) -> Json:
        """See `Dialect`."""
        kept = {name: value for name, value in body.items() if name not in self._drop}
        return anthropic_request(kept, model, self._output_tokens_max)

    def answer(self, surface: str, data: bytes) -> tuple[bytes, Usage | None]:
        """See `Dialect`."""
        completion, usage = openai_answer(parsed(data, "the answer"), self._wall_us() // 1_000_000)
        return orjson.dumps(completion), usage

    def error(self, data: bytes) -> Json:
        """See `Dialect`."""
        return openai_error(parsed_error(data))

    def reading(self, surface: str, body: Mapping[str, Any]) -> AnthropicReading:
        """See `Dialect`."""
        return AnthropicReading(AnthropicStream(self._wall_us() // 1_000_000, include_usage=asks_usage(body)))


def parsed_error(data: bytes) -> object:
    """The `error` object of an error's body; its text where it has none."""
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"message": data.decode("utf-8", "replace")}
    return told.get("error") if isinstance(told, dict) else None


class AnthropicReading:
    """See `Reading`."""

    def __init__(self, stream: AnthropicStream) -> None:
        self._stream = stream

    @property
    def whole(self) -> bool:
        """See `Reading`."""
        return self._stream.ended

    @property
    def ended(self) -> bool:
        """See `Reading`."""
        return self._stream.ended

    @property
    def error(self) -> Json | None:
        """See `Reading`."""
        return self._stream.error

    @property
    def usage(self) -> Usage | None:
        """See `Reading`."""
        return self._stream.usage

    def feed(self, event: Event) -> bytes:
        """See `Reading`."""
        chunks = self._stream.feed(parsed(event.data, "an event of the stream"))
        return b"".join(event_bytes(orjson.dumps(each)) for each in chunks)

    def end(self) -> bytes:
        """See `Reading`."""
        return DONE
