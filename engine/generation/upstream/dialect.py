"""What an upstream server speaks, told apart from how it is reached: requests made of OpenAI's form, answers and
streams turned back into it. Pure; two implementations stand behind it, OpenAI's own protocol and Anthropic's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from engine.errors import Internal
from engine.generation.sse import Event
from engine.generation.upstream.usage import Usage

Json = dict[str, Any]


class Reading(Protocol):
    """One stream being read."""

    @property
    def whole(self) -> bool:
        """Whether nothing of the answer is missing if the server closes now."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""

    @property
    def error(self) -> Json | None:
        """What the server broke off with, in OpenAI's shape."""

    @property
    def usage(self) -> Usage | None:
        """Tokens counted so far, or estimated; None where nothing is known."""

    def feed(self, event: Event) -> bytes:
        """What is told to the caller for this event, perhaps nothing. Raises Internal for what makes no sense."""

    def end(self) -> bytes:
        """What ends the stream, where the server has not said it."""


class Dialect(Protocol):
    """One protocol. `body` is the caller's, in OpenAI's form, which is never changed."""

    def request(self, surface: str, body: Mapping[str, Any], model: str) -> Json:
        """The body to send. Raises InvalidArgument for what the protocol cannot say."""

    def answer(self, surface: str, data: bytes) -> tuple[bytes, Usage | None]:
        """A whole answer in OpenAI's form, and its tokens where they were counted. Raises Internal where it is none."""

    def error(self, data: bytes) -> Json:
        """The error that `data` tells, as the `error` object of OpenAI's form."""

    def reading(self, surface: str, body: Mapping[str, Any]) -> Reading:
        """How the stream of an answer to `body` is read."""


def parsed(data: bytes, what: str) -> Json:
    """`data`, which must be a JSON object. Raises Internal."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Internal(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise Internal(f"{what} is no JSON object")
    return value


def openai_error(error: object) -> Json:
    """What a server told as its error, as OpenAI's `error` object."""
    given = error if isinstance(error, Mapping) else {"message": error}
    message, kind, code = given.get("message"), given.get("type"), given.get("code")
    return {
        "message": str(message) if message else "the provider gave no message",
        "type": kind if isinstance(kind, str) else "api_error",
        "param": given.get("param"),
        "code": code if isinstance(code, str) or code is None else str(code),
    }
