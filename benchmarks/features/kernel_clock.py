"""Times a state's lookup kernel call by call, from compiled code: no Python between the clock and the kernel."""

import ctypes
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from kernels.hashing import hash_numbers
from kernels.lookup import lookup

CLOCK_MONOTONIC = 1
_LIBC = ctypes.CDLL(None)
_CLOCK = _LIBC.clock_gettime
_CLOCK.argtypes = (ctypes.c_int, ctypes.c_void_p)
_CLOCK.restype = ctypes.c_int


@numba.njit(nogil=True)
def _now_ns(spot: Any) -> Any:  # noqa: ANN401
    _CLOCK(CLOCK_MONOTONIC, spot.ctypes)
    return spot[0] * 1_000_000_000 + spot[1]


@numba.njit(nogil=True)
def _timed(plan, memory, reads, hashes, checks, as_of, generation, out, took, count):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    spot = np.empty(2, np.int64)
    values, newest, status = out
    done = 0
    for call in range(took.shape[0]):
        first = call * count % (hashes.shape[0] - count + 1)
        some, more = hashes[first : first + count], checks[first : first + count]
        began = _now_ns(spot)
        done += lookup(plan, memory, reads, some, more, as_of, as_of[0] - (1 << 40), generation, values, newest, status)
        took[call] = _now_ns(spot) - began
    return done


def kernel_times_us(
    state: Any,  # noqa: ANN401
    keys: npt.NDArray[np.int64],
    as_of_us: int,
    *,
    count: int,
    calls: int,
) -> npt.NDArray[np.float64]:
    """Microseconds of each of `calls` lookups of `count` entities each, `keys` in turn."""
    hashes = np.empty(len(keys), np.uint64)
    hash_numbers(keys.ctypes.data, hashes)
    reads = state._reads_of(None)
    memory, generation = state._published
    values = np.empty((count, len(state.view.features)), np.float64)
    out = values, np.empty(count, np.int64), np.empty(count, np.uint8)
    checks, as_of = np.zeros(len(hashes), np.uint32), np.array([as_of_us], np.int64)
    took = np.empty(calls, np.int64)
    for _ in range(2):  # the first pass compiles
        done = _timed(state._plan, memory.address, reads.address, hashes, checks, as_of, generation, out, took, count)
    assert done == count * calls
    return took / 1e3
