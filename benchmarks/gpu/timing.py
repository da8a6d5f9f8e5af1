"""Time on a GPU, by its own events."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

WARM_UPS = 3


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    """The median of `repeats` runs after WARM_UPS, from the first launch to the end of the last, waiting of the host included.
    Where there is no GPU, which is for tests, by the host's clock."""
    once = _by_events if torch.cuda.is_available() else _by_clock
    for _ in range(WARM_UPS):
        work()
    return median(once(work) for _ in range(repeats))


def _by_events(work: Callable[[], Any]) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end))


def _by_clock(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def bytes_a_ms(size: int, source: str, target: str, repeats: int) -> float:
    """Bytes that a copy of `size` bytes from one device's memory into another's moves in a millisecond: within one both those
    read and those written count, the host's memory is pinned."""
    pinned = source != target
    given = torch.ones(size, dtype=torch.uint8, device=source, pin_memory=pinned)
    taken = torch.empty(size, dtype=torch.uint8, device=target)
    took = milliseconds(lambda: taken.copy_(given, non_blocking=True), repeats)
    return (1 if pinned else 2) * size / took
