"""A stream on its way from an upstream server to the caller: read, turned into OpenAI's form, and let go of in every
case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import orjson

from engine.errors import Unavailable, VireoError
from engine.generation.sse import EventReader, event_bytes
from engine.generation.upstream.dialect import Reading
from engine.generation.upstream.statistics import Ending
from engine.generation.upstream.usage import Usage

_LINGER_S: Final = 0.2
"""How long the end of a body may take after its last event; a connection that is read to its end can be used again."""


class Source(Protocol):
    """The body of an answer, as `http_client.Incoming` has it."""

    async def piece(self) -> bytes | None:
        """What of the body has come next; None at its end. Raises Unavailable where it breaks off."""

    async def aclose(self) -> None:
        """Lets go of the connection."""


Ended = Callable[[Ending, Usage | None], None]


class Relay:
    """`Chunks` of one answer. `ended` is called once, with how it ended and the tokens it used as far as anybody
    knows."""

    def __init__(self, source: Source, reading: Reading, ended: Ended, about: str) -> None:
        self._source, self._reading, self._about = source, reading, about
        self._events = EventReader()
        self._first = b""
        self._tell: Ended | None = ended
        self._closed = False
        """The body has come to its end."""

    async def begin(self) -> None:
        """Waits until there is something to tell. Raises Unavailable where the server breaks off before; nothing was
        told then."""
        self._first = await self._next()
        if not self._first and self._reading.error is not None:
            raise Unavailable(f"{self._about}: {self._reading.error['message']}")

    def __aiter__(self) -> Relay:
        return self

    async def __anext__(self) -> bytes:
        """See `Chunks`. Raises Unavailable where the server breaks off."""
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._tell is None:
            raise StopAsyncIteration
        try:
            told = await self._next()
        except asyncio.CancelledError:
            await self._end(Ending.LEFT)
            raise
        except VireoError:
            await self._end(Ending.BROKEN)
            raise
        if told:
            return told
        if self._reading.error is not None:
            await self._end(Ending.BROKEN)
            return event_bytes(orjson.dumps({"error": self._reading.error}))
        await self._finish()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """See `Chunks`: the server notices that its connection is closed."""
        await self._end(Ending.LEFT)

    async def _next(self) -> bytes:
        """What is to be told next; nothing at the end, proper or not."""
        while not self._stopped():
            piece = await self._source.piece()
            if piece is None:
                return self._closing()
            told = bytearray()
            for event in self._events.feed(piece):
                told += self._reading.feed(event)
                if self._reading.ended:
                    told += self._reading.end()
                if self._stopped():
                    break
            if told:
                return bytes(told)
        return b""

    def _stopped(self) -> bool:
        return self._closed or self._reading.ended or self._reading.error is not None

    def _closing(self) -> bytes:
        if not self._reading.whole:
            raise Unavailable(f"{self._about}: the stream broke off before the answer's end")
        self._closed = True
        return self._reading.end()

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(_LINGER_S):
                while not self._closed and await self._source.piece() is not None:
                    pass
        except (TimeoutError, VireoError):
            pass  # everything has been told; the connection is closed instead of kept
        await self._end(Ending.ANSWERED)

    async def _end(self, how: Ending) -> None:
        tell, self._tell = self._tell, None
        if tell is None:
            return
        tell(how, self._reading.usage)
        await self._source.aclose()
