"""Runs the HTTP application on uvicorn: sockets, TLS, and bounds on what a connection may send before it is a request.

The one file that knows `uvicorn`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Generator
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine import Spec, SpecError, limits
from serving.http_app import HttpApp
from serving.listener import listener

_BACKLOG = 2048
_GRACE_S = 1


class _BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds it lacks: bytes and seconds of a request's head, chunks of its body."""

    _in_head = True
    _heads = 0
    _head_bytes = 0
    _chunks = 0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  asyncio's transport
        super().connection_made(transport)
        self._wait_at_most(limits.HTTP_KEEP_ALIVE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_at_most(self, seconds: float) -> None:
        self._patience = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def data_received(self, data: bytes) -> None:
        heads = self._heads
        if self._in_head and self._head_bytes > limits.HTTP_HEADER_BYTES_MAX:
            self._refuse(431, f"request head: more than {limits.HTTP_HEADER_BYTES_MAX} bytes")
            return
        super().data_received(data)
        if self._in_head:
            if heads == self._heads:  # else the head began somewhere in `data`, perhaps behind a long body
                self._head_bytes += len(data)
            if self._patience is None:
                self._wait_at_most(limits.HTTP_IDLE_S_MAX)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes, self._chunks = True, 0, 0
        self._heads += 1

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Called by httptools where a chunk of a body begins."""
        self._chunks += 1
        if self._chunks == limits.HTTP_CHUNKS_MAX + 1:
            self._refuse(413, f"request body: more than {limits.HTTP_CHUNKS_MAX} chunks")

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP, in our form."""
        self._refuse(400, msg)

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        body = json.dumps({"error": message}).encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which are the host's business, and with word of its start."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Opens the ports."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Serves an application on one port."""

    def __init__(self, spec: Spec, app: HttpApp) -> None:
        self._spec = spec
        config = uvicorn.Config(
            app,
            http=_BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=limits.HTTP_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        config.load()
        config.ssl = _tls_context(spec)
        self._server = _Server(config)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Begins to answer; the port. Raises SpecError where it cannot listen."""
        listener = _bind(self._spec)
        self._running = asyncio.create_task(self._server.serve([listener]))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait([self._running, listening], return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            self._running.result()
        port: int = listener.getsockname()[1]
        return port

    async def stop(self) -> None:
        """Takes no new connections; those at work finish within a second, the idle are closed."""
        self._server.should_exit = True
        if self._running is not None:
            await self._running


def _bind(spec: Spec) -> socket.socket:
    host, port = spec.server.host.strip("[]"), spec.server.http_port or 0
    try:
        return listener(host, port)
    except OSError as error:
        raise SpecError(f"server.http_port: cannot listen on {host}:{port}: {error.strerror or error}") from error


def _tls_context(spec: Spec) -> ssl.SSLContext | None:
    tls = spec.server.tls
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(spec.path(tls.certificate), spec.path(tls.key))
        if tls.client_ca:
            context.load_verify_locations(spec.path(tls.client_ca))
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SpecError(f"server.tls: {error}") from error
    return context
