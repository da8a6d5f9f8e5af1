"""The client's side of one HTTP/2 connection (RFC 9113) that carries gRPC calls. Pure: bytes in, bytes out, no socket.

Made because the clients there are cost more than a whole request may: grpcio's take 135 to 340 us of CPU a call, this one some
20. What a gRPC client needs is here: flow control both ways, large messages, many calls at once, resets, pings, GOAWAY.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping

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
_NOTHING = memoryview(b"")
_NO_HEADERS: Mapping[str, str] = {}
_STREAM_ID_LAST = 1 << 30
"""A connection with so many calls behind it is replaced before its numbers run out."""


class Exchange:
    """One call on a connection. `live`: each message is wanted as it comes, and only `ClientSession.consumed` lets more come.

    `data`: what came and was not taken. `ended`: nothing more comes; then `headers` hold the trailers, or `reset` the code of a
    reset. `unprocessed`: the server said that it did nothing for it.
    """

    __slots__ = (
        "data",
        "ended",
        "headers",
        "id",
        "live",
        "owner",
        "reset",
        "size",
        "unprocessed",
        "unread",
        "waiting",
        "window",
    )

    def __init__(self, number: int, owner: object, window: int, *, live: bool) -> None:
        self.id, self.owner, self.window, self.live = number, owner, window, live
        self.data: list[bytes] = []
        self.headers = _NO_HEADERS
        self.waiting = _NOTHING
        self.unread = self.size = 0
        self.ended = self.unprocessed = False
        self.reset: int | None = None


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
        self._exchanges: dict[int, Exchange] = {}
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
        return len(self._exchanges)

    @property
    def has_room(self) -> bool:
        """Whether one more call may be sent."""
        return not self.closing and len(self._exchanges) < self._streams_max

    @property
    def exchanges(self) -> list[Exchange]:
        """Those on the way."""
        return list(self._exchanges.values())

    def send(self, block: bytes, body: bytes, owner: object, *, live: bool = False) -> Exchange:
        """Begins a call: its header block and its whole body, which flow control may hold back."""
        number = self._next_id
        self._next_id = number + 2
        if number >= _STREAM_ID_LAST:
            self.closing = True
        exchange = Exchange(number, owner, self._stream_window, live=live)
        self._exchanges[number] = exchange
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
        if self._exchanges.pop(exchange.id, None) is not None:
            exchange.ended = True
            self.out.append(frame(RST_STREAM, 0, exchange.id, struct.pack(">I", CANCEL)))

    def consumed(self, exchange: Exchange, size: int) -> None:
        """Of a live call, `size` bytes were taken."""
        if exchange.id in self._exchanges and size:
            self._credit(exchange.id, size)

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
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            size = high << 8 | low
            if size > TRITON_FRAME_BYTES_MAX:
                raise ValueError(f"a frame of {size} bytes, at most {TRITON_FRAME_BYTES_MAX} were allowed")
            start, stop = at + 9, at + 9 + size
            if stop > end:
                break
            at = stop
            if kind in (DATA, HEADERS):
                if flags & (PADDED | PRIORITY):
                    start, stop = _unpadded(data, start, stop, kind, flags)
                exchange = self._exchanges.get(stream)
                if kind == DATA:
                    self._data(exchange, data[start:stop], size, flags & END_STREAM, heard)
                elif flags & END_HEADERS:
                    self._header_block(exchange, data[start:stop], flags & END_STREAM, heard)
                else:
                    self._block = (stream, flags & END_STREAM, data[start:stop])
            else:
                try:
                    self._other(kind, flags, stream, data[start:stop], heard)
                except struct.error as error:
                    raise ValueError(f"a frame of kind {kind} has {size} bytes, which it cannot have") from error
        self._rest = data[at:]
        return heard

    def _data(self, exchange: Exchange | None, payload: bytes, size: int, last: int, heard: list[Exchange]) -> None:
        self._unread += size
        if self._unread >= TRITON_CONNECTION_WINDOW_BYTES // 2:
            self._credit(0, self._unread)
            self._unread = 0
        if exchange is None:  # reset by us
            return
        exchange.size += size
        if exchange.size > MESSAGE_BYTES_MAX and not exchange.live:
            self.reset(exchange)
            exchange.data.clear()
            exchange.reset = TOO_LARGE
            heard.append(exchange)
            return
        exchange.data.append(payload)
        if exchange.live:
            heard.append(exchange)
        else:
            exchange.unread += size
            if exchange.unread >= TRITON_STREAM_WINDOW_BYTES // 2 and not last:
                self._credit(exchange.id, exchange.unread)
                exchange.unread = 0
        if last:
            self._end(exchange, heard)

    def _header_block(self, exchange: Exchange | None, block: bytes, last: int, heard: list[Exchange]) -> None:
        found = self._headers.read(block)
        if exchange is None:
            return
        if last:
            exchange.headers = {**exchange.headers, **found} if exchange.headers.get(":status") != "200" else found
            self._end(exchange, heard)
        else:
            exchange.headers = found

    def _end(self, exchange: Exchange, heard: list[Exchange]) -> None:
        del self._exchanges[exchange.id]
        exchange.ended = True
        if exchange.waiting:  # answered before it was asked in full: the rest is not wanted
            exchange.waiting = _NOTHING
            self.out.append(frame(RST_STREAM, 0, exchange.id, struct.pack(">I", CANCEL)))
        heard.append(exchange)

    def _other(self, kind: int, flags: int, stream: int, payload: bytes, heard: list[Exchange]) -> None:
        if kind == WINDOW_UPDATE:
            self._grow(stream, struct.unpack(">I", payload)[0] & 0x7FFFFFFF)
        elif kind == PING and not flags & ACK:
            self.out.append(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == RST_STREAM:
            self._was_reset(stream, struct.unpack(">I", payload)[0], heard)
        elif kind == GOAWAY:
            self._goaway(struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF, heard)
        elif kind == CONTINUATION and self._block is not None:
            number, last, begun = self._block
            self._block = (number, last, begun + payload)
            if flags & END_HEADERS:
                self._block = None
                self._header_block(self._exchanges.get(number), begun + payload, last, heard)

    def _grow(self, stream: int, size: int) -> None:
        if stream == 0:
            self._window += size
        elif (exchange := self._exchanges.get(stream)) is not None:
            exchange.window += size
        if self._blocked:
            self._pump()

    def _settings(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == _INITIAL_WINDOW:
                for each in self._exchanges.values():
                    each.window += value - self._stream_window
                self._stream_window = value
            elif key == _FRAME_SIZE:
                self._frame_max = min(value, TRITON_FRAME_BYTES_MAX)
            elif key == _CONCURRENT_MAX:
                self._streams_max = min(value, TRITON_STREAMS_MAX)
        self.out.append(frame(SETTINGS, ACK, 0))
        self._pump()

    def _was_reset(self, stream: int, code: int, heard: list[Exchange]) -> None:
        exchange = self._exchanges.pop(stream, None)
        if exchange is not None:
            exchange.ended, exchange.reset, exchange.unprocessed = True, code, code == REFUSED_STREAM
            heard.append(exchange)

    def _goaway(self, last: int, heard: list[Exchange]) -> None:
        self.closing = True
        for number in [each for each in self._exchanges if each > last]:
            exchange = self._exchanges.pop(number)
            exchange.ended = exchange.unprocessed = True
            heard.append(exchange)


def _unpadded(data: bytes, start: int, stop: int, kind: int, flags: int) -> tuple[int, int]:
    if flags & PADDED:
        stop -= data[start] if start < stop else 0
        start += 1
    if kind == HEADERS and flags & PRIORITY:
        start += 5
    if start > stop:
        raise ValueError("a frame has more padding than content")
    return start, stop
