"""How many entries of its log a view has not read, asked without making anybody wait for a broker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from engine.errors import VireoError
from engine.log.log import Log, Offsets


class Lag:
    """The lag of one reader. `apart`: the log's end is asked for by a thread of its own, and a moment old. Any thread."""

    def __init__(self, log: Callable[[], Log], *, apart: bool) -> None:
        self._log, self._apart = log, apart
        self._latest: Offsets = {}
        self._asking = threading.Lock()

    def rows(self, offsets: Offsets) -> int:
        """Entries between `offsets` and the log's end, as it was when it could last be asked."""
        if not self._apart:
            self._ask()
        elif self._asking.acquire(blocking=False):
            threading.Thread(target=self._ask_apart, name="vireo-lag", daemon=True).start()
        return sum(max(0, self._latest.get(part, 0) - offset) for part, offset in offsets.items())

    def _ask_apart(self) -> None:
        try:
            self._ask()
        finally:
            self._asking.release()

    def _ask(self) -> None:
        with suppress(VireoError):  # told of by whoever reads
            self._latest = self._log().latest()
