"""HTTP/2 requests that are not gRPC, given to the HTTP application: one ASGI call a stream (ASGI HTTP spec 2.3)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from serving.native.connection import Connection

App = Callable[[Any, Any, Any], Awaitable[None]]
Message = MutableMapping[str, Any]

_INTERNAL_ERROR: Final = 2  # HTTP/2 error codes, RFC 9113 section 7
_ENHANCE_YOUR_CALM: Final = 11
_OF_CONNECTIONS: Final = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"proxy-connection")
)
"""Headers that HTTP/2 does not have (RFC 9113 section 8.2.2)."""


class HttpExchange:
    """One request and its answer."""

    def __init__(self, connection: Connection, stream: int, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._stream = stream
        self._loop = loop
        self._received: deque[bytes] = deque()
        self._complete = self._left = self._answered = False
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []

    def begin(self, app: App) -> None:
        """Starts the application on the request."""
        target = self._connection.target(self._stream)
        if target is None:
            return
        self._connection.open[self._stream] = self
        self._task = self._loop.create_task(self._run(app, self._scope(*target)))

    def refuse(self, status: int, text: str) -> None:
        """Answers in place of the application."""
        body = text.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        self._connection.http_head(self._stream, status, headers)
        self._connection.http_body(self._stream, body, False)

    def _scope(self, verb: bytes, scheme: bytes, authority: bytes, target: bytes) -> Message:
        path, _, query = target.partition(b"?")
        headers = self._connection.headers(self._stream)
        if authority:
            headers.insert(0, (b"host", authority))
        server = self._connection.transport.get_extra_info("sockname")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "method": verb.decode("latin-1"),
            "scheme": scheme.decode("latin-1"),
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._connection.peer,
            "server": tuple(server[:2]) if isinstance(server, tuple) else None,
        }

    async def _run(self, app: App, scope: Message) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._connection.open.pop(self._stream, None)
            if not self._answered and not self._left:
                self._connection.reset(self._stream, _INTERNAL_ERROR)

    async def _receive(self) -> Message:
        while not (self._received or self._complete or self._left):
            self._news = self._loop.create_future()
            await self._news
        if self._received:
            body = self._received.popleft()
            self._connection.taken(self._stream, len(body))
            return {"type": "http.request", "body": body, "more_body": bool(self._received) or not self._complete}
        if self._complete and not self._left and not self._answered:
            if self._told_complete:
                return await self._disconnect()
            self._told_complete = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    _told_complete = False

    async def _disconnect(self) -> Message:
        while not self._left and not self._answered:
            self._news = self._loop.create_future()
            await self._news
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._left or self._answered:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [each for each in message.get("headers", ()) if each[0].lower() not in _OF_CONNECTIONS]
            self._connection.http_head(self._stream, self._status, self._headers)
            return
        more = bool(message.get("more_body"))
        body = b"" if self._verb_is_head else message.get("body", b"")
        self._answered = not more
        if not self._connection.http_body(self._stream, body, more) and more:
            self._room = self._loop.create_future()
            await self._room

    _verb_is_head = False

    # What the connection reports.

    def message(self, payload: bytes, encoding: str | None) -> None:
        """See `connection.Open`."""
        self._received.append(payload)
        _tell(self._news)

    def ended(self) -> None:
        """See `connection.Open`."""
        self._complete = True
        _tell(self._news)

    def room(self) -> None:
        """See `connection.Open`."""
        _tell(self._room)

    def gone(self) -> None:
        """See `connection.Open`."""
        self._left = True
        for each in (self._news, self._room):
            _tell(each)

    def refused(self, code: int, text: str) -> None:
        """See `connection.Open`."""
        self._connection.reset(self._stream, _ENHANCE_YOUR_CALM)
        self.gone()

    def shut_down(self) -> None:
        """See `connection.Open`."""
        if self._task is not None:
            self._task.cancel()


def _tell(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
