"""Page-locked memory of this machine, from which a GPU copies by itself: what is not, the driver first copies to where it is.

From CUDA's driver, which a process has loaded that runs anything on a GPU: ONNX Runtime's Python has no name for such memory. See
https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__MEM.html, `cuMemHostAlloc`.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import Any, Final

import numpy as np

from engine.tensor import Array

DRIVER: Final = "libcuda.so.1"
_PORTABLE: Final = 1
"""Page-locked for every context of the process."""


def pinned_zeros(shape: tuple[int, ...], dtype: np.dtype[np.generic], driver: str = DRIVER) -> Array | None:
    """Zeros of `shape` in page-locked memory, which goes back when nobody holds the array or a view of it; None where there is
    none to be had: no driver, no room, no bytes asked for, or no device that this thread has worked with before."""
    size = math.prod(shape) * dtype.itemsize
    try:
        cuda = ctypes.CDLL(driver)
        place, context = ctypes.c_void_p(), ctypes.c_void_p()
        if size == 0 or cuda.cuCtxGetCurrent(ctypes.byref(context)) or not context:
            return None
        if cuda.cuMemHostAlloc(ctypes.byref(place), ctypes.c_size_t(size), _PORTABLE) or not place.value:
            return None
    except (OSError, AttributeError):
        return None
    buffer = (ctypes.c_char * size).from_address(place.value)
    weakref.finalize(buffer, _free, cuda, place, context).atexit = False  # the driver may be gone before this is
    array: Array = np.ndarray(shape, dtype, memoryview(buffer))
    array[...] = 0
    return array


def _free(cuda: Any, place: ctypes.c_void_p, context: ctypes.c_void_p) -> None:  # noqa: ANN401  the driver's functions
    """On whichever thread let go of it last."""
    if cuda.cuCtxPushCurrent_v2(context) == 0:
        cuda.cuMemFreeHost(place)
        cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
