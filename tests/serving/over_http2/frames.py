"""HTTP/2 frames as bytes (RFC 9113) and gRPC's length-prefixed messages in them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
WINDOW_BYTES, FRAME_BYTES = 65_535, 16_384
"""What each side may send before it is told otherwise: of bodies, and in one frame."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it arrived."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """A frame; `length` where it is to lie about its own."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def data(stream: int, content: bytes = b"", *, end: bool = False) -> bytes:
    """A DATA frame."""
    return frame(DATA, END_STREAM if end else 0, stream, content)


def body(stream: int, content: bytes, *, each: int = FRAME_BYTES, end: bool = True) -> bytes:
    """A body in DATA frames of at most `each` bytes."""
    last = max(0, len(content) - 1) // each * each
    return b"".join(
        data(stream, content[at : at + each], end=end and at == last) for at in range(0, max(1, len(content)), each)
    )


def padded(content: bytes, padding: int) -> bytes:
    """The payload of a DATA or HEADERS frame with the flag PADDED."""
    return bytes([padding]) + content + bytes(padding)


def settings(values: Mapping[int, int] | None = None) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *each) for each in (values or {}).items()))


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def reset(stream: int, code: int = CANCEL) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def ping(content: bytes = b"whatever") -> bytes:
    """A PING frame."""
    return frame(PING, payload=content)


def goaway(last: int = 0, code: int = NO_ERROR) -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, payload=struct.pack(">II", last, code))


def literal(*fields: tuple[str, str]) -> bytes:
    """Short headers in HPACK that names none in a table, and puts none into it."""
    pairs = [(name.encode(), value.encode()) for name, value in fields]
    return b"".join(b"\x00%c%s%c%s" % (len(name), name, len(value), value) for name, value in pairs)


def message(content: bytes, flag: int = 0) -> bytes:
    """A message as gRPC frames it; the flag 1 says that it is compressed."""
    return struct.pack(">BI", flag, len(content)) + content


def messages_in(body: bytes) -> list[bytes]:
    """The messages that a body consists of; raises ValueError where it ends amid one."""
    found, at = [], 0
    while at < len(body):
        flag, size = struct.unpack_from(">BI", body, at)
        content = body[at + 5 : at + 5 + size]
        if flag or len(content) != size:
            raise ValueError(f"not a whole message: flag {flag}, {len(content)} of {size} bytes")
        found.append(content)
        at += 5 + size
    return found


class Reader:
    """Takes what a socket brings apart into frames."""

    def __init__(self) -> None:
        self._unread = bytearray()

    def take(self, content: bytes) -> Iterator[Frame]:
        """Every frame that `content` completes."""
        self._unread += content
        at = 0
        while (found := self._frame_at(at)) is not None:
            at += HEAD_BYTES + len(found.payload)
            yield found
        del self._unread[:at]

    def _frame_at(self, at: int) -> Frame | None:
        if len(self._unread) < at + HEAD_BYTES:
            return None
        high, low, kind, flags, stream = struct.unpack_from(">BHBBI", self._unread, at)
        end = at + HEAD_BYTES + (high << 16 | low)
        if len(self._unread) < end:
            return None
        return Frame(kind, flags, stream & 0x7FFFFFFF, bytes(self._unread[at + HEAD_BYTES : end]))
