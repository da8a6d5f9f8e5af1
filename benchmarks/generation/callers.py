"""Callers that begin a long streamed chat, read some of it and leave: over HTTP/1.1, over gRPC, or by their deadline."""

import asyncio
import socket
import struct
import time
from typing import Any, Protocol

import msgspec

from benchmarks.generation.served import MODEL
from benchmarks.generation.streaming import request_of
from protos.vireo.v1 import generation_pb2 as pb

LONG_TOKENS = 900
RESET = struct.pack("ii", 1, 0)


class EndedError(Exception):
    """An answer ended before its caller had left."""


class Caller(Protocol):
    """Somebody whose call is under way."""

    async def events(self, count: int) -> None:
        """Reads until so many have come. Raises EndedError."""

    async def leave(self) -> int:
        """Ends the call from this side, and tells the instant in ns."""


def body(tokens: int, *, stream: bool = True) -> dict[str, object]:
    """A chat of exactly so many new tokens."""
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    messages = [{"role": "user", "content": "Tell me a story."}]
    return {"model": MODEL, "messages": messages, "max_tokens": tokens, "ignore_eos": True, **more}


def chat(tokens: int, *, stream: bool = True, timeout_ms: int | None = None) -> bytes:
    """The same as an HTTP/1.1 request."""
    headers = {} if timeout_ms is None else {"x-request-timeout-ms": str(timeout_ms)}
    return request_of("/v1/chat/completions", body(tokens, stream=stream), headers)


class HttpCaller:
    """Hangs up: by RST, or by FIN. One whose call has a deadline, `deadline_ns`, waits for that first."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deadline_ns: int | None) -> None:
        self._reader, self._writer, self._deadline_ns = reader, writer, deadline_ns
        self.by_reset = False

    async def events(self, count: int) -> None:
        """See `Caller`."""
        seen = 0
        while seen < count:
            piece = await self._reader.read(1 << 16)
            if not piece:
                raise EndedError("the server ended the answer")
            seen += piece.count(b"data: ")

    async def leave(self) -> int:
        """See `Caller`."""
        if self._deadline_ns is not None:
            await asyncio.sleep((self._deadline_ns - time.monotonic_ns()) / 1e9)
        if self.by_reset:
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        at_ns = self._deadline_ns or time.monotonic_ns()
        self._writer.close()
        return at_ns


async def http_caller(port: int, request: bytes, timeout_ms: int | None = None) -> HttpCaller:
    """One that has sent `request`, or a part of it, with a deadline of `timeout_ms` or none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    return HttpCaller(reader, writer, None if timeout_ms is None else time.monotonic_ns() + timeout_ms * 1_000_000)


class GrpcCaller:
    """Cancels a call of `vireo.v1.Generation/Stream`. `stub`: of grpc.aio."""

    def __init__(self, stub: Any, tokens: int = LONG_TOKENS) -> None:  # noqa: ANN401  generated
        self._call = stub.Stream(pb.GenerateRequest(body=msgspec.json.encode(body(tokens))))

    async def events(self, count: int) -> None:
        """See `Caller`."""
        for _ in range(count):
            if not isinstance(await self._call.read(), pb.GenerateEvent):
                raise EndedError("the server ended the answer")

    async def leave(self) -> int:
        """See `Caller`."""
        at_ns = time.monotonic_ns()
        self._call.cancel()
        return at_ns
