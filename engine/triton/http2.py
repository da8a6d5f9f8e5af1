"""The client's side of one HTTP/2 connection (RFC 9113) that carries gRPC calls. Pure: bytes in, bytes out, no socket.

The compiled `_http2` (`src/`) does the same in less time and with a plain socket; this is for TLS, and where that is not built.

Made because the clients there are cost more than a whole request may: grpcio's take 135 to 340 us of CPU a call, this one some
20. What a gRPC client needs is here: flow control both ways, large messages, many calls at once, resets, pings, GOAWAY.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping

from engine.errors import Unavailable
from engine.limits import (
    MESSAGE_BYTES_MAX,
    TRITON_CONNECTION_WINDOW_BYTES,
    TRITON_FRAME_BYTES_MAX,
    TRITON_STREAM_WINDOW_BYTES,
    TRITON_STREAMS_MAX,
)
from engine.triton.hpack import HeaderReader

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _CONCURRENT_MAX, _INITIAL_WINDOW, _FRAME_SIZE = 1, 2, 3, 4, 5
REFUSED_STREAM, CANCEL = 7, 8
TOO_LARGE = -1
"""In place of a code: it was reset here, because its answer is past the bound."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME = struct.Struct(">HBBBI")
_unpack_frame = _FRAME.unpack_from
_NOTHING = memoryview(b"")
_NO_HEADERS: Mapping[str, str] = {}
_STREAM_ID_LAST = 1 << 30
"""A connection with so many calls behind it is replaced before its numbers run out."""


PREFIX_BYTES = 5
"""Before each message of gRPC: whether it is compressed, and its length."""


class Exchange:
    """One call on a connection. `live`: each message is wanted as it comes, and only `ClientSession.take` lets more come.

    `data`: what came and was not taken. `ended`: nothing more comes; then `headers` hold the trailers, or `reset` the code of a
    reset. `unprocessed`: the server said that it did nothing for it.
    """

    __slots__ = (
        "credited",
        "data",
        "ended",
        "headers",
        "id",
        "live",
        "owner",
        "reset",
        "size",
        "unprocessed",
        "waiting",
        "window",
    )

    def __init__(self, number: int, owner: object, window: int, *, live: bool) -> None:
        self.id, self.owner, self.window, self.live = number, owner, window, live
        self.data: list[bytes] = []
        self.headers = _NO_HEADERS
        self.waiting = _NOTHING
        self.credited = self.size = 0
        self.ended = self.unprocessed = False
        self.reset: int | None = None

    @property
    def ok(self) -> bool:
        """It has ended, and the server said that all went well."""
        return self.ended and self.reset is None and self.headers.get("grpc-status") == "0"

    @property
    def waits(self) -> bool:
        """Whether something of a live call came and was not taken."""
        return bool(self.data)

    def message(self) -> bytes:
        """The one message that answers. Raises ValueError where that is not what came."""
        return only_message(self.data)


def only_message(parts: list[bytes]) -> bytes:
    """The one message of an answer that came in these parts. Raises ValueError where that is not what came."""
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if not data or data[0] or int.from_bytes(data[1:PREFIX_BYTES], "big") != len(data) - PREFIX_BYTES:
        raise ValueError(f"{len(data)} bytes that are not one message, uncompressed")
    return data[PREFIX_BYTES:]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    size = len(payload)
    return _FRAME.pack(size >> 8, size & 255, kind, flags, stream) + payload


class ClientSession:
    """State of one connection. One thread at a time."""

    def __init__(self) -> None:
        settings = ((_HEADER_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (_INITIAL_WINDOW, TRITON_STREAM_WINDOW_BYTES),
                    (_FRAME_SIZE, TRITON_FRAME_BYTES_MAX))  # fmt: skip
        told = b"".join(struct.pack(">HI", *each) for each in settings)
        self.out: list[bytes | memoryview] = [_PREFACE, frame(SETTINGS, 0, 0, told)]
        self._credit(0, TRITON_CONNECTION_WINDOW_BYTES)
        self._headers = HeaderReader()
        self.under_way: dict[int, Exchange] = {}
        """Calls that have not ended, by the number of their stream."""
        self._blocked: deque[Exchange] = deque()
        self._next_id = 1
        self._rest = b""
        self._block: tuple[int, int, bytes] | None = None
        self._window = self._stream_window = 65_535
        self._frame_max = 16_384
        self._streams_max = TRITON_STREAMS_MAX
        self._unread = 0
        self.closing = False
        """It takes no new calls."""

    @property
    def open(self) -> int:
        """Calls on the way."""
        return len(self.under_way)

    @property
    def has_room(self) -> bool:
        """Whether one more call may be sent."""
        return not self.closing and len(self.under_way) < self._streams_max

    @property
    def exchanges(self) -> list[Exchange]:
        """Those on the way."""
        return list(self.under_way.values())

    def send(self, block: bytes, body: bytes, owner: object, *, live: bool = False) -> Exchange:
        """Begins a call: its header block and its whole body, which flow control may hold back. Raises Unavailable where the
        connection takes no call now."""
        under_way, number = self.under_way, self._next_id
        if self.closing or len(under_way) >= self._streams_max:
            raise Unavailable("the connection to the server takes no call now")
        self._next_id = number + 2
        if number >= _STREAM_ID_LAST:
            self.closing = True
        exchange = under_way[number] = Exchange(number, owner, self._stream_window, live=live)
        size, length = len(block), len(body)
        if length <= self._window and length <= exchange.window and length <= self._frame_max:
            self._window -= length
            exchange.window -= length
            self.out.append(
                b"".join(
                    (
                        _FRAME.pack(size >> 8, size & 255, HEADERS, END_HEADERS, number), block,
                        _FRAME.pack(length >> 8, length & 255, DATA, END_STREAM, number), body,
                    )
                )
            )  # fmt: skip
        else:
            self.out.append(frame(HEADERS, END_HEADERS, number, block))
            exchange.waiting = memoryview(body)
            self._blocked.append(exchange)
            self._pump()
        return exchange

    def reset(self, exchange: Exchange) -> None:
        """Ends a call that nobody waits for."""
        if self.under_way.pop(exchange.id, None) is not None:
            exchange.ended = True
            self.out.append(frame(RST_STREAM, 0, exchange.id, struct.pack(">I", CANCEL)))

    def take(self, exchange: Exchange) -> bytes:
        """What came of a live call and was not taken; lets as much come again."""
        taken = b"".join(exchange.data)
        exchange.data.clear()
        if exchange.id in self.under_way and taken:
            self._credit(exchange.id, len(taken))
        return taken

    def _credit(self, stream: int, size: int) -> None:
        self.out.append(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size)))

    def _pump(self) -> None:
        """Sends of what is held back as much as may go now."""
        for _ in range(len(self._blocked)):
            exchange = self._blocked.popleft()
            if exchange.ended:
                continue
            while exchange.waiting and (size := min(self._window, exchange.window, self._frame_max)) > 0:
                part = exchange.waiting[:size]
                exchange.waiting = exchange.waiting[size:]
                self._window -= len(part)
                exchange.window -= len(part)
                flags = 0 if exchange.waiting else END_STREAM
                self.out.append(_FRAME.pack(len(part) >> 8, len(part) & 255, DATA, flags, exchange.id))
                self.out.append(part)
            if exchange.waiting:
                self._blocked.append(exchange)

    def receive(self, data: bytes) -> list[Exchange]:
        """Takes in what came; the calls that ended by it, and live ones that have messages. Raises ValueError where the server
        does not speak HTTP/2: the connection is of no use any more."""
        if self._rest:
            data = self._rest + data
        heard: list[Exchange] = []
        at, end = 0, len(data)
        while end - at >= 9:
            high, low, kind, flags, stream = _unpack_frame(data, at)
            size = high << 8 | low
            stop = at + 9 + size
            if size > TRITON_FRAME_BYTES_MAX:
                raise ValueError(f"a frame of {size} bytes, at most {TRITON_FRAME_BYTES_MAX} were allowed")
            if stop > end:
                break
            payload = data[at + 9 : stop]
            at = stop
            if flags & (PADDED | PRIORITY) and kind <= HEADERS:
                payload = _unpadded(payload, kind, flags)
            if kind == DATA:
                self._data(stream, payload, size, flags & END_STREAM, heard)
            elif kind == HEADERS and flags & END_HEADERS:
                self._header_block(stream, payload, flags & END_STREAM, heard)
            elif kind == WINDOW_UPDATE and size == 4:
                self._grow(stream, int.from_bytes(payload, "big") & 0x7FFFFFFF)
            else:
                self._control(kind, flags, stream, payload, heard)
        self._rest = data[at:]
        return heard

    def _data(self, stream: int, payload: bytes, size: int, last: int, heard: list[Exchange]) -> None:
        self._unread += size
        if self._unread >= TRITON_CONNECTION_WINDOW_BYTES // 2:
            self._credit(0, self._unread)
            self._unread = 0
        exchange = self.under_way.get(stream)
        if exchange is None:  # reset by us
            return
        exchange.size += size
        exchange.data.append(payload)
        if exchange.live:
            heard.append(exchange)
        elif exchange.size >= TRITON_STREAM_WINDOW_BYTES // 2:
            self._large(exchange, size, last, heard)
        if last and not exchange.ended:
            self._end(exchange, heard)

    def _large(self, exchange: Exchange, size: int, last: int, heard: list[Exchange]) -> None:
        """Lets more of a large answer come, up to the bound."""
        if exchange.size > MESSAGE_BYTES_MAX:
            self.reset(exchange)
            exchange.data.clear()
            exchange.reset = TOO_LARGE
            heard.append(exchange)
            return
        if exchange.size - exchange.credited >= TRITON_STREAM_WINDOW_BYTES // 2 and not last:
            self._credit(exchange.id, exchange.size - exchange.credited)
            exchange.credited = exchange.size

    def _header_block(self, stream: int, block: bytes, last: int, heard: list[Exchange]) -> None:
        found = self._headers[block]
        exchange = self.under_way.get(stream)
        if exchange is None:
            return
        if last:
            exchange.headers = found if exchange.headers.get(":status") == "200" else {**exchange.headers, **found}
            self._end(exchange, heard)
        else:
            exchange.headers = found

    def _end(self, exchange: Exchange, heard: list[Exchange]) -> None:
        del self.under_way[exchange.id]
        exchange.ended = True
        if exchange.waiting:  # answered before it was asked in full: the rest is not wanted
            exchange.waiting = _NOTHING
            self.out.append(frame(RST_STREAM, 0, exchange.id, struct.pack(">I", CANCEL)))
        heard.append(exchange)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes, heard: list[Exchange]) -> None:
        if kind == HEADERS:  # what is left of the block comes in frames of its own
            self._block = (stream, flags & END_STREAM, payload)
        elif kind == CONTINUATION:
            self._continued(flags, payload, heard)
        else:
            try:
                self._other(kind, flags, stream, payload, heard)
            except struct.error as error:
                raise ValueError(f"a frame of kind {kind} has {len(payload)} bytes, which it cannot have") from error

    def _continued(self, flags: int, payload: bytes, heard: list[Exchange]) -> None:
        if self._block is None:
            return
        number, last, begun = self._block
        if len(begun) + len(payload) > TRITON_FRAME_BYTES_MAX:
            raise ValueError("a header block without end")
        self._block = (number, last, begun + payload)
        if flags & END_HEADERS:
            self._block = None
            self._header_block(number, begun + payload, last, heard)

    def _other(self, kind: int, flags: int, stream: int, payload: bytes, heard: list[Exchange]) -> None:
        if kind == WINDOW_UPDATE:
            raise ValueError(f"a frame of kind {kind} has {len(payload)} bytes, which it cannot have")
        if kind == PING and not flags & ACK:
            self.out.append(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == RST_STREAM:
            self._was_reset(stream, struct.unpack(">I", payload)[0], heard)
        elif kind == GOAWAY:
            self._goaway(struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF, heard)

    def _grow(self, stream: int, size: int) -> None:
        if stream == 0:
            self._window += size
        elif (exchange := self.under_way.get(stream)) is not None:
            exchange.window += size
        if self._blocked:
            self._pump()

    def _settings(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == _INITIAL_WINDOW:
                for each in self.under_way.values():
                    each.window += value - self._stream_window
                self._stream_window = value
            elif key == _FRAME_SIZE:
                self._frame_max = min(value, TRITON_FRAME_BYTES_MAX)
            elif key == _CONCURRENT_MAX:
                self._streams_max = min(value, TRITON_STREAMS_MAX)
        self.out.append(frame(SETTINGS, ACK, 0))
        self._pump()

    def _was_reset(self, stream: int, code: int, heard: list[Exchange]) -> None:
        exchange = self.under_way.pop(stream, None)
        if exchange is not None:
            exchange.ended, exchange.reset, exchange.unprocessed = True, code, code == REFUSED_STREAM
            heard.append(exchange)

    def _goaway(self, last: int, heard: list[Exchange]) -> None:
        self.closing = True
        for number in [each for each in self.under_way if each > last]:
            exchange = self.under_way.pop(number)
            exchange.ended = exchange.unprocessed = True
            heard.append(exchange)


def _unpadded(payload: bytes, kind: int, flags: int) -> bytes:
    start, stop = 0, len(payload)
    if flags & PADDED:
        stop -= payload[0] if payload else 0
        start += 1
    if kind == HEADERS and flags & PRIORITY:
        start += 5
    if start > stop:
        raise ValueError("a frame has more padding than content")
    return payload[start:stop]
