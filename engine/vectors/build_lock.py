"""Nobody opens a collection while a process that was started to build for it still writes there.

Such a process ends with the one that started it, a moment later. Whoever opens the folder in that moment waits: else leftovers
that it removes, or numbers that it gives again, could be written to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.errors import Unavailable, quoted
from engine.log.folder import lock_file

BUILD_LOCK: Final = "build.lock"
WAIT_S_MAX: Final = 30.0
_LOOK_S: Final = 0.01


@contextmanager
def building_in(folder: Path) -> Iterator[None]:
    """Holds the lock of a collection's folder. Raises OSError; BlockingIOError where another builds there."""
    file = lock_file(folder / BUILD_LOCK)
    try:
        yield
    finally:
        os.close(file)


def wait_for_builds(folder: Path, timeout_s: float = WAIT_S_MAX) -> None:
    """Returns when nobody builds there. Raises Unavailable after `timeout_s`; OSError."""
    until = time.monotonic() + timeout_s
    while (folder / BUILD_LOCK).exists():
        try:
            with building_in(folder):
                return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise Unavailable(
                    f"collection {quoted(str(folder))}: a process that built for it has not ended within {timeout_s:g} s"
                ) from None
            time.sleep(_LOOK_S)
