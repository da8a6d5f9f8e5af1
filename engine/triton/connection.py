"""One connection to a server: a socket that never blocks, and the HTTP/2 session on it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from engine.limits import TRITON_CONNECT_S_MAX
from engine.triton.declaration import UNIX
from engine.triton.interpreted import InterpretedConnection

if TYPE_CHECKING:
    from engine.triton.regions import Regions


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


class Exchange(Protocol):
    """See `http2.Exchange`."""

    @property
    def owner(self) -> object:
        """Whom it was sent for."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Those that came last."""

    @property
    def ended(self) -> bool:
        """Nothing more comes."""

    @property
    def unprocessed(self) -> bool:
        """The server said that it did nothing for it."""

    @property
    def reset(self) -> int | None:
        """The code of a reset."""

    @property
    def ok(self) -> bool:
        """It has ended, and the server said that all went well."""

    @property
    def waits(self) -> bool:
        """Whether something of a live call came and was not taken."""

    def message(self) -> bytes:
        """The one message that answers. Raises ValueError where that is not what came."""


class Connection(Protocol):
    """`send` and `flush` from any thread, the rest from the one that waits for the socket."""

    regions: Regions | None
    """Memory that the server shares, where it may."""

    @property
    def socket(self) -> socket.socket:
        """To wait for."""

    @property
    def tls(self) -> bool:
        """Whether it may have read more off the socket than it has told."""

    @property
    def wants_write(self) -> bool:
        """`flush` is to be called when the socket takes more."""

    @property
    def open(self) -> int:
        """Calls on the way."""

    @property
    def closing(self) -> bool:
        """It takes no new calls."""

    @property
    def has_room(self) -> bool:
        """Whether one more call may be sent."""

    def send(self, block: bytes, body: bytes, owner: object, *, live: bool = False) -> Exchange:
        """Begins a call, which goes out with the next `flush`. Raises Unavailable where the connection takes none."""

    def flush(self) -> None:
        """Sends what can be sent now. What is wrong with the socket is found by who reads it."""

    def read(self) -> Sequence[Exchange] | None:
        """The calls that something came for; None where the connection has ended. Raises OSError, ValueError: it is broken."""

    def has_more(self) -> bool:
        """Whether something was read off the socket already that no selector sees."""

    def reset(self, exchange: Any) -> None:  # noqa: ANN401  one of its own
        """Tells the server that nobody waits for the call any more."""

    def take(self, exchange: Any) -> bytes:  # noqa: ANN401  one of its own
        """What came of a live call and was not taken; lets as much come again."""

    def close(self) -> Sequence[Exchange]:
        """Ends it; the calls that are left without an answer."""


def connection_on(sock: socket.socket, blocked: Callable[[], None]) -> Connection:
    """A connection on a connected socket, which becomes its own. `blocked` is called when the socket takes no more for now."""
    if not isinstance(sock, ssl.SSLSocket):
        with suppress(ImportError):
            from engine.triton.compiled import CompiledConnection

            return CompiledConnection(sock, blocked)
    return InterpretedConnection(sock, blocked)
