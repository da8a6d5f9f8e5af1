"""One call of a language model and its answer. The bodies are those of the OpenAI API; who answers reads them, nobody before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from engine.clock import Deadline
from engine.request import INTERACTIVE, Request, Response


class GenerationKind(StrEnum):
    """What is asked for; each has its own form of body."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSES = "responses"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    SCORE = "score"
    TOKENIZE = "tokenize"


JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class GenerationCall:
    """One call. `body` is a JSON object that belongs to the caller: who answers copies what it changes. `model` is the body's,
    already known to be a name; `tenant` is whom it is counted for, None where nobody said; `trace` the W3C traceparent;
    `fresh`: it is not answered with what was answered before, and its answer is not kept.
    """

    kind: GenerationKind
    model: str
    body: Mapping[str, Any]
    deadline: Deadline = Deadline.NEVER
    tenant: str | None = None
    priority: int = INTERACTIVE
    id: str = ""
    trace: str | None = None
    fresh: bool = False

    @property
    def streams(self) -> bool:
        """Whether the answer is asked for piece by piece."""
        return self.body.get("stream") is True


def asks_usage(body: Mapping[str, Any]) -> bool:
    """Whether a stream is to end with its token counts."""
    options = body.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True


class Chunks(Protocol):
    """Whole server-sent events, one or more a chunk, as bytes. Closing it before its end drops the work behind it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Itself."""

    async def __anext__(self) -> bytes:
        """The next chunk. Raises StopAsyncIteration at the end; a VireoError where it broke off."""

    async def aclose(self) -> None:
        """Nothing more will be asked for. May be called at any time, and more than once."""


@dataclass(slots=True)
class Served:
    """The request to a servable that an answer is made of, and its response once that is there: of several the last so far."""

    request: Request
    response: Response | None = None


@dataclass(slots=True)
class GenerationAnswer:
    """An HTTP status with a whole body, or with the `Chunks` of a stream. Whoever gets one closes it.

    `served`: where all of it is the work of one servable.

    An error that the model itself words, such as that of an upstream server, is an answer with its status; all others are raised.
    """

    body: bytes | Chunks
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    served: Served | None = None

    @property
    def content_type(self) -> str:
        """JSON, or a stream of events."""
        return JSON if isinstance(self.body, bytes) else EVENTS

    async def aclose(self) -> None:
        """Frees what is behind a stream that was not read to its end."""
        if not isinstance(self.body, bytes):
            await self.body.aclose()
