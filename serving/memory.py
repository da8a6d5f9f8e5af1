"""How the C library hands out memory, set once for a process that serves for months."""

from __future__ import annotations

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8  # malloc.h of glibc


def use_one_arena() -> bool:
    """Lets all threads allocate from one heap; to be called before there are threads. False where the C library cannot.

    glibc gives threads heaps of their own, in which what one request leaves free is of no use to the next on another
    thread: under mixed load memory grew by 2 MiB a minute, with one heap it stays flat (`benchmarks/bench_soak.py`).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return bool(mallopt(_M_ARENA_MAX, 1))
