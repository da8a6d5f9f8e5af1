"""The event loop on which an engine waits for others, vLLM and upstream providers as well as Triton servers: that of the front,
where there is one, so that an answer needs no other thread on its way; else one of its own."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

Result = TypeVar("Result")


class Home:
    """One loop for ever, chosen by `bind` or, where nobody bound it, by the first who asks for it. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """All is waited for on this loop, which somebody else runs for as long as the engine lives."""
        with self._lock:
            assert self._loop is None, "the engine waits on another loop already"
            self._loop = loop

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """It, running."""
        import asyncio  # which an engine that waits for nobody need not load

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="vireo-home", daemon=True)
                self._thread.start()
            return self._loop

    def run(self, work: Coroutine[Any, Any, Result], timeout_s: float | None = None) -> Result:
        """What `work` gives; from any thread but the loop's own. Raises what it raises, and TimeoutError after `timeout_s`, when
        `work` is cancelled."""
        import asyncio

        try:
            begun = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError:  # the loop is closed: the front is gone
            work.close()
            raise
        try:
            return begun.result(timeout_s)
        except TimeoutError:
            begun.cancel()
            raise

    def close(self) -> None:
        """Ends the loop, if it is its own."""
        with self._lock:
            if self._thread is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._thread = None
