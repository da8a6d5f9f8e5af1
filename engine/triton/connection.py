"""One connection to a server: a socket that never blocks, the HTTP/2 session on it, and the lock that both share."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import Unavailable
from engine.limits import TRITON_CONNECT_S_MAX, TRITON_READ_BYTES
from engine.triton.declaration import UNIX
from engine.triton.http2 import ClientSession, Exchange

if TYPE_CHECKING:
    from engine.triton.regions import Regions

_SEND_BYTES_JOINED_MAX = 1 << 16
"""Small pieces are sent as one; large ones as they are."""
_READ_BYTES_FIRST = 1 << 14
"""Of a socket that had less the last time: the memory for more would be taken, and given back, for nothing."""


def connect(address: str, tls: ssl.SSLContext | None) -> socket.socket:
    """A connected socket that does not block. Blocks for TRITON_CONNECT_S_MAX at most; raises OSError."""
    host, _, port = authority(address).rpartition(":")
    host = host.strip("[]")
    path = address.removeprefix(UNIX)
    made = _unix(path) if path != address else socket.create_connection((host, int(port)), TRITON_CONNECT_S_MAX)
    try:
        if made.family != socket.AF_UNIX:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            made = tls.wrap_socket(made, server_hostname=host)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def authority(address: str) -> str:
    """What a server at `address` is called to itself."""
    return "localhost:0" if address.startswith(UNIX) else address


def _unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(TRITON_CONNECT_S_MAX)
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made


def ends_here(sock: socket.socket) -> bool:
    """Whether both ends of a connected socket have an address of this host. Raises OSError."""
    if sock.family == socket.AF_UNIX:
        return True
    there, here = sock.getpeername()[0], sock.getsockname()[0]
    return bool(there == here or ipaddress.ip_address(there).is_loopback)


class Connection:
    """`send` and `flush` from any thread, the rest from the one that waits for the socket. `blocked` is called when the socket
    takes no more for now: `flush` is to be called when it does."""

    def __init__(self, sock: socket.socket, blocked: Callable[[], None]) -> None:
        self.socket = sock
        self.session = ClientSession()
        self.regions: Regions | None = None
        """Memory that the server shares, where it may."""
        self.wants_write = False
        self.tls = isinstance(sock, ssl.SSLSocket)
        self._blocked = blocked
        self._lock = threading.Lock()
        self._unsent = memoryview(b"")
        self._read_bytes = _READ_BYTES_FIRST
        self._closed = False

    def send(self, block: bytes, body: bytes, owner: object, *, live: bool = False) -> Exchange:
        """Begins a call, which goes out with the next `flush`. Raises Unavailable where the connection takes none."""
        with self._lock:
            if self._closed:
                raise Unavailable("the connection to the server has ended")
            return self.session.send(block, body, owner, live=live)

    def flush(self) -> None:
        """Sends what can be sent now. What is wrong with the socket is found by who reads it."""
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
        """The calls that something came for; None where the connection has ended. Raises OSError, ValueError: it is broken."""
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
        """Whether something was read off the socket already that no selector sees."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def reset(self, exchange: Exchange) -> None:
        """Tells the server that nobody waits for the call any more."""
        with self._lock:
            self.session.reset(exchange)
        self.flush()

    def take(self, exchange: Exchange) -> bytes:
        """What came of a live call and was not taken; lets as much come again."""
        with self._lock:
            taken = b"".join(exchange.data)
            exchange.data.clear()
            self.session.consumed(exchange, len(taken))
        self.flush()
        return taken

    def close(self) -> list[Exchange]:
        """Ends it; the calls that are left without an answer."""
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
