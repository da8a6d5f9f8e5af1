"""The thread that waits for the connections of one fleet: between reads it does what was posted and what is due."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from engine.triton.connection import Connection

log = logging.getLogger("vireo.triton")


class Watcher(Protocol):
    """What the loop serves. All of it is called on its thread."""

    def readable(self, connection: Connection) -> None:
        """Something came, or the connection has ended."""

    def tick(self) -> float:
        """Does what is due; seconds until it is to be called again at the latest."""


class Loop:
    """`post` and `wake` from any thread; `add` and `remove` on the loop's own."""

    def __init__(self, name: str, watcher: Watcher) -> None:
        self._watcher = watcher
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ, None)
        self._posted: deque[Callable[[], None]] = deque()
        self._closed = False
        self.asleep = False
        """For longer than a tick."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def post(self, work: Callable[[], None]) -> None:
        """Has `work` done on the loop's thread."""
        self._posted.append(work)
        self.wake()

    def wake(self) -> None:
        """Has `tick` called now."""
        try:
            self._wake_in.send(b"w")
        except OSError:  # it is full, so awake, or closed
            return

    def add(self, connection: Connection) -> None:
        """Waits for it from now on."""
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def remove(self, connection: Connection) -> None:
        """Waits for it no more; before it is closed."""
        self._selector.unregister(connection.socket)

    def watch_writing(self, connection: Connection) -> None:
        """Flushes the connection when its socket takes more."""
        if connection.socket.fileno() >= 0 and connection.wants_write:
            self._selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    @property
    def closed(self) -> bool:
        """Whether it ends."""
        return self._closed

    def close(self) -> None:
        """Ends the thread, after what was posted."""
        self._closed = True
        self.wake()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        timeout_s = 0.0
        while not self._closed or self._posted:
            for key, events in self._selector.select(timeout_s):
                self._serve(key.data, events)
            self.asleep = False
            while self._posted:
                self._guard(self._posted.popleft())
            timeout_s = self._ticked()
        self._selector.close()
        self._wake_out.close()
        self._wake_in.close()

    def _ticked(self) -> float:
        try:
            return self._watcher.tick()
        except Exception:
            log.exception("the thread that waits for Triton servers goes on after a fault")
            return 0.1

    def _serve(self, connection: Connection | None, events: int) -> None:
        if connection is None:
            with suppress(BlockingIOError):
                self._wake_out.recv(4096)
            return
        if events & selectors.EVENT_WRITE:
            connection.flush()
            if not connection.wants_write and connection.socket.fileno() >= 0:
                self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
        if events & selectors.EVENT_READ:
            self._guard(lambda: self._watcher.readable(connection))

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("the thread that waits for Triton servers goes on after a fault")
