"""Server-sent events out of bytes that arrive in any pieces, and into bytes again (WHATWG HTML, "Server-sent events").
Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.errors import Internal
from engine.limits import GENERATION_EVENT_BYTES_MAX

DONE: Final = b"data: [DONE]\n\n"
"""How OpenAI's protocol ends a stream."""

_END_OF_EVENT: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its kind (None where it names none), its data lines joined, and its bytes as they came."""

    kind: str | None
    data: bytes
    raw: bytes


class EventReader:
    """Cuts a stream of bytes into events. Not thread-safe."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._looked = 0

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that `piece` completes; comments and events without data are left out. Raises Internal past
        GENERATION_EVENT_BYTES_MAX bytes of one event."""
        rest = self._rest
        rest += piece
        begin = 0
        while (end := _END_OF_EVENT.search(rest, max(begin, self._looked))) is not None:
            raw = bytes(rest[begin : end.end()])
            begin = self._looked = end.end()
            if (event := _event(raw)) is not None:
                yield event
        del rest[:begin]
        self._looked = max(0, len(rest) - 3)  # an end may be cut in two, and is not looked for twice
        if len(rest) > GENERATION_EVENT_BYTES_MAX:
            raise Internal(f"a server-sent event has more than {GENERATION_EVENT_BYTES_MAX} bytes")


def _event(raw: bytes) -> Event | None:
    kind: str | None = None
    data: list[bytes] = []
    for line in raw.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value.decode("utf-8", "replace")
    return Event(kind, b"\n".join(data), raw) if data else None


def event_bytes(data: bytes) -> bytes:
    """An event without a kind, of data that has no line breaks, as JSON has none."""
    return b"data: " + data + b"\n\n"
