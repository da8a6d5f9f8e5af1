"""Part `callers`: threads that ask one query each, again and again, of the index that a collection's segment has on a GPU."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.features.part import Part, Setting, kept
from benchmarks.gpu.measure import K, measured, say
from engine import GpuIndex, KernelDevice
from kernels.gpu.device import KnnDevice
from kernels.gpu.rows import DeviceRows

RATE = 0.8


def run(setting: Setting) -> Part:
    """The part."""
    here = measured(setting.quick, setting.seed)
    many = here.scale.many
    together, apart = rates(here.corpus.halves, here.corpus.queries, K, here.scale.calls)
    told = f"queries a second: {together:,.0f} in batches of {many}, {apart:,.0f} of {many} callers of one each"
    say(told)
    promise = f"{many} callers of one query reach {RATE} of the batch's rate"
    judged = kept(promise, apart >= RATE * together, f"{apart / together:.2f}")
    return Part([judged], notes=[*here.told(), told], data={"together_per_s": together, "apart_per_s": apart})


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
