"""Runs the HTTP application on uvicorn: its socket, TLS, start and graceful end. Only it and `http_connection` know uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn

from engine import Spec, SpecError, limits
from serving.http_app import HttpApp
from serving.http_connection import HttpConnection
from serving.listener import listener
from serving.tls import load_tls

_BACKLOG = 2048
_GRACE_S = 1


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
            http=HttpConnection,
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
        config.ssl = load_tls(spec)
        self._server = _Server(config)
        self._running: asyncio.Task[None] | None = None

    def protocol(self) -> asyncio.Protocol:
        """Serves a connection that somebody else accepts; `start_unbound` has been called."""
        config = self._server.config
        return HttpConnection(config=config, server_state=self._server.server_state, app_state={})

    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    async def start_unbound(self) -> None:
        """Serves the connections given to `protocol`, and listens itself on no port."""
        await self._begin([])

    async def start(self) -> int:
        """Begins to answer; the port. Raises SpecError where it cannot listen."""
        listener = _bind(self._spec)
        await self._begin([listener])
        port: int = listener.getsockname()[1]
        return port

    async def _begin(self, listeners: list[socket.socket]) -> None:
        self._running = asyncio.create_task(self._server.serve(listeners))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait([self._running, listening], return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            self._running.result()

    async def stop(self) -> None:
        """Takes no new connections; those at work finish within a second, the idle are closed."""
        self._server.should_exit = True
        if self._running is not None:
            await self._running


def _bind(spec: Spec) -> socket.socket:
    host, port = spec.server.host.strip("[]"), spec.server.http_port or 0
    try:
        made = listener(host, port, shared=spec.server.share_ports)
        made.listen(_BACKLOG)  # two sockets may be bound alike as long as neither listens
        return made
    except OSError as error:
        raise SpecError(f"server.http_port: cannot listen on {host}:{port}: {error.strerror or error}") from error
