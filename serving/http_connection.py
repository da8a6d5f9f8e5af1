"""One HTTP connection: uvicorn's protocol with the bounds it lacks. It knows no endpoint.

Bounded are the bytes and seconds of a request's head, the chunks of its body, the requests that wait their turn, and the
patience with a client that neither sends what it announced nor takes what it asked for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sized
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine import limits, monotonic

_HEADER_LINE_BYTES: Final = 4  # colon, space and line end


def _nothing() -> None: ...


class _Flow(FlowControl):
    """Reads nothing more while requests wait behind the one being answered: else a client could queue without end."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class HttpConnection(HttpToolsProtocol):
    """Feeds requests to the application, or refuses them itself where they break a bound."""

    _in_head = False
    _in_body = False
    _deaf = False  # nothing that still comes is looked at
    _heads = 0
    _head_bytes = 0
    _chunks = 0
    _patience: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  asyncio's transport
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._wait_at_most(limits.HTTP_KEEP_ALIVE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_waiting()
        self._unset_keepalive_if_required()  # uvicorn keeps its timer, and with it all of this, where the client resets
        self.resume_writing()
        super().connection_lost(exc)
        for cycle, _ in self.pipeline:  # it never begins, so never lets go of this connection
            cycle.on_response = _nothing
        self.pipeline.clear()

    def _wait_at_most(self, seconds: float) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    # What comes in.

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._deaf:
            return
        heads = self._heads
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # what follows is in another protocol; the request is answered and the connection closed
        except httptools.HttpParserError as error:
            reason = "malformed target" if isinstance(error, httptools.HttpParserCallbackError) else str(error)
            self._refuse(400, "INVALID_ARGUMENT", f"not a valid HTTP request: {reason}")
        else:
            self._fed(len(data), within_head=heads == self._heads)

    def _fed(self, size: int, *, within_head: bool) -> None:
        if self._in_head:
            # Where the head began somewhere in these bytes, perhaps behind a long body, its whole lines are counted.
            self._head_bytes += size if within_head else self._size_of_head()
            if self._head_bytes > limits.HTTP_HEADER_BYTES_MAX:
                self._refuse_head()
            elif self._patience is None:
                self._wait_at_most(limits.HTTP_IDLE_S_MAX)
        elif self._patience is None and self.timeout_keep_alive_task is None and self._is_idle():
            self._wait_at_most(limits.HTTP_KEEP_ALIVE_S)  # line ends between requests say nothing

    def _is_idle(self) -> bool:
        return not self._in_body and self.cycle is not None and self.cycle.response_complete

    def on_message_begin(self) -> None:
        """Called by httptools where a request begins."""
        self._stop_waiting()
        super().on_message_begin()
        self.scope["vireo_received_ns"] = monotonic()  # type: ignore[typeddict-unknown-key]  # see `http_app.RECEIVED_NS`
        self._in_head, self._head_bytes, self._chunks = True, 0, 0
        self._heads += 1

    def on_headers_complete(self) -> None:
        """Called by httptools at the end of a request's head."""
        if self._size_of_head() > limits.HTTP_HEADER_BYTES_MAX:
            self._refuse_head()
        elif len(self.pipeline) >= limits.HTTP_PIPELINE_MAX:
            self._refuse(429, "RESOURCE_EXHAUSTED", f"more than {limits.HTTP_PIPELINE_MAX} requests wait here")
        if self._deaf:
            raise ConnectionRefusedError  # stops the parser
        self._stop_waiting()
        super().on_headers_complete()
        self._in_head, self._in_body = False, True
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def _size_of_head(self) -> int:
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + _HEADER_LINE_BYTES
        return size

    def on_chunk_header(self) -> None:
        """Called by httptools where a chunk of a body begins."""
        self._chunks += 1
        if self._chunks > limits.HTTP_CHUNKS_MAX:
            self._refuse(413, "RESOURCE_EXHAUSTED", f"request body: more than {limits.HTTP_CHUNKS_MAX} chunks")
            raise ConnectionRefusedError

    def on_message_complete(self) -> None:
        """Called by httptools at the end of a request."""
        super().on_message_complete()
        self._in_body = False
        if self.cycle.response_complete:
            self._wait_at_most(limits.HTTP_KEEP_ALIVE_S)

    # What goes out.

    def on_response_complete(self) -> None:
        """Called by uvicorn where an answer has been written. A body nobody will read may still be arriving then."""
        super().on_response_complete()
        if not self.cycle.response_complete or self.transport.is_closing():
            return
        if self._deaf:
            self._hang_up()
        elif self._in_body:
            self._unset_keepalive_if_required()
            self._wait_at_most(limits.HTTP_IDLE_S_MAX)

    def pause_writing(self) -> None:
        """See `asyncio.BufferedProtocol`."""
        super().pause_writing()
        self._watch_reader(None)

    def resume_writing(self) -> None:
        """See `asyncio.BufferedProtocol`."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def _watch_reader(self, left_before: int | None) -> None:
        left = self.transport.get_write_buffer_size()
        if left == left_before:
            self.transport.abort()
        else:
            self._stall = self.loop.call_later(limits.HTTP_IDLE_S_MAX, self._watch_reader, left)

    def _refuse_head(self) -> None:
        message = f"request head: more than {limits.HTTP_HEADER_BYTES_MAX} bytes"
        self._refuse(431, "RESOURCE_EXHAUSTED", message)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answers what is being read in place of the application, unless other answers come first; then closes."""
        if self._deaf or self.transport.is_closing():
            return
        self._deaf = True
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self._in_body:
            self._hang_up()
        elif answered:
            self._answer(status, {"error": message, "code": code})
        elif self._in_head:
            pass  # hangs up behind the answers that earlier requests still wait for
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            self._drop_request()
            self._answer(status, {"error": message, "code": code})

    def _drop_request(self) -> None:
        """Tells the application that its caller is gone; the connection is as before its first request."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.cycle = None  # type: ignore[assignment]

    def _answer(self, status: int, error: dict[str, str]) -> None:
        body = json.dumps(error).encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self._hang_up()

    def _hang_up(self) -> None:
        """Lets the client read its answers first: closing while it still sends would reset the connection under it."""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._wait_at_most(limits.HTTP_LINGER_S)
