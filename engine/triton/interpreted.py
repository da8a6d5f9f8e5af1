"""A connection whose HTTP/2 is `http2`'s: for TLS, and where the compiled one is not built."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import Unavailable
from engine.limits import TRITON_READ_BYTES
from engine.triton.http2 import ClientSession, Exchange

if TYPE_CHECKING:
    from engine.triton.regions import Regions

_SEND_BYTES_JOINED_MAX = 1 << 16
"""Small pieces are sent as one; large ones as they are."""
_READ_BYTES_FIRST = 1 << 14
"""Of a socket that had less the last time: the memory for more would be taken, and given back, for nothing."""


class InterpretedConnection:
    """See `connection.Connection`; one lock guards the session and the socket."""

    def __init__(self, sock: socket.socket, blocked: Callable[[], None]) -> None:
        self.socket = sock
        self.session = ClientSession()
        self.regions: Regions | None = None
        self.wants_write = False
        self.tls = isinstance(sock, ssl.SSLSocket)
        self._blocked = blocked
        self._lock = threading.Lock()
        self._unsent = memoryview(b"")
        self._read_bytes = _READ_BYTES_FIRST
        self._closed = False

    def send(self, block: bytes, body: bytes, owner: object, *, live: bool = False) -> Exchange:
        """See `Connection`."""
        with self._lock:
            if self._closed:
                raise Unavailable("the connection to the server has ended")
            return self.session.send(block, body, owner, live=live)

    @property
    def open(self) -> int:
        """See `Connection`."""
        return len(self.session.under_way)

    @property
    def closing(self) -> bool:
        """See `Connection`."""
        return self.session.closing

    @property
    def has_room(self) -> bool:
        """See `Connection`."""
        return self.session.has_room

    def flush(self) -> None:
        """See `Connection`."""
        with self._lock:
            out = self.session.out
            if not self._closed and (out or self._unsent):
                if len(out) == 1 and not self._unsent:  # one call, as most often
                    piece = out.pop()
                    if (sent := self._sent(piece)) == len(piece):
                        return
                    self._unsent = memoryview(piece)[sent:]
                self._send(out)
            wanted, self.wants_write = self.wants_write, bool(self._unsent)
            newly = self.wants_write and not wanted
        if newly:
            self._blocked()

    def _send(self, out: list[bytes | memoryview]) -> None:
        while self._unsent or out:
            if not self._unsent:
                self._unsent = memoryview(_next_piece(out))
            sent = self._sent(self._unsent)
            self._unsent = self._unsent[sent:]
            if not sent:
                return

    def _sent(self, piece: bytes | memoryview) -> int:
        """How much of it the socket took; of a broken one, all."""
        try:
            return self.socket.send(piece)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError:
            return len(piece)

    def read(self) -> list[Exchange] | None:
        """See `Connection`."""
        try:
            if self.tls:
                with self._lock:
                    data = self.socket.recv(TRITON_READ_BYTES)
            else:
                data = self.socket.recv(self._read_bytes)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return []
        if not data:
            return None
        self._read_bytes = TRITON_READ_BYTES if len(data) >= _READ_BYTES_FIRST else _READ_BYTES_FIRST
        with self._lock:
            heard = self.session.receive(data)
            due = self.session.out
        if due:
            self.flush()
        return heard

    def has_more(self) -> bool:
        """See `Connection`."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def reset(self, exchange: Exchange) -> None:
        """See `Connection`."""
        with self._lock:
            self.session.reset(exchange)
        self.flush()

    def take(self, exchange: Exchange) -> bytes:
        """See `Connection`."""
        with self._lock:
            taken = self.session.take(exchange)
        self.flush()
        return taken

    def close(self) -> list[Exchange]:
        """See `Connection`."""
        with self._lock:
            self._closed = True
            left = self.session.exchanges
            self.socket.close()
        return left


def _next_piece(out: list[bytes | memoryview]) -> bytes | memoryview:
    size = count = 0
    for each in out:
        size += len(each)
        if count and size > _SEND_BYTES_JOINED_MAX:
            break
        count += 1
    piece = out[0] if count == 1 else b"".join(out[:count])
    del out[:count]
    return piece
