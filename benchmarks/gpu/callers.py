"""Threads that ask one query each, again and again, of the index that a collection's segment has on a GPU."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engine import GpuIndex, KernelDevice
from kernels.gpu.device import KnnDevice
from kernels.gpu.rows import DeviceRows


def rates(rows: DeviceRows, queries: Any, k: int, calls: int) -> tuple[float, float]:  # noqa: ANN401
    """Queries a second of `calls` calls of all `queries` together, and of as many threads that make `calls` of one each."""
    asked = queries.cpu().numpy()
    index = GpuIndex(KernelDevice(KnnDevice(rows)), len(rows), "the benchmark's rows", lambda: None)
    try:
        index.search(asked, k)
        begin = time.perf_counter()
        for _ in range(calls):
            index.search(asked, k)
        together = len(asked) * calls / (time.perf_counter() - begin)

        def call(row: int) -> None:
            for _ in range(calls):
                index.search(asked[row : row + 1], k)

        with ThreadPoolExecutor(len(asked)) as pool:
            list(pool.map(call, range(len(asked))))  # every size of batch is compiled, every thread is there
            begin = time.perf_counter()
            list(pool.map(call, range(len(asked))))
            return together, len(asked) * calls / (time.perf_counter() - begin)
    finally:
        index.close()
