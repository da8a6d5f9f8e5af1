"""How memory is handed out: proved in a process of its own, since it cannot be taken back."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, threading
from serving.memory import use_one_arena

print(use_one_arena())
blocks, libc = [], ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def take():
    blocks.extend(libc.malloc(ctypes.c_size_t(20_000)) for _ in range(50))

threads = [threading.Thread(target=take) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fopen.restype = ctypes.c_void_p
libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
libc.malloc_info(0, libc.fopen(b"/dev/stdout", b"w"))
libc.fflush(None)
"""


def test_threads_share_one_heap() -> None:
    shown = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    if shown.startswith("False"):
        return  # another C library
    assert shown.startswith("True")
    assert shown.count("<heap nr=") == 1
