"""HTTP/2 requests that are not gRPC, given to the HTTP application: one ASGI call a stream (ASGI HTTP spec 2.3)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from serving.native.connection import Connection

App = Callable[[Any, Any, Any], Awaitable[None]]
Message = MutableMapping[str, Any]

log = logging.getLogger("vireo.serving")

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
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []  # for something to happen: one may receive while another sends
        self._pieces: deque[bytes] = deque()  # of the body, not yet given to the application
        self._complete = False  # the client has sent everything
        self._given = False  # the application has got everything
        self._bodiless = False  # the answer to HEAD
        self._full = False  # the client does not take the answer as quickly as it comes
        self._over = False  # the answer is complete, or nobody waits for it

    def begin(self, app: App) -> None:
        """Starts the application on the request."""
        target = self._connection.target(self._stream)
        if target is None:
            return
        scope = self._scope(*target)
        self._bodiless = scope["method"] == "HEAD"
        self._connection.open[self._stream] = self
        self._task = self._loop.create_task(self._run(app, scope))

    def refuse(self, status: int, code: str, text: str) -> None:
        """Answers in place of the application, in the form of its errors."""
        body = json.dumps({"error": text, "code": code}).encode()
        self._head(status, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))])
        self._connection.http_body(self._stream, body, False)

    def _scope(self, verb: bytes, scheme: bytes, authority: bytes, target: bytes) -> Message:
        path, _, query = target.partition(b"?")
        headers = [each for each in self._connection.headers(self._stream) if not (authority and each[0] == b"host")]
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
            "vireo_received_ns": self._connection.begun_ns(self._stream),  # see `http_app.RECEIVED_NS`
        }

    async def _run(self, app: App, scope: Message) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            log.exception("unexpected error in the HTTP application")
        finally:
            self._connection.open.pop(self._stream, None)
            if not self._over:
                self._connection.reset(self._stream, _INTERNAL_ERROR)

    # What the application calls.

    async def _receive(self) -> Message:
        while not (self._over or self._pieces or (self._complete and not self._given)):
            await self._news()
        if self._over:
            return {"type": "http.disconnect"}
        body = b"".join(self._pieces)
        for piece in self._pieces:  # the session counts pieces, not only bytes
            self._connection.taken(self._stream, len(piece))
        self._pieces.clear()
        self._given = self._complete
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    async def _send(self, message: Message) -> None:
        if self._over:
            return
        if message["type"] == "http.response.start":
            self._head(message["status"], message.get("headers", ()))
            return
        more = bool(message.get("more_body"))
        body = b"" if self._bodiless else message.get("body", b"")
        self._over = not more
        self._full = not self._connection.http_body(self._stream, body, more) and more
        while self._full and not self._over:
            await self._news()

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        kept = [each for each in headers if each[0].lower() not in _OF_CONNECTIONS]
        self._connection.http_head(self._stream, status, [*kept, (b"date", _date(int(time.time())))])

    async def _news(self) -> None:
        waiting = self._loop.create_future()
        self._waiting.append(waiting)
        await waiting

    # What the connection reports.

    def message(self, payload: bytes, encoding: str | None) -> None:
        """See `connection.Open`."""
        self._pieces.append(payload)
        self._tell()

    def ended(self) -> None:
        """See `connection.Open`."""
        self._complete = True
        self._tell()

    def room(self) -> None:
        """See `connection.Open`."""
        self._full = False
        self._tell()

    def gone(self) -> None:
        """See `connection.Open`."""
        self._over = True
        self._tell()

    def refused(self, code: int, text: str) -> None:
        """See `connection.Open`."""
        self._connection.reset(self._stream, _ENHANCE_YOUR_CALM)
        self.gone()

    def shut_down(self) -> None:
        """See `connection.Open`."""
        if self._task is not None:
            self._task.cancel()

    def _tell(self) -> None:
        for each in self._waiting:
            if not each.done():
                each.set_result(None)
        self._waiting.clear()


@lru_cache(maxsize=1)
def _date(now_s: int) -> bytes:
    return formatdate(now_s, usegmt=True).encode()
