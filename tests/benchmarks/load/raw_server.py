"""HTTP/2 servers by hand, a thread a connection, that hold the generator to RFC 9113 and then do odd things.

What a request asks for is its message's first byte, an index into the script. Whatever breaks a rule of flow control,
of frame size or of concurrency is noted in `offences`.
"""

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType

from benchmarks.load.headers import literal
from benchmarks.load.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    FRAME_BYTES_MAX,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PREFACE,
    SETTINGS,
    WINDOW_DEFAULT_BYTES,
    WINDOW_UPDATE,
    frame,
    settings_payload,
)

OPENING = b"\x88" + literal("content-type", "application/grpc")
_frame = struct.Struct(">HBBBI")
_u32 = struct.Struct(">I")


def answer(stream_id: int, *, status: int = 0, message: bytes = b"fine") -> bytes:
    """Head, one message, trailers."""
    told = literal("grpc-status", str(status)) + (literal("grpc-message", "told why") if status else b"")
    return (
        frame(HEADERS, END_HEADERS, stream_id, OPENING)
        + frame(DATA, 0, stream_id, struct.pack(">BI", 0, len(message)) + message)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream_id, told)
    )


def refusal(stream_id: int, status: int) -> bytes:
    """Trailers only."""
    block = OPENING + literal("grpc-status", str(status)) + literal("grpc-message", "told why")
    return frame(HEADERS, END_HEADERS | END_STREAM, stream_id, block)


class Peer:
    """One connection. `served` counts its requests, `open` are the streams whose request has begun and has no answer."""

    def __init__(self, sock: socket.socket, server: "RawServer") -> None:
        self.sock, self.server = sock, server
        self.served = 0
        self.open: set[int] = set()
        self._bodies: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._window, self._windows = WINDOW_DEFAULT_BYTES, dict[int, int]()
        self._stream_window, self._frame_max, self._streams_max = WINDOW_DEFAULT_BYTES, FRAME_BYTES_MAX, 2**31
        self._unacknowledged: list[dict[int, int]] = []

    def change(self, settings: dict[int, int]) -> None:
        """Send SETTINGS; they bind the client once it has acknowledged them."""
        self._unacknowledged.append(settings)
        self.send(frame(SETTINGS, 0, 0, settings_payload(settings)))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, stream_id: int, data: bytes) -> None:
        """Send what ends a stream."""
        self.open.discard(stream_id)
        self.send(data)

    def serve(self) -> None:
        """Until the client has gone."""
        self.change(self.server.settings)
        if self._exactly(len(PREFACE)) != PREFACE:
            self._offence("no preface")
        while head := self._exactly(FRAME_BYTES):
            high, low, kind, flags, stream_id = _frame.unpack(head)
            self._on_frame(kind, flags, stream_id, self._exactly(high << 8 | low))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                return b""
            data += more
        return bytes(data)

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) > self._frame_max:
            self._offence(f"a frame of {len(payload)} bytes, {self._frame_max} allowed")
        if kind == SETTINGS and flags & ACK:
            self._take_effect(self._unacknowledged.pop(0))
        elif kind == SETTINGS:
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == HEADERS:
            self._begin(stream_id)
        elif kind == DATA:
            self._on_data(flags, stream_id, payload)

    def _take_effect(self, settings: dict[int, int]) -> None:
        self._frame_max = settings.get(MAX_FRAME_SIZE, self._frame_max)
        self._streams_max = settings.get(MAX_CONCURRENT_STREAMS, self._streams_max)
        moved = settings.get(INITIAL_WINDOW_SIZE, self._stream_window) - self._stream_window
        self._stream_window += moved
        for stream_id in self._windows:
            self._windows[stream_id] += moved

    def _begin(self, stream_id: int) -> None:
        self.open.add(stream_id)
        self._windows[stream_id] = self._stream_window
        if len(self.open) > self._streams_max:
            self._offence(f"{len(self.open)} streams, {self._streams_max} allowed")

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._window -= size
        self._windows[stream_id] -= size
        if self._window < 0 or self._windows[stream_id] < 0:
            self._offence(f"windows exceeded: {self._window} and {self._windows[stream_id]} left")
        self._bodies[stream_id] += payload
        if flags & END_STREAM:
            del self._windows[stream_id]
            self._on_request(stream_id, bytes(self._bodies.pop(stream_id)))
        elif size:
            self._credit(stream_id, size)
        self._credit(0, size)

    def _credit(self, stream_id: int, size: int) -> None:
        if stream_id:
            self._windows[stream_id] += size
        else:
            self._window += size
        self.send(frame(WINDOW_UPDATE, 0, stream_id, _u32.pack(size)))

    def _on_request(self, stream_id: int, body: bytes) -> None:
        message = body[5:]
        self.server.messages.append(message)
        self.served += 1
        self.server.script(self, stream_id, message)

    def _offence(self, what: str) -> None:
        self.server.offences.append(what)


Script = Callable[[Peer, int, bytes], None]
"""What a server does about one request: (connection, stream id, message)."""


class RawServer:
    """Listens on `port` while entered. `messages` are the requests, in the order in which they were whole."""

    def __init__(self, script: Script, *, settings: dict[int, int] | None = None) -> None:
        self.script, self.settings = script, settings or {}
        self.messages: list[bytes] = []
        self.offences: list[str] = []
        self.peers: list[Peer] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock, self)
            self.peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        try:
            peer.serve()
        except OSError:  # the client, or the script, has closed the connection
            pass
        finally:
            peer.sock.close()

    def __enter__(self) -> "RawServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for peer in self.peers:
            peer.sock.close()
