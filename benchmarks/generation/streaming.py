"""A caller of streamed answers over HTTP/1.1 that stamps what comes and reads it afterwards: both cores are the model's."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httptools
import msgspec

from engine import EventReader

_NO_HEADERS: Mapping[str, str] = {}
_END = b"0\r\n\r\n"
"""The last chunk of a body (RFC 9112 section 7.1)."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """One streamed answer. Instants in ns on one clock: `sent_ns` before its first byte was written, `token_ns` when each event
    with text came. `tokens`: as the server counted them."""

    sent_ns: int
    token_ns: Sequence[int]
    tokens: int
    text: str

    @property
    def first_ms(self) -> float:
        """To the first text."""
        return (self.token_ns[0] - self.sent_ns) / 1e6

    @property
    def between_ms(self) -> float:
        """From one token to the next, on average of this answer."""
        return (self.token_ns[-1] - self.token_ns[0]) / 1e6 / (self.tokens - 1)


class StreamError(Exception):
    """An answer was no stream of text to its end; what it was is in the message."""


class Connection(asyncio.Protocol):
    """One connection, kept open, for one call at a time."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, bytes]] = []
        self._ended: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._pieces.append((time.monotonic_ns(), data))
        tail = data if len(data) >= len(_END) else b"".join(piece for _, piece in self._pieces[-len(_END) :])
        if tail.endswith(_END):
            self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._settle()

    def _settle(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def call(self, request: bytes) -> tuple[int, list[tuple[int, bytes]]]:
        """When `request` was sent, and what came with the instant of each piece, to its end. Raises StreamError where the server
        has closed the connection since the last call: nobody would tell the end of this one."""
        assert self._transport is not None, "it is connected"
        if self._transport.is_closing():
            raise StreamError("the server closed the connection after the last answer")
        self._pieces, self._ended = [], asyncio.get_running_loop().create_future()
        sent_ns = time.monotonic_ns()
        self._transport.write(request)
        await self._ended
        return sent_ns, self._pieces

    def close(self) -> None:
        """It is not called again."""
        if self._transport is not None:
            self._transport.close()


async def connected(port: int) -> Connection:
    """A connection to a server on this machine."""
    _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return made


def request_of(path: str, body: object, headers: Mapping[str, str] = _NO_HEADERS) -> bytes:
    """A whole HTTP/1.1 request that posts `body` as JSON."""
    written = msgspec.json.encode(body)
    told = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(written)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode() + written


class _Body:
    """Takes the body out of an answer piece by piece, as httptools calls it."""

    def __init__(self) -> None:
        self.taken = b""

    def on_body(self, body: bytes) -> None:
        self.taken += body


def read(sent_ns: int, pieces: Sequence[tuple[int, bytes]]) -> Streamed:
    """What was told in the pieces of an answer to a streamed chat with usage. Raises StreamError."""
    body, reader, texts, stamps, tokens = _Body(), EventReader(), list[str](), list[int](), 0
    parser = httptools.HttpResponseParser(body)
    for at_ns, piece in pieces:
        body.taken = b""
        parser.feed_data(piece)
        for event in reader.feed(body.taken):
            if event.data == b"[DONE]":
                continue
            told = msgspec.json.decode(event.data)
            if (usage := told.get("usage")) is not None:
                tokens = usage["completion_tokens"]
            if text := "".join(each["delta"].get("content") or "" for each in told.get("choices", ())):
                texts.append(text)
                stamps.append(at_ns)
    if not stamps or tokens < 2:
        whole = b"".join(piece for _, piece in pieces)
        raise StreamError(f"no stream of tokens: {whole[:600].decode(errors='replace')}")
    return Streamed(sent_ns, stamps, tokens, "".join(texts))
