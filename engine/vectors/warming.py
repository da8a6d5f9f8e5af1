"""The kernels that collections use, compiled before a request waits for them."""

from __future__ import annotations

import logging
import threading
import time

from engine.kernel_parts import VECTOR_KERNELS, compile_kernels

log = logging.getLogger("vireo.vectors")

_once = threading.Lock()
_warm = False


def warm_kernels() -> None:
    """Compiles them, or loads what an earlier process compiled; once a process. Raises nothing but what numba does."""
    global _warm
    with _once:
        if _warm:
            return
        log.info(
            "kernels of vector collections are made ready; where none did it before they are compiled, which takes up to a minute"
        )
        began_s = time.perf_counter()
        for each in VECTOR_KERNELS:
            compile_kernels(each)
        _warm = True
    log.info("kernels of vector collections are ready after %.1f s", time.perf_counter() - began_s)
