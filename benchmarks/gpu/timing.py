"""Time on a GPU, by its own events."""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch

WARM_UPS = 3


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    """The median of `repeats` runs after WARM_UPS, from the first launch to the end of the last, waiting of the host included."""
    for _ in range(WARM_UPS):
        work()
    taken: list[float] = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        taken.append(begin.elapsed_time(end))
    return median(taken)


def copy_bytes_a_ms(repeats: int = 20) -> float:
    """Bytes that a copy of 2 GiB within the device's memory moves in a millisecond, read and written."""
    source = torch.empty(1 << 31, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    took = milliseconds(lambda: target.copy_(source), repeats)
    return float(2 * source.numel() / took)
