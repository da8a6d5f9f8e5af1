"""OpenAI's protocol to a server that speaks it: what comes is passed on as it came, and looked at only for tokens,
ends and errors. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.errors import Internal
from engine.generation.call import asks_usage
from engine.generation.sse import DONE, Event
from engine.generation.upstream.dialect import Json, openai_error, parsed
from engine.generation.upstream.usage import Usage, openai_usage

_RESPONSES: Final = "responses"
_ENDS: Final = frozenset({"response.completed", "response.failed", "response.incomplete"})
"""Events that end a stream of the Responses API, which knows no [DONE]."""


class OpenAiDialect:
    """See `Dialect`. `asks_usage`: servers are asked to end a stream with its token counts, which callers who have not
    asked are not shown."""

    def __init__(self, drop: tuple[str, ...] = (), *, asks_usage: bool = True) -> None:
        self._drop = drop
        self._asks_usage = asks_usage

    def request(self, surface: str, body: Mapping[str, Any], model: str) -> Json:
        """See `Dialect`."""
        sent = {name: value for name, value in body.items() if name not in self._drop}
        sent["model"] = model
        if self._asks_usage and sent.get("stream") is True and surface != _RESPONSES:
            options = sent.get("stream_options")
            sent["stream_options"] = (options if isinstance(options, dict) else {}) | {"include_usage": True}
        return sent

    def answer(self, surface: str, data: bytes) -> tuple[bytes, Usage | None]:
        """See `Dialect`."""
        told = parsed(data, "the answer")
        if told.get("error") and "choices" not in told and "output" not in told:  # some servers fail with status 200
            raise Internal(f"the answer is an error: {openai_error(told['error'])['message']}")
        return data, openai_usage(told.get("usage"))

    def error(self, data: bytes) -> Json:
        """See `Dialect`."""
        try:
            told = parsed(data, "the error")
        except Internal:
            return openai_error(data.decode("utf-8", "replace"))
        return openai_error(told.get("error", told.get("message", told.get("detail"))))

    def reading(self, surface: str, body: Mapping[str, Any]) -> OpenAiReading:
        """See `Dialect`."""
        return OpenAiReading(shows_usage=asks_usage(body), has_done=surface != _RESPONSES)


class OpenAiReading:
    """See `Reading`."""

    def __init__(self, *, shows_usage: bool, has_done: bool) -> None:
        self._shows_usage = shows_usage
        self._has_done = has_done
        self._finished = self._done = False
        self._counted: Usage | None = None
        self._events = 0
        self.error: Json | None = None

    @property
    def whole(self) -> bool:
        """See `Reading`: some servers close after the last choice without saying [DONE]."""
        return self._done or self._finished

    @property
    def ended(self) -> bool:
        """See `Reading`."""
        return self._done

    @property
    def usage(self) -> Usage | None:
        """See `Reading`: where nobody counted, servers send about one token an event."""
        return self._counted or (Usage(output=self._events, estimated=True) if self._events else None)

    def feed(self, event: Event) -> bytes:
        """See `Reading`."""
        if event.data.strip() == b"[DONE]":
            self._done = True
            return DONE
        told = parsed(event.data, "an event of the stream")
        if told.get("error") or event.kind == "error":
            self.error = openai_error(told.get("error") or told)
            return b""
        return self._response(told, event) if not self._has_done else self._chunk(told, event)

    def _response(self, told: Json, event: Event) -> bytes:
        self._events += 1
        if told.get("type") in _ENDS:
            self._done = True
            response = told.get("response")
            self._counted = openai_usage(response.get("usage")) if isinstance(response, dict) else None
        return event.raw

    def _chunk(self, told: Json, event: Event) -> bytes:
        choices, counted = told.get("choices"), openai_usage(told.get("usage"))
        if not isinstance(choices, list):
            raise Internal("an event of the stream has no choices")
        if counted is not None:
            self._counted = counted
            if not choices and not self._shows_usage:
                return b""
        if choices:
            self._events += 1
            self._finished = self._finished or any(
                isinstance(each, dict) and each.get("finish_reason") is not None for each in choices
            )
        return event.raw

    def end(self) -> bytes:
        """See `Reading`."""
        return DONE if self._has_done and not self._done else b""
