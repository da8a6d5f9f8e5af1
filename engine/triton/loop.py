"""A fleet's work on the event loop of its engine: its connections' sockets, what was posted, and what is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from engine.home import Home
from engine.limits import TRITON_CLOSE_S_MAX
from engine.triton.connection import Connection

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("vireo.triton")


class Watcher(Protocol):
    """What the loop serves. All of it is called on its thread."""

    def readable(self, connection: Connection) -> None:
        """Something came, or the connection has ended. Raises nothing."""

    def tick(self) -> float:
        """Does what is due; seconds until it is to be called again at the latest."""


class Loop:
    """`start`, `post`, `wake` and `close` from any thread; `add` and `remove` on the loop's own."""

    def __init__(self, home: Home, watcher: Watcher) -> None:
        self._home, self._watcher = home, watcher
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread: int | None = None
        self.closed = False
        """It ends."""

    def start(self) -> None:
        """Begins to tick."""
        self._loop = self._home.loop
        self._soon(self._begin)

    def _begin(self) -> None:
        self._thread = threading.get_ident()
        self._tick()

    @property
    def here(self) -> bool:
        """Whether this thread is its own."""
        return self._thread == threading.get_ident()

    def post(self, work: Callable[[], None]) -> None:
        """Has `work` done on the loop's thread."""
        self._soon(self._guarded, work)

    def wake(self) -> None:
        """Has `tick` called now."""
        self._soon(self._tick)

    def _soon(self, work: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
        if self._loop is None:  # never started
            return
        try:
            self._loop.call_soon_threadsafe(work, *arguments)
        except RuntimeError:  # closed: the front is gone, nobody waits
            return

    def add(self, connection: Connection) -> None:
        """Waits for it from now on."""
        assert self._loop is not None
        self._loop.add_reader(connection.socket.fileno(), self._watcher.readable, connection)

    def remove(self, connection: Connection) -> None:
        """Waits for it no more; before it is closed."""
        assert self._loop is not None
        self._loop.remove_reader(connection.socket.fileno())
        self._loop.remove_writer(connection.socket.fileno())

    def watch_writing(self, connection: Connection) -> None:
        """Flushes the connection when its socket takes more."""
        if self._loop is not None and connection.socket.fileno() >= 0 and connection.wants_write:
            self._loop.add_writer(connection.socket.fileno(), self._writable, connection)

    def close(self, last: Callable[[], None]) -> None:
        """Ends it after `last`, which is waited for where this is another thread; TRITON_CLOSE_S_MAX at most, for the loop may
        be gone."""
        self.closed = True
        if self._loop is None or self.here:
            self._end(last, None)
            return
        ended = threading.Event()
        self._soon(self._end, last, ended)
        ended.wait(TRITON_CLOSE_S_MAX)

    def _end(self, last: Callable[[], None], ended: threading.Event | None) -> None:
        self._guarded(last)
        if self._timer is not None:
            self._timer.cancel()
        if ended is not None:
            ended.set()

    def _tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.closed or self._loop is None:
            return
        try:
            due_s = self._watcher.tick()
        except Exception:
            log.exception("waiting for Triton servers goes on after a fault")
            due_s = 0.1
        self._timer = self._loop.call_later(due_s, self._tick)

    def _writable(self, connection: Connection) -> None:
        connection.flush()
        if not connection.wants_write and self._loop is not None and connection.socket.fileno() >= 0:
            self._loop.remove_writer(connection.socket.fileno())

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
        try:
            work(*arguments)
        except Exception:
            log.exception("waiting for Triton servers goes on after a fault")
