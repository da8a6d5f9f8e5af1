"""Calls back at instants: one thread for all that wait for one, which sleeps until the next.

For bounds that nobody else watches: a node that hangs is stood in for when its time is up, not when it returns.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from itertools import count

from engine.clock import Clock
from engine.work import here

log = logging.getLogger("vireo.graph")

_GRAIN_NS = 500_000
"""Instants closer together than this are served by one wake-up; none is served early."""


class Alarm:
    """Any thread may call `at`; `ring` is called on the alarm's own thread, after the instant, and must be short.

    What has become needless is not taken out: it rings, and whoever is rung looks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wake = threading.Condition()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._thread: threading.Thread | None = None
        self._next_ns = 1 << 63
        self._closed = False

    def at(self, instant_ns: int, ring: Callable[[], None]) -> None:
        """Calls `ring` once `instant_ns` has come."""
        with self._wake:
            if self._closed:
                return
            heapq.heappush(self._heap, (instant_ns, next(self._numbers), ring))
            if instant_ns >= self._next_ns - _GRAIN_NS:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="vireo-alarm", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """Rings no more."""
        with self._wake:
            self._closed = True
            self._heap.clear()
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _loop(self) -> None:
        here.errand = True  # what hangs here would keep all others from being stood in for
        while True:
            with self._wake:
                due = self._due()
                while not due and not self._closed:
                    self._next_ns = self._heap[0][0] if self._heap else 1 << 63
                    pause_ns = self._next_ns - self._clock() + _GRAIN_NS if self._heap else None
                    self._wake.wait(None if pause_ns is None else max(pause_ns, 0) / 1e9)
                    due = self._due()
                if self._closed:
                    return
                self._next_ns = 0  # this thread looks again before it sleeps
            for ring in due:
                try:
                    ring()
                except Exception:
                    log.exception("an alarm could not be served")

    def _due(self) -> list[Callable[[], None]]:
        now_ns, due = self._clock(), []
        while self._heap and self._heap[0][0] <= now_ns:
            due.append(heapq.heappop(self._heap)[2])
        return due
