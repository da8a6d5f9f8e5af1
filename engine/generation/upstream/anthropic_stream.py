"""The events of a stream of Anthropic's Messages API as chunks of a chat completion in OpenAI's form. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import Internal
from engine.generation.upstream.anthropic_answer import anthropic_usage, finish_reason, openai_counts
from engine.generation.upstream.anthropic_content import Json
from engine.generation.upstream.dialect import openai_error
from engine.generation.upstream.usage import Usage


@dataclass(slots=True)
class _Call:
    """A tool call: which of the message's it is, and whether any of its arguments came."""

    position: int
    spoken: bool = False


class AnthropicStream:
    """One stream: each event gives the chunks it means. `usage`: the tokens counted so far."""

    def __init__(self, created_s: int, *, include_usage: bool) -> None:
        self._created_s = created_s
        self._include_usage = include_usage
        self._id = ""
        self._model: object = None
        self._counted: Json = {}
        self._calls: dict[int, _Call] = {}
        self.begun = False
        self.ended = False
        self.error: Json | None = None
        """What the provider broke off with, in OpenAI's shape."""

    @property
    def usage(self) -> Usage | None:
        """Tokens counted so far; None before the first count."""
        return anthropic_usage(self._counted) if self._counted else None

    def feed(self, event: Mapping[str, Any]) -> list[Json]:
        """The chunks that `event` means; none for what is not told, such as a ping. Raises Internal for what makes no
        sense."""
        kind = event.get("type")
        if kind == "message_start":
            return self._start(_object(event, "message"))
        if kind == "error":
            self.error = openai_error(event.get("error"))
            return []
        if not self.begun and kind != "ping":
            raise Internal(f"a stream of Anthropic's API began with the event {kind!r}")
        if kind in ("content_block_start", "content_block_delta", "content_block_stop"):
            return self._content(kind, event)
        if kind == "message_delta":
            return self._finish(_object(event, "delta"), event.get("usage"))
        if kind == "message_stop":
            self.ended = True
            return [self._usage_chunk()] if self._include_usage else []
        return []

    def _chunk(self, delta: Json, finished: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finished}
        return self._bare([choice])

    def _bare(self, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": self._model,
            "choices": choices,
        }

    def _start(self, message: Json) -> list[Json]:
        self.begun = True
        self._id, self._model = str(message.get("id")), message.get("model")
        self._count(message.get("usage"))
        return [self._chunk({"role": "assistant", "content": ""})]

    def _count(self, counted: object) -> None:
        """Counts are running totals; a later one stands in for an earlier."""
        if isinstance(counted, Mapping):
            self._counted |= {name: value for name, value in counted.items() if value is not None}

    def _content(self, kind: str, event: Mapping[str, Any]) -> list[Json]:
        index = event.get("index")
        if type(index) is not int:
            raise Internal(f"an event {kind!r} of Anthropic's API has no index")
        if kind == "content_block_start":
            return self._block(index, _object(event, "content_block"))
        if kind == "content_block_delta":
            return self._delta(index, _object(event, "delta"))
        call = self._calls.get(index)
        return [] if call is None or call.spoken else [self._arguments(call, "{}")]  # no text is no JSON

    def _block(self, index: int, block: Json) -> list[Json]:
        kind = block.get("type")
        if kind == "text":
            return self._text("content", block.get("text"))
        if kind == "thinking":
            return self._text("reasoning_content", block.get("thinking"))
        if kind != "tool_use":
            return []
        call = self._calls[index] = _Call(len(self._calls))
        function = {"name": block.get("name"), "arguments": ""}
        told = {"index": call.position, "id": block.get("id"), "type": "function", "function": function}
        return [self._chunk({"tool_calls": [told]})]

    def _arguments(self, call: _Call, text: str) -> Json:
        call.spoken = True
        return self._chunk({"tool_calls": [{"index": call.position, "function": {"arguments": text}}]})

    def _delta(self, index: int, delta: Json) -> list[Json]:
        kind = delta.get("type")
        if kind == "text_delta":
            return self._text("content", delta.get("text"))
        if kind == "thinking_delta":
            return self._text("reasoning_content", delta.get("thinking"))
        call = self._calls.get(index)
        if kind != "input_json_delta" or call is None:
            return []
        part = delta.get("partial_json")
        if not isinstance(part, str):
            raise Internal("a stream of Anthropic's API has a part of a tool's input that is not text")
        return [self._arguments(call, part)] if part else []

    def _text(self, name: str, text: object) -> list[Json]:
        return [self._chunk({name: text})] if isinstance(text, str) and text else []

    def _finish(self, delta: Json, counted: object) -> list[Json]:
        self._count(counted)
        reason = delta.get("stop_reason")
        return [] if reason is None else [self._chunk({}, finish_reason(reason))]

    def _usage_chunk(self) -> Json:
        return self._bare([]) | {"usage": openai_counts(anthropic_usage(self._counted), self._counted)}


def _object(event: Mapping[str, Any], name: str) -> Json:
    value = event.get(name)
    if not isinstance(value, dict):
        raise Internal(f"an event {event.get('type')!r} of Anthropic's API has no {name!r}")
    return value
