"""A client that says exactly what a test tells it to: frames on a socket. It keeps what comes, and may be told to be slow."""

from __future__ import annotations

import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import unquote_to_bytes

from hpack import Decoder, Encoder

from tests.fakes import PATIENCE_S
from tests.serving.over_http2 import frames
from tests.serving.over_http2.frames import DATA, HEADERS, Frame, Reader, data, messages_in

Field = tuple[str, str]
WIDE = 2**31 - 1
"""The largest window there is."""

GRPC = (("content-type", "application/grpc"), ("te", "trailers"))


@dataclass(slots=True)
class Exchange:
    """What a stream has brought so far."""

    heads: list[dict[str, str]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)  # "head" and "data", as they came
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.reset is not None

    @property
    def status(self) -> int:
        """The gRPC status."""
        return int(self.heads[-1]["grpc-status"])

    @property
    def text(self) -> str:
        """The text beside it."""
        return unquote_to_bytes(self.heads[-1].get("grpc-message", "")).decode()

    @property
    def messages(self) -> list[bytes]:
        """The messages of the answer."""
        return messages_in(bytes(self.body))


class Peer:
    """A connection. `window` is given back as bodies are read, unless `slow`; `settings` are sent with the preface."""

    def __init__(
        self, port: int, settings: Mapping[int, int] | None = None, *, slow: bool = False, opening: bytes | None = None
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.exchanges: dict[int, Exchange] = defaultdict(Exchange)
        self.goaways: list[tuple[int, int]] = []  # (last stream, error code)
        self.settings: dict[int, int] = {}
        self.acknowledged = 0
        self.frame_bytes_max = 0  # of the largest frame that came
        self.closed = False
        self._pongs: set[bytes] = set()
        self._pings = 0
        self._slow = slow
        self._reader = Reader()
        self._encoder, self._decoder = Encoder(), Decoder(max_header_list_size=1 << 20)
        self._next = 1
        self._windows: dict[int, int] = defaultdict(int)  # by stream what was granted or sent beyond the initial one
        self.send(frames.PREFACE + frames.settings(settings) if opening is None else opening)
        if not slow and opening is None:
            self.send(frames.window_update(0, WIDE - frames.WINDOW_BYTES))

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves."""
        self.socket.close()

    # Saying.

    def send(self, *pieces: bytes) -> None:
        """Sends each piece; what the server does not want to hear any more, it need not."""
        try:
            for each in pieces:
                self.socket.sendall(each)
        except ConnectionError:
            self.closed = True

    def stream(self) -> int:
        """A stream of its own for the next request."""
        self._next += 2
        return self._next - 2

    def fields(self, fields: Iterable[Field]) -> bytes:
        """A header block."""
        encoded: bytes = self._encoder.encode(list(fields), huffman=False)
        return encoded

    def head(self, stream: int, path: str, *more: Field, end: bool = False, base: Iterable[Field] = GRPC) -> bytes:
        """The HEADERS of a call, whole."""
        pseudo = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test"))
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        return frames.frame(HEADERS, flags, stream, self.fields([*pseudo, *base, *more]))

    def begin(self, path: str, *more: Field, tag: str = "") -> int:
        """Opens a call; its stream."""
        stream = self.stream()
        self.send(self.head(stream, path, *more, *_tagged(tag)))
        return stream

    def ask(self, path: str, *contents: bytes, more: Iterable[Field] = (), tag: str = "") -> int:
        """Sends a call with its messages in one packet; its stream."""
        stream, more = self.stream(), (*more, *_tagged(tag))
        messages = b"".join(frames.message(each) for each in contents)
        self.send(self.head(stream, path, *more) + frames.body(stream, messages))
        return stream

    def call(self, path: str, *contents: bytes, more: Iterable[Field] = (), tag: str = "") -> Exchange:
        """Sends a call, and what comes of it."""
        return self.wait(self.ask(path, *contents, more=more, tag=tag))

    def send_body(self, stream: int, body: bytes, *, end: bool = True) -> None:
        """Sends a body of any size as the server's windows allow."""
        at, view = 0, memoryview(body)
        while at < len(body) and not self.exchanges[stream].over:
            self.until(lambda: self.room(stream) > 0 or self.exchanges[stream].over, "the server grants a window")
            size = min(self.room(stream), self.settings.get(frames.MAX_FRAME_SIZE, frames.FRAME_BYTES), len(body) - at)
            if size > 0:
                self.spend(stream, size)
                self.send(data(stream, bytes(view[at : at + size]), end=end and at + size == len(body)))
                at += size

    def room(self, stream: int) -> int:
        """What the server takes on a stream at the moment."""
        initial = self.settings.get(frames.INITIAL_WINDOW_SIZE, frames.WINDOW_BYTES)
        return min(self._windows[0] + frames.WINDOW_BYTES, self._windows[stream] + initial)

    def spend(self, stream: int, size: int) -> None:
        """Keeps account of a body that is sent in some other way."""
        self._windows[stream] -= size
        self._windows[0] -= size

    # Hearing.

    def until(self, is_so: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
        """Reads until it is so; fails where the connection ends before."""
        end = time.monotonic() + patience_s
        while not is_so():
            left_s = end - time.monotonic()
            assert left_s > 0, f"it never came: {what}"
            assert not self.closed, f"the server closed: {self.goaways}, before {what}"
            self._receive(left_s)

    def wait(self, stream: int) -> Exchange:
        """The exchange on a stream, once it is over."""
        exchange = self.exchanges[stream]
        self.until(lambda: exchange.over, f"the end of stream {stream}")
        return exchange

    def check_lives(self) -> None:
        """Fails unless the server still answers on this connection, and so has read all that was sent before."""
        assert self.call("/is/anybody-there").heads[0][":status"] == "200"

    def check_pong(self) -> None:
        """Fails unless the server answers a ping. grpcio's is soon tired of them."""
        self._pings += 1
        content = struct.pack(">Q", self._pings)
        self.send(frames.ping(content))
        self.until(lambda: content in self._pongs, "the answer to a ping")

    def wait_closed(self, patience_s: float = PATIENCE_S) -> list[int]:
        """The error codes of the GOAWAY frames that come before the server closes."""
        end = time.monotonic() + patience_s
        while not self.closed:
            assert time.monotonic() < end, "the server does not close"
            self._receive(end - time.monotonic())
        return [code for _, code in self.goaways]

    def read_now(self, patience_s: float = 0.05) -> None:
        """Takes what there is to take within a while."""
        end = time.monotonic() + patience_s
        while not self.closed and (left_s := end - time.monotonic()) > 0:
            self._receive(left_s)

    def _receive(self, patience_s: float) -> None:
        self.socket.settimeout(max(patience_s, 0.001))
        try:
            content = self.socket.recv(1 << 20)
        except TimeoutError:
            return
        except ConnectionError:
            content = b""
        finally:
            self.socket.settimeout(PATIENCE_S)
        if not content:
            self.closed = True
        for each in self._reader.take(content):
            self._came(each)

    def _came(self, came: Frame) -> None:
        exchange = self.exchanges[came.stream] if came.stream else None
        self.frame_bytes_max = max(self.frame_bytes_max, len(came.payload))
        if came.kind == frames.SETTINGS and came.flags & frames.ACK:
            self.acknowledged += 1
        elif came.kind == frames.SETTINGS:
            entries = struct.iter_unpack(">HI", came.payload)
            self.settings.update(dict(entries))
            self.send(frames.frame(frames.SETTINGS, frames.ACK))
        elif came.kind == frames.PING:
            self._pinged(came)
        elif came.kind == frames.GOAWAY:
            last, code = struct.unpack_from(">II", came.payload)
            self.goaways.append((last, code))
        elif came.kind == frames.WINDOW_UPDATE:
            self._windows[came.stream] += struct.unpack(">I", came.payload)[0]
        elif exchange is not None:
            self._on_stream(exchange, came)

    def _pinged(self, came: Frame) -> None:
        if came.flags & frames.ACK:
            self._pongs.add(came.payload)
        else:
            self.send(frames.frame(frames.PING, frames.ACK, payload=came.payload))

    def _on_stream(self, exchange: Exchange, came: Frame) -> None:
        if came.kind == frames.RST_STREAM:
            exchange.reset = struct.unpack(">I", came.payload)[0]
        elif came.kind == DATA:
            exchange.body += came.payload
            exchange.order.append("data")
            if not self._slow and came.payload and not came.flags & frames.END_STREAM:
                size = len(came.payload)
                self.send(frames.window_update(0, size) + frames.window_update(came.stream, size))
        elif came.kind == HEADERS:
            assert came.flags & frames.END_HEADERS
            exchange.heads.append(dict(self._decoder.decode(came.payload)))
            exchange.order.append("head")
        if came.kind in (DATA, HEADERS) and came.flags & frames.END_STREAM:
            exchange.ended = True


def _tagged(tag: str) -> list[Field]:
    return [("x-tag", tag)] if tag else []
