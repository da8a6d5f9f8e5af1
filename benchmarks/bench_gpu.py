"""Nearest neighbours on a GPU: time by its events, beside the floor, which is reading the rows once at the copy's bandwidth.

10M random rows x 384 (with --quick 1M), k = 10, one query and 64. Parts, each of which can be run alone with --only:

    exact      float16, checked against float64; k of 100 and 1,024
    rival      torch's matmul and topk beside it
    filtered   bitsets that 1, 10 and 50% pass
    quantised  int8, candidates scored again from float16
    callers    64 concurrent callers of one query each, beside batches of 64
    streamed   rows that stay in the host's memory

Wants a GPU of 40 GB and numpy, torch, Triton, msgspec, pyyaml, numba and pyarrow alone, so that it runs on a machine with little
else; it is skipped without a GPU. Each figure is told as it is measured, so that what ends early leaves a log. Written to take
five minutes, half of that compiling; **not yet run whole on a GPU** (see docs/evidence/gpu), but in Triton's interpreter.

    mkdir -p docs/evidence/gpu
    python -m benchmarks.bench_gpu --out docs/evidence/gpu 2>&1 | tee docs/evidence/gpu/gpu.log
    python -m benchmarks.bench_gpu --only exact,filtered --quick
"""

import sys
from importlib.util import find_spec

from benchmarks.command import SkippedError, run_command
from benchmarks.options import Options
from benchmarks.parts import Parts
from benchmarks.report import Report

PARTS = Parts(
    "gpu",
    "nearest neighbours on a GPU: exact, filtered, quantised, of many callers, from the host's memory",
    ("exact", "rival", "filtered", "quantised", "callers", "streamed"),
)


def run(options: Options) -> Report:
    """Raises SkippedError where there is no GPU."""
    if find_spec("torch") is None or find_spec("triton") is None:
        raise SkippedError("gpu: skipped, torch or triton is not installed (extra gpu-search)")
    from kernels.gpu.knn import found_gpu

    if not found_gpu():
        raise SkippedError("gpu: skipped, torch sees no GPU of compute capability 8 or more")
    return PARTS.run(options)


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
