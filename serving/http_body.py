"""Bodies of HTTP messages: read within bounds, unpacked and packed as Content-Encoding says. Knows no route."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final

from engine import Cancelled, DeadlineExceeded, InvalidArgument, TooLarge, limits, quoted

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_GZIP, _ZLIB, _EITHER = 31, 15, 47  # zlib's wbits
_LEVEL: Final = 1  # tensors compress badly: the quickest level loses little
_BYTES_ON_LOOP_MAX: Final = 256 << 10
"""Longer bodies are packed and unpacked on another thread: zlib lets go of the GIL, so the loop serves others."""
_WINDOW_BYTES: Final = 64 << 10
"""Fed to zlib at once: what it does not use of them it gives back as a copy."""


class UnknownEncoding(InvalidArgument):
    """The body has a Content-Encoding that is not understood."""


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
    """`body` without its Content-Encoding: gzip, deflate or identity. Raises UnknownEncoding, InvalidArgument, TooLarge."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise UnknownEncoding(f"Content-Encoding {quoted(encoding)} is not supported; known: gzip, deflate, identity")
    if len(body) <= _BYTES_ON_LOOP_MAX:
        with suppress(TooLarge):  # a small body may hold a large one
            return _inflate(body, min(bytes_max, _BYTES_ON_LOOP_MAX))
    return await asyncio.to_thread(_inflate, body, bytes_max)


def _inflate(body: bytes, bytes_max: int) -> bytes:
    view, parts, room = memoryview(body), [], bytes_max
    for _ in range(limits.GZIP_MEMBERS_MAX):
        view, member = _inflate_member(view, room)
        parts += member
        room -= sum(map(len, member))
        if room < 0:
            raise _too_large("more once unpacked", bytes_max)
        if not view:
            return b"".join(parts)
    raise TooLarge(f"request body: more than {limits.GZIP_MEMBERS_MAX} compressed members")


def _inflate_member(view: memoryview, room: int) -> tuple[memoryview, list[bytes]]:
    """What follows the first member of `view`, and its content, cut short where it passes `room`."""
    unpacker, parts = zlib.decompressobj(_EITHER), []
    try:
        while view and room >= 0 and not unpacker.eof:
            fed = view[:_WINDOW_BYTES]
            parts.append(unpacker.decompress(fed, room + 1))
            room -= len(parts[-1])
            view = view[len(fed) - len(unpacker.unused_data) :]
    except zlib.error as error:
        raise InvalidArgument(f"request body: not what its Content-Encoding says: {error}") from error
    if room >= 0 and not unpacker.eof:
        raise InvalidArgument("request body: its compressed data ends too early")
    return view, parts


def chosen_encoding(accepted: str) -> str | None:
    """The Content-Encoding to answer with, given the request's Accept-Encoding; None for none.

    Of gzip and deflate the one with the higher quality (RFC 9110, section 12.5.3), unless plain is preferred outright.
    """
    qualities = dict(_quality(each) for each in accepted.lower().split(",") if each.strip())
    other = qualities.get("*", 0.0)
    best = max(("gzip", "deflate"), key=lambda name: qualities.get(name, other))
    quality = qualities.get(best, other)
    return best if quality > 0 and quality >= qualities.get("identity", 0.0) else None


def _quality(item: str) -> tuple[str, float]:
    name, _, parameter = item.partition(";")
    key, _, value = parameter.strip().partition("=")
    try:
        quality = float(value) if key.strip() == "q" else 1.0
    except ValueError:
        quality = 0.0
    return name.strip(), quality if 0 <= quality <= 1 else 0.0


async def pack(body: bytes, encoding: str) -> bytes:
    """`body` in `encoding`, "gzip" or "deflate"."""
    if len(body) > _BYTES_ON_LOOP_MAX:
        return await asyncio.to_thread(_deflate, body, encoding)
    return _deflate(body, encoding)


def _deflate(body: bytes, encoding: str) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else _ZLIB)
    return packer.compress(body) + packer.flush()
