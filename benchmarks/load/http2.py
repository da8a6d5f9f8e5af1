"""One HTTP/2 connection (RFC 9113) as seen by a gRPC client that makes unary calls and nothing else. No sockets here.

Made for little CPU per call: a request is five byte strings of which only the stream id is new, and a response header
block is looked up rather than decoded. `benchmarks/peers/null_server.py` says what that comes to.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load.headers import Head, HeadCache, HeaderError
from benchmarks.load.statuses import UNAVAILABLE, UNKNOWN, reset_status
from benchmarks.load.wire import Answer, WireError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
FRAME_BYTES = 9
FRAME_BYTES_MAX = 16_384
BLOCK_BYTES_MAX = 65_536
WINDOW_DEFAULT_BYTES = 65_535
WINDOW_MAX_BYTES = 2**31 - 1
STREAM_ID_MAX = 2**31 - 1
STREAMS_UNTIL_SETTINGS = 100
CANCEL = 0x8

_frame = struct.Struct(">HBBBI")
_setting = struct.Struct(">HI")
_u32 = struct.Struct(">I")

# fields of an open stream; a list costs a third of an object to make
TAG, RECEIVED, HTTP_STATUS = 0, 1, 2


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return _frame.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream_id) + payload


def settings_payload(values: dict[int, int]) -> bytes:
    """The payload of a SETTINGS frame."""
    return b"".join(_setting.pack(name, value) for name, value in values.items())


@dataclass(frozen=True, slots=True)
class Template:
    """A call but for its stream id, which goes between `head` and `middle` and again before `body`."""

    head: bytes
    middle: bytes
    body: bytes


def call_templates(block: bytes, bodies: Sequence[bytes]) -> list[Template]:
    """One template for each body; `block` must fit into one frame."""
    if len(block) > FRAME_BYTES_MAX:
        raise ValueError(f"the request header block has {len(block)} bytes, over {FRAME_BYTES_MAX}")
    head = frame(HEADERS, END_HEADERS, 0, block)
    return [Template(head[:5], head[9:] + frame(DATA, END_STREAM, 0, body)[:5], body) for body in bodies]


@dataclass(slots=True)
class Upload:
    """A body that flow control has not let through whole."""

    rest: memoryview
    window_bytes: int


class Http2Wire:
    """The client half of one connection; see `wire.Wire`. Body `tag % len(templates)` is what request `tag` sends."""

    def __init__(
        self,
        *,
        block: bytes,
        templates: Sequence[Template],
        heads: HeadCache,
        window_bytes: int = WINDOW_MAX_BYTES,
        first_id: int = 1,
    ) -> None:
        self.outgoing: list[bytes] = [PREFACE, self._opening(window_bytes)]
        self.farewell: str | None = None
        self._block, self._templates, self._heads = block, templates, heads
        self._streams: dict[int, list[int]] = {}
        self._uploads: dict[int, Upload] = {}
        self._next_id = first_id
        self._rest = b""
        self._headers_begun: tuple[int, int, bytearray] | None = None
        self._greeted = False
        self._streams_max, self._frame_max = STREAMS_UNTIL_SETTINGS, FRAME_BYTES_MAX
        self._send_window, self._stream_window = WINDOW_DEFAULT_BYTES, WINDOW_DEFAULT_BYTES
        self._credit_bytes, self._unreturned_bytes = window_bytes // 2, 0

    @staticmethod
    def _opening(window_bytes: int) -> bytes:
        values = {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: window_bytes}
        grown = window_bytes - WINDOW_DEFAULT_BYTES
        update = frame(WINDOW_UPDATE, 0, 0, _u32.pack(grown)) if grown > 0 else b""
        return frame(SETTINGS, 0, 0, settings_payload(values)) + update

    def room(self) -> bool:
        return len(self._streams) < self._streams_max and self.farewell is None

    def spent(self) -> bool:
        return not self._streams and self.farewell is not None

    def submit(self, tag: int) -> None:
        template = self._templates[tag % len(self._templates)]
        stream_id = self._next_id
        self._next_id = stream_id + 2
        if self._next_id > STREAM_ID_MAX:
            self.farewell = "the connection ran out of stream ids"
        self._streams[stream_id] = [tag, 0, 0]
        size = len(template.body)
        if self._uploads or size > self._frame_max or size > self._send_window or size > self._stream_window:
            self._submit_in_parts(stream_id, template.body)
            return
        self._send_window -= size
        coded_id = _u32.pack(stream_id)
        self.outgoing += (template.head, coded_id, template.middle, coded_id, template.body)

    def _submit_in_parts(self, stream_id: int, body: bytes) -> None:
        self.outgoing.append(frame(HEADERS, END_HEADERS, stream_id, self._block))
        self._uploads[stream_id] = Upload(memoryview(body), self._stream_window)
        self._upload()

    def _upload(self) -> None:
        """Send what the windows allow, oldest call first."""
        for stream_id in list(self._uploads):
            if self._send_window <= 0:
                return
            upload = self._uploads[stream_id]
            self._upload_one(stream_id, upload)
            if not upload.rest:
                del self._uploads[stream_id]

    def _upload_one(self, stream_id: int, upload: Upload) -> None:
        while upload.rest:
            size = min(len(upload.rest), self._frame_max, self._send_window, upload.window_bytes)
            if size <= 0:
                return
            part, upload.rest = upload.rest[:size], upload.rest[size:]
            self.outgoing.append(frame(DATA, 0 if upload.rest else END_STREAM, stream_id, bytes(part)))
            self._send_window -= size
            upload.window_bytes -= size

    def receive(self, data: bytes) -> list[Answer]:
        answers: list[Answer] = []
        try:
            self._receive(self._rest + data if self._rest else data, answers)
        except WireError as error:
            error.answers = answers
            raise
        return answers

    def _receive(self, data: bytes, answers: list[Answer]) -> None:
        unpack = _frame.unpack_from
        position, end = 0, len(data)
        while end - position >= FRAME_BYTES:
            high, low, kind, flags, stream_id = unpack(data, position)
            start = position + FRAME_BYTES
            after = start + (high << 8 | low)
            if after - start > FRAME_BYTES_MAX:
                raise WireError(f"a frame of {after - start} bytes, over {FRAME_BYTES_MAX}")
            if after > end:
                break
            if kind == HEADERS and not flags & ~(END_STREAM | END_HEADERS) and flags & END_HEADERS:
                self._on_block(stream_id, flags, data[start:after], answers)
            elif kind == DATA:
                self._on_data(stream_id, flags, after - start, answers)
            else:
                self._on_rare(kind, flags, stream_id, data[start:after], answers)
            position = after
        self._rest = data[position:]

    def _on_block(self, stream_id: int, flags: int, block: bytes, answers: list[Answer]) -> None:
        """A whole header block: response headers, trailers, or both in one."""
        head = self._heads.heads.get(block) or self._first_seen(block)
        if flags & END_STREAM:
            stream = self._streams.pop(stream_id, None)
            if stream is not None:
                status = head.grpc_status
                if status is None or (stream[HTTP_STATUS] or head.http_status or 200) != 200:
                    status = _status_without_trailer(stream[HTTP_STATUS] or head.http_status)
                self._finish(stream_id, stream, status, answers)
        elif head.http_status != 200 and (head.http_status or 0) >= 200 and stream_id in self._streams:
            self._streams[stream_id][HTTP_STATUS] = head.http_status or 0

    def _first_seen(self, block: bytes) -> Head:
        try:
            return self._heads.read(block)
        except HeaderError as error:
            raise WireError(str(error)) from error

    def _on_data(self, stream_id: int, flags: int, size: int, answers: list[Answer]) -> None:
        """Return credit, and end the stream where a server ends it without trailers."""
        self._unreturned_bytes += size
        if self._unreturned_bytes > self._credit_bytes:
            self.outgoing.append(frame(WINDOW_UPDATE, 0, 0, _u32.pack(self._unreturned_bytes)))
            self._unreturned_bytes = 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if flags & END_STREAM:
            del self._streams[stream_id]
            self._finish(stream_id, stream, _status_without_trailer(stream[HTTP_STATUS]), answers)
            return
        stream[RECEIVED] += size
        if stream[RECEIVED] > self._credit_bytes:
            self.outgoing.append(frame(WINDOW_UPDATE, 0, stream_id, _u32.pack(stream[RECEIVED])))
            stream[RECEIVED] = 0

    def _finish(self, stream_id: int, stream: list[int], status: int, answers: list[Answer]) -> None:
        """The server has said all it will; it may have done so before the request was sent whole."""
        answers.append((stream[TAG], status))
        if self._uploads.pop(stream_id, None) is not None:
            self.outgoing.append(frame(RST_STREAM, 0, stream_id, _u32.pack(CANCEL)))

    def _on_rare(self, kind: int, flags: int, stream_id: int, payload: bytes, answers: list[Answer]) -> None:
        """All frames but DATA and plain HEADERS; kinds we do not know are skipped, as the standard asks."""
        try:
            if kind in (HEADERS, CONTINUATION):
                self._on_headers_part(kind, flags, stream_id, payload, answers)
            elif kind == SETTINGS and not flags & ACK:
                self._on_settings(payload)
            elif kind == PING and not flags & ACK:
                self.outgoing.append(frame(PING, ACK, 0, payload))
            elif kind == WINDOW_UPDATE:
                self._on_window_update(stream_id, _u32.unpack(payload)[0])
            elif kind == RST_STREAM:
                self._drop(stream_id, reset_status(_u32.unpack(payload)[0]), answers)
            elif kind == GOAWAY:
                self._on_goaway(_u32.unpack_from(payload)[0], answers)
        except (struct.error, IndexError) as error:
            raise WireError(f"a frame of kind {kind} with {len(payload)} bytes") from error

    def _on_headers_part(self, kind: int, flags: int, stream_id: int, payload: bytes, answers: list[Answer]) -> None:
        if kind == HEADERS:
            self._headers_begun = (stream_id, flags & END_STREAM, bytearray(_unpadded(flags, payload)))
        elif self._headers_begun is None or self._headers_begun[0] != stream_id:
            raise WireError(f"CONTINUATION on stream {stream_id} without HEADERS before it")
        else:
            self._headers_begun[2].extend(payload)
        _, ends, block = self._headers_begun
        if len(block) > BLOCK_BYTES_MAX:
            raise WireError(f"a header block of over {BLOCK_BYTES_MAX} bytes")
        if flags & END_HEADERS:
            self._headers_begun = None
            self._on_block(stream_id, ends, bytes(block), answers)

    def _on_settings(self, payload: bytes) -> None:
        if not self._greeted:  # a server that names no bound sets none
            self._greeted, self._streams_max = True, STREAM_ID_MAX
        for name, value in _setting.iter_unpack(payload):
            if name == MAX_CONCURRENT_STREAMS:
                self._streams_max = value
            elif name == MAX_FRAME_SIZE:
                self._frame_max = value
            elif name == INITIAL_WINDOW_SIZE:
                self._move_windows(value - self._stream_window)
        self.outgoing.append(frame(SETTINGS, ACK, 0))
        self._upload()

    def _move_windows(self, change_bytes: int) -> None:
        """A new INITIAL_WINDOW_SIZE moves the windows of open streams too, below zero if need be."""
        self._stream_window += change_bytes
        for upload in self._uploads.values():
            upload.window_bytes += change_bytes

    def _on_window_update(self, stream_id: int, more_bytes: int) -> None:
        if stream_id == 0:
            self._send_window += more_bytes
        elif stream_id in self._uploads:
            self._uploads[stream_id].window_bytes += more_bytes
        if self._uploads:
            self._upload()

    def _drop(self, stream_id: int, status: int, answers: list[Answer]) -> None:
        stream = self._streams.pop(stream_id, None)
        self._uploads.pop(stream_id, None)
        if stream is not None:
            answers.append((stream[TAG], status))

    def _on_goaway(self, last_id: int, answers: list[Answer]) -> None:
        """No new calls here; those above `last_id` were never looked at and are lost."""
        self.farewell = "the server sent GOAWAY"
        for stream_id in [open_id for open_id in self._streams if open_id > last_id]:
            self._drop(stream_id, UNAVAILABLE, answers)

    def lose(self) -> list[Answer]:
        lost = [(stream[TAG], UNAVAILABLE) for stream in self._streams.values()]
        self._streams.clear()
        self._uploads.clear()
        self.farewell = self.farewell or "connection lost"
        return lost


def _status_without_trailer(http_status: int | None) -> int:
    """A stream that ended without grpc-status: the HTTP code where that is an error, else UNKNOWN."""
    return http_status if http_status not in (None, 0, 200) else UNKNOWN


def _unpadded(flags: int, payload: bytes) -> bytes:
    """The header block inside a HEADERS payload that may carry padding and priority."""
    padding = payload[0] if flags & PADDED else 0
    start = (1 if flags & PADDED else 0) + (5 if flags & WITH_PRIORITY else 0)
    if start + padding > len(payload):
        raise WireError("more padding than there is frame")
    return payload[start : len(payload) - padding]
