"""Where tests have their files: in memory where there is room, as most of them wait for nothing else than a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES_MIN: Final = 4 << 30


def pytest_configure() -> None:
    """Also for the processes that tests start. TMPDIR, where it is set, is where they are."""
    if (
        "TMPDIR" not in os.environ
        and os.access(_MEMORY, os.W_OK)
        and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES_MIN
    ):
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)
