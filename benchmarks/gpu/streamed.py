"""Part `streamed`: a fifth of the rows in the host's memory, copied piece by piece while the piece before is searched."""

from functools import partial
from typing import Any

import torch

from benchmarks.features.part import Part, Setting
from benchmarks.gpu.data import nearest_in_float64
from benchmarks.gpu.measure import K, Times, found_by, measured
from benchmarks.gpu.timing import bytes_a_ms
from kernels.gpu.knn import nearest
from kernels.gpu.stream import Streamed


def run(setting: Setting) -> Part:
    """The part. No promise: it is not how a collection is searched, whose segments stay on the CPU where they do not fit."""
    here = measured(setting.quick, setting.seed)
    scale, times = here.scale, Times(here)
    halves: Any = here.corpus.halves
    some = halves.data[: scale.rows // 5]
    there = torch.device("cpu")
    floor = 2 * some.numel() / bytes_a_ms(scale.copied_bytes // 4, there.type, scale.device, scale.repeats)
    streamed = Streamed(some.to(there).numpy(), "dot", device=scale.device)
    for many in (1, scale.many):
        queries = here.queries(many)
        work = partial(nearest, streamed, queries, K)
        found = found_by(work, nearest_in_float64(some, queries, K))
        times.timed(f"float16 of the host, {many}", work, floor, found)
    table = times.table("streamed", "The floor: all of them copied to the GPU once, from pinned memory.")
    return Part([], [table], notes=here.told(), data=times.data())
