"""The native transport's ports, and its turns.

A turn of the event loop reads every socket that has something; then, once, everything that came is taken from the
compiled module, computed together where it goes to one model, and all answers are written.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from engine import Spec, SpecError, limits
from serving.listener import listener
from serving.methods import MethodTable
from serving.native import _wire
from serving.native.asgi import App, HttpExchange
from serving.native.calls import AskingCall, DirectCall, Served, StreamCall, Surroundings, UnaryCall, refusal_trailers
from serving.native.connection import Connection
from serving.native.door import Door
from serving.native.events import ASKING_CALL, CALL, DATA, END, MESSAGE, OPEN, REFUSED, RESET, ROOM
from serving.status import grpc_status_name
from serving.tls import load_tls
from serving.unix_socket import UnixSocket

log = logging.getLogger("vireo.serving")

_GRACE_S: Final = 1.0
_BACKLOG: Final = 2048
_POLL_S: Final = 0.01
_CALLS: Final = {CALL: DirectCall, ASKING_CALL: AskingCall}


class NativeServer:
    """Serves a method table and an HTTP application on any number of ports, gRPC, HTTP/2 and HTTP/1.1 on each."""

    def __init__(
        self,
        spec: Spec,
        methods: MethodTable,
        around: Surroundings,
        app: App,
        http1: Callable[[], asyncio.Protocol],
        flush: Callable[[], None],
    ) -> None:
        """`http1` makes a protocol for a connection that speaks HTTP/1.1; `flush` computes what direct calls began."""
        self._spec = spec
        self._around = around
        self._counter = around.counter
        self._app = app
        self._http1 = http1
        self._flush = flush
        self._paths = frozenset(methods)
        self._connections: set[Connection] = set()
        self._doors: set[Door] = set()
        self._servers: list[asyncio.Server] = []
        self._bound: list[socket.socket] = []
        self._late: set[asyncio.Task[Any]] = set()
        self._ending = False
        self._unix: UnixSocket | None = None
        self._tls = load_tls(spec)
        if self._tls is not None:
            self._tls.set_alpn_protocols(["h2", "http/1.1"])
        table = {
            path: (Served(each, around), each.stream is None, each.direct is not None) for path, each in methods.items()
        }
        _wire.set_message_bytes_max(limits.WIRE_BYTES_MAX)
        self._turn_events = limits.TURN_EVENTS_MAX
        self._wire = _wire.Wire(
            table,  # type: ignore[arg-type]
            partial(around.loop.call_soon, self._turn),
            streams_max=limits.STREAMS_MAX,
            header_bytes_max=limits.HTTP_HEADER_BYTES_MAX,
            window_bytes=limits.STREAM_WINDOW_BYTES,
            connection_window_bytes=limits.CONNECTION_WINDOW_BYTES,
            frame_bytes_max=limits.FRAME_BYTES_MAX,
            message_bytes_max=around.message_bytes_max,
            queued_bytes_max=limits.STREAM_QUEUE_BYTES_MAX,
            linger_ns=round(limits.HTTP_IDLE_S_MAX * 1e9),
        )
        self._sweeper: asyncio.TimerHandle | None = None

    # Ports.

    async def listen(self, name: str, port: int) -> int:
        """Begins to answer on a TCP port; the port. `name` is its key in the spec. Raises SpecError."""
        host = self._spec.server.host.strip("[]")
        try:
            bound = listener(host, port, shared=self._spec.server.share_ports)
            bound.listen(_BACKLOG)  # two sockets may be bound alike as long as neither listens
        except OSError as error:
            reason = error.strerror or error
            raise SpecError(f"server.{name}: cannot listen on {host}:{port}: {reason}") from error
        await self._serve(bound)
        taken: int = bound.getsockname()[1]
        return taken

    async def listen_unix(self, path: Path) -> None:
        """Begins to answer on a Unix domain socket that only this user may open. Raises SpecError."""
        self._unix = UnixSocket(path)
        await self._serve(self._unix.listen(_BACKLOG))

    async def _serve(self, bound: socket.socket) -> None:
        loop = self._around.loop
        create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
        made = await create(self._door, sock=bound, backlog=_BACKLOG, **self._security())
        self._servers.append(made)
        self._bound.append(bound)
        if self._sweeper is None:
            self._sweep()

    def _security(self) -> dict[str, Any]:
        patience_s = None if self._tls is None else limits.HTTP_IDLE_S_MAX
        return {"ssl": self._tls, "ssl_handshake_timeout": patience_s, "ssl_shutdown_timeout": patience_s}

    def _door(self) -> Door:
        return Door(self._connection, self._http1, self._doors)

    def _connection(self) -> Connection:
        made = Connection(self._wire, self._connections)
        if self._ending:  # it has come late, and is told so once it has begun
            self._around.loop.call_soon(made.announce_end)
        return made

    def _take_late(self, bound: socket.socket) -> None:
        """Connections that the system has made already: it would reset them when nobody listens any more, which their clients
        take for a server that is not there, although another listens on the port."""
        while True:
            try:
                late, _ = bound.accept()
            except OSError:  # there are no more
                return
            late.setblocking(False)
            task = self._around.loop.create_task(self._begin_late(late))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _begin_late(self, late: socket.socket) -> None:
        with suppress(OSError):  # of TLS, or gone: as of any other connection
            await self._around.loop.connect_accepted_socket(self._door, late, **self._security())

    # Turns.

    def _turn(self) -> None:
        wire = self._wire
        try:
            begun_ns = self._around.clock()
            events = wire.take(self._turn_events)
            if events:  # else there are answers only
                self._take_up(events)
                if len(events) >= limits.TURN_EVENTS_MIN:
                    cost_s = (self._around.clock() - begun_ns) / 1e9 / len(events)
                    wanted = int(limits.TURN_S / cost_s)
                    self._turn_events = min(max(wanted, limits.TURN_EVENTS_MIN), limits.TURN_EVENTS_MAX)
            for served, count in wire.take_expired():
                self._counter.add(served.path, "DEADLINE_EXCEEDED", count)
        finally:  # a fault must not be the last turn
            for each in wire.dirty():
                each.flush()

    def _take_up(self, events: list[_wire.Event]) -> None:
        if len(events) == 1:
            only = self._begun(events[0], alone=True)
            if only is not None and not only.ended_:
                only.wait()
            return
        begun = [call for event in events if (call := self._begun(event, alone=False)) is not None]
        if begun:
            self._flush()
        for call in begun:
            if not call.ended_:
                call.wait()

    def _begun(self, event: _wire.Event, *, alone: bool) -> DirectCall | None:
        kind, connection, stream, served, payload, deadline_ns, encoding = event
        make = _CALLS.get(kind)
        if make is None or encoding is not None or served.direct is None:
            self._happened_alone(event)
            return None
        call = make(connection, stream, served, deadline_ns, alone)
        call.begin(payload)
        return call

    def _happened_alone(self, event: _wire.Event) -> None:
        try:
            self._happened(event)
        except Exception:  # of ours; those behind it are not to blame
            log.exception("unexpected error in the native transport")

    def _happened(self, event: _wire.Event) -> None:
        kind, connection, stream, served, payload, deadline_ns, encoding = event
        if kind in _CALLS:
            UnaryCall(connection, stream, served, deadline_ns).begin(payload, encoding)
        elif kind == OPEN:
            self._opened(connection, stream, served, deadline_ns)
        elif kind == REFUSED:
            self._refused(connection, stream, served, *payload)
        elif (waiting := connection.open.get(stream)) is None:
            pass  # it has ended meanwhile
        elif kind in (MESSAGE, DATA):
            waiting.message(payload, encoding)
        elif kind == END:
            waiting.ended()
        elif kind == ROOM:
            waiting.room()
        elif kind == RESET:
            waiting.gone()

    def _opened(self, connection: Connection, stream: int, served: Served | None, deadline_ns: int) -> None:
        if served is not None:
            StreamCall(connection, stream, served, deadline_ns).begin()
            return
        exchange = HttpExchange(connection, stream, self._around.loop)
        target = connection.target(stream)
        if target is not None and target[0] == b"POST" and target[3].decode("latin-1") in self._paths:
            exchange.refuse(415, "INVALID_ARGUMENT", "this is a gRPC method: its content-type is application/grpc")
        else:
            exchange.begin(self._app)

    def _refused(self, connection: Connection, stream: int, served: Served | None, code: int, text: str) -> None:
        self._counter.of("unknown" if served is None else served.path, grpc_status_name(code))()
        waiting = connection.open.get(stream)
        if waiting is None:
            connection.finish(stream, code, text, refusal_trailers(code, text))
        else:
            waiting.refused(code, text)

    # Connections that do not move.

    def _sweep(self) -> None:
        self._sweeper = self._around.loop.call_later(limits.SWEEP_S, self._sweep)
        now_ns = self._around.clock()
        for each in list(self._connections):
            each.expire(now_ns)
            silent_s = (now_ns - each.received_ns) / 1e9
            if (
                each.stuck_ns(now_ns) > limits.STUCK_S_MAX * 1e9
                or silent_s > limits.KEEPALIVE_S + limits.HTTP_IDLE_S_MAX
            ):
                each.transport.abort()
            elif silent_s > limits.KEEPALIVE_S:
                each.ping()

    # What is open. Any thread may ask.

    def connections(self) -> int:
        """Connections that speak HTTP/2."""
        return len(self._connections)

    def undecided(self) -> int:
        """Connections whose first bytes have not come yet."""
        return len(self._doors)

    def streams(self) -> int:
        """HTTP/2 streams of all connections."""
        return sum(each.streams for each in list(self._connections))

    # The end.

    def announce_end(self) -> None:
        """Takes no new connections, and asks those open to go elsewhere (GOAWAY, RFC 9113, 6.8); calls are still served, also of
        connections whose first bytes are still on their way."""
        self._ending = True
        for bound, server in zip(self._bound, self._servers, strict=True):
            self._take_late(bound)
            server.close()
        self._bound, self._servers = [], []
        if self._unix is not None:
            self._unix.remove()
        self._tell_all(_wire.Session.announce_end)

    async def stop(self) -> None:
        """Takes no new connections or calls; those open may finish within `_GRACE_S`, then they are ended."""
        self.announce_end()
        await asyncio.sleep(_POLL_S)  # calls already on their way are still served
        await self.finish(_GRACE_S)
        for connection in list(self._connections):
            for each in list(connection.open.values()):
                each.shut_down()
        await asyncio.sleep(_POLL_S)
        for connection in list(self._connections):
            connection.flush()
            connection.transport.close()
        await asyncio.sleep(0)
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._wire.close()

    async def finish(self, within_s: float) -> None:
        """Takes no new calls; returns when those open have ended, at the latest after `within_s`."""
        for task in list(self._late):
            task.cancel()
        for door in list(self._doors):
            door.close()
        self._tell_all(_wire.Session.end)
        for _ in range(round(within_s / _POLL_S)):
            if not any(each.streams for each in self._connections):
                break
            await asyncio.sleep(_POLL_S)

    def _tell_all(self, message: Callable[[Any], None]) -> None:
        for each in list(self._connections):
            message(each)
