"""A connection on a plain socket whose HTTP/2 is the compiled module's. Raises ImportError where that is not built."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import Unavailable
from engine.limits import (
    MESSAGE_BYTES_MAX,
    TRITON_CONNECTION_WINDOW_BYTES,
    TRITON_FRAME_BYTES_MAX,
    TRITON_READ_BYTES,
    TRITON_STREAM_WINDOW_BYTES,
    TRITON_STREAMS_MAX,
)
from engine.triton._http2 import Exchange, Session
from engine.triton.hpack import HeaderReader

if TYPE_CHECKING:
    import socket

    from engine.triton.regions import Regions


class CompiledSession(Session):
    """With our bounds. The interpreter's lock guards it, which it lets go of only around large reads and sends."""

    def __init__(self, descriptor: int = -1, blocked: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            descriptor,
            HeaderReader(),
            blocked,
            Unavailable,
            frame_bytes_max=TRITON_FRAME_BYTES_MAX,
            streams_max=TRITON_STREAMS_MAX,
            read_bytes=TRITON_READ_BYTES,
            stream_window_bytes=TRITON_STREAM_WINDOW_BYTES,
            connection_window_bytes=TRITON_CONNECTION_WINDOW_BYTES,
            message_bytes_max=MESSAGE_BYTES_MAX,
        )


class CompiledConnection(CompiledSession):
    """See `connection.Connection`."""

    tls = False

    def __init__(self, sock: socket.socket, blocked: Callable[[], None]) -> None:
        super().__init__(sock.fileno(), blocked)
        self.socket = sock
        self.regions: Regions | None = None

    def has_more(self) -> bool:
        """See `Connection`."""
        return False

    def close(self) -> list[Exchange]:
        """See `Connection`."""
        left = self.end()
        self.socket.close()
        return left
