"""What a new connection speaks: HTTP/2 begins with a preface of its own (RFC 9113 section 3.4), anything else is HTTP/1.1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from engine import limits

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DECISIVE_BYTES: Final = len(b"PRI * ")


class Door(asyncio.Protocol):
    """Waits for a connection's first bytes, then gives it to the protocol that they begin."""

    def __init__(self, http2: Callable[[], Any], http1: Callable[[], asyncio.Protocol], doors: set[Door]) -> None:
        self._http2 = http2
        self._http1 = http1
        self._doors = doors
        self._first = b""
        self._transport: Any = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = transport
        self._doors.add(self)
        self._wait_at_most(limits.HTTP_KEEP_ALIVE_S)

    def _wait_at_most(self, seconds: float) -> None:
        self._stop_waiting()
        self._patience = asyncio.get_running_loop().call_later(seconds, self.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def close(self) -> None:
        """Ends a connection that has not said what it wants."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._leave()

    def _leave(self) -> None:
        self._doors.discard(self)
        self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self._first:
            self._wait_at_most(limits.HTTP_IDLE_S_MAX)
        self._first += data
        if len(self._first) < _DECISIVE_BYTES and PREFACE.startswith(self._first):
            return
        self._leave()
        if self._first.startswith(PREFACE[:_DECISIVE_BYTES]):
            self._enter_http2()
        else:
            protocol = self._http1()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(self._first)

    def _enter_http2(self) -> None:
        connection = self._http2()
        self._transport.pause_reading()  # it learns how its protocol is fed where it starts to read
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.receive(self._first)
        self._transport.resume_reading()
