"""One HTTP/2 connection: the compiled session on an asyncio transport, and what is open on it."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from engine import limits
from serving.native._wire import Session, Wire

_OUTPUT_BYTES_CUT: Final = 192 << 10
"""The session cuts what it gives where one frame more of 64 KiB would pass 256 KiB: less is all there is."""


class Open(Protocol):
    """Something on a stream that waits: for more of its request, for its answer to be ready, or to be taken."""

    def message(self, payload: Any, encoding: str | None) -> None:  # noqa: ANN401  a Message or bytes
        """A piece of the request."""

    def ended(self) -> None:
        """The request is complete."""

    def room(self) -> None:
        """The client takes more of the answer."""

    def gone(self) -> None:
        """The client has left."""

    def refused(self, code: int, text: str) -> None:
        """What the client sends on is against the protocol; it is to be told so with this status."""

    def shut_down(self) -> None:
        """The server's patience is at its end."""


class Connection(Session):
    """See `asyncio.BufferedProtocol`; what comes in is in the compiled session, which reports events to the server."""

    def __init__(self, wire: Wire, connections: set[Connection]) -> None:
        super().__init__()
        self.open: dict[int, Open] = {}
        self.transport: Any = None
        self.peer: tuple[str, int] | None = None
        self._connections = connections
        self._paused = False
        self._linger: asyncio.TimerHandle | None = None
        self._stuck_bytes = 0
        self.stuck_since_ns: int | None = None
        self.pinged = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See `asyncio.BaseProtocol`."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        self._connections.add(self)

    def eof_received(self) -> bool:
        """See `asyncio.BufferedProtocol`."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._connections.discard(self)
        if self._linger is not None:
            self._linger.cancel()
        self.lost()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._paused = True

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._paused = False
        self.flush()

    def flush(self) -> None:
        """Writes what there is to write, as far as the client takes it; closes where nothing more will come."""
        transport = self.transport
        while not self._paused and (data := self.output()) is not None:
            transport.write(data)
            if len(data) < _OUTPUT_BYTES_CUT:
                break
        if self.over and not self._paused and not transport.is_closing():
            self._hang_up()

    def _hang_up(self) -> None:
        """Lets the client read why: closing while it still sends would reset the connection under it."""
        if not self.transport.can_write_eof():  # TLS says goodbye itself
            self.transport.close()
        elif self._linger is None:
            self.transport.write_eof()
            self._linger = asyncio.get_running_loop().call_later(limits.HTTP_LINGER_S, self.transport.abort)

    def unsent_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        waiting: int = self.transport.get_write_buffer_size()
        return self.queued + waiting

    def stuck_ns(self, now_ns: int) -> int:
        """For how long the client has taken nothing of what waits for it."""
        unsent = self.unsent_bytes()
        if unsent == 0 or unsent != self._stuck_bytes:
            self._stuck_bytes, self.stuck_since_ns = unsent, now_ns
            return 0
        return now_ns - (self.stuck_since_ns or now_ns)
