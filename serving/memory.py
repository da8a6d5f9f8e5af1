"""How the C library hands out memory, set once for a process that serves for months."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
_MMAP_BYTES: Final = 8 << 20
"""What is larger is mapped for itself and given back at once."""

_TRIM_BYTES: Final = 16 << 20
"""So much may stay free at the heap's end for whoever comes next."""


def use_one_arena() -> bool:
    """Lets all threads allocate from one heap; to be called before there are threads. False where the C library cannot.

    glibc gives threads heaps of their own, in which what one request leaves free is of no use to the next on another
    thread: under mixed load memory grew by 2.2 MiB a minute, with one heap by 0.4 (`benchmarks/bench_soak.py`).
    Left to itself it also gives the memory of a tensor back to the kernel after each request: 4 MiB in and out cost 5.9 ms
    of CPU, most of it page faults, and 2.5 ms with the bounds above, for some 10 MiB that stay.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _MMAP_BYTES), (_M_TRIM_THRESHOLD, _TRIM_BYTES))
    return all(mallopt(*each) for each in wanted)
