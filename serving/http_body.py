"""Bodies of HTTP messages: read within bounds, unpacked and packed as Content-Encoding says. Knows no route."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from engine import Cancelled, DeadlineExceeded, InvalidArgument, TooLarge, limits, quoted

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_GZIP, _ZLIB, _EITHER = 31, 15, 47  # zlib's wbits
_LEVEL: Final = 1  # tensors compress badly: the quickest level loses little
_BYTES_ON_LOOP_MAX: Final = 256 << 10
"""Longer bodies are packed and unpacked on another thread: zlib lets go of the GIL, so the loop serves others."""


async def read_body(receive: Receive, declared_bytes: int | None, bytes_max: int) -> bytes:
    """The whole request body. Raises TooLarge past `bytes_max`, Cancelled where the client leaves before its end."""
    if declared_bytes is not None and declared_bytes > bytes_max:
        raise _too_large(f"{declared_bytes} bytes", bytes_max)
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return _bounded(body, bytes_max)
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await _next(receive)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > bytes_max:
            raise _too_large(f"{size} bytes so far", bytes_max)
    return b"".join(parts)


async def _next(receive: Receive) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(limits.HTTP_IDLE_S_MAX):
            message = await receive()
    except TimeoutError as error:
        raise DeadlineExceeded(f"request body: nothing came for {limits.HTTP_IDLE_S_MAX:g} s") from error
    if message["type"] == "http.disconnect":
        raise Cancelled("the client left before its request was complete")
    return message


def _bounded(body: bytes, bytes_max: int) -> bytes:
    if len(body) > bytes_max:
        raise _too_large(f"{len(body)} bytes", bytes_max)
    return body


def _too_large(got: str, bytes_max: int) -> TooLarge:
    return TooLarge(f"request body: {got}, at most {bytes_max} are allowed (server.message_bytes_max)")


async def unpack(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """`body` without its Content-Encoding: gzip, deflate or identity. Raises InvalidArgument, TooLarge."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise InvalidArgument(f"Content-Encoding {quoted(encoding)} is not supported; known: gzip, deflate, identity")
    if len(body) > _BYTES_ON_LOOP_MAX:
        return await asyncio.to_thread(_inflate, body, bytes_max)
    return _inflate(body, bytes_max)


def _inflate(body: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    room = bytes_max
    while body or not parts:
        unpacker = zlib.decompressobj(_EITHER)
        try:
            parts.append(unpacker.decompress(body, room + 1))
        except zlib.error as error:
            raise InvalidArgument(f"request body: not what its Content-Encoding says: {error}") from error
        room -= len(parts[-1])
        if room < 0:
            raise _too_large("more once unpacked", bytes_max)
        if not unpacker.eof:
            raise InvalidArgument("request body: its compressed data ends too early")
        body = unpacker.unused_data  # gzip may hold several members, one after the other
    return b"".join(parts)


def chosen_encoding(accepted: str) -> str | None:
    """The Content-Encoding to answer with, given the request's Accept-Encoding; None for none."""
    qualities = dict(_quality(each) for each in accepted.lower().split(",") if each.strip())
    for name in ("gzip", "deflate"):
        if qualities.get(name, qualities.get("*", 0.0)) > 0:
            return name
    return None


def _quality(item: str) -> tuple[str, float]:
    name, _, parameter = item.partition(";")
    key, _, value = parameter.strip().partition("=")
    try:
        return name.strip(), float(value) if key.strip() == "q" else 1.0
    except ValueError:
        return name.strip(), 0.0


async def pack(body: bytes, encoding: str) -> bytes:
    """`body` in `encoding`, "gzip" or "deflate"."""
    if len(body) > _BYTES_ON_LOOP_MAX:
        return await asyncio.to_thread(_deflate, body, encoding)
    return _deflate(body, encoding)


def _deflate(body: bytes, encoding: str) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else _ZLIB)
    return packer.compress(body) + packer.flush()
