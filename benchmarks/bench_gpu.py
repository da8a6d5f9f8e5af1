"""Nearest neighbours on a GPU: time by its events, beside the floor, which is reading the rows once at the copy's bandwidth.

10M random rows x 384 (with --quick 1M), k = 10, one query and 64: float16 beside torch's matmul and topk, checked against
float64; filters that keep 1, 10 and 50%; int8 with refine; 64 concurrent callers. Wants torch, Triton and a GPU with 40 GB; it is
skipped without. Written to take some five minutes; **not yet run**.
"""

import sys
from importlib.util import find_spec

from benchmarks.command import SkippedError, run_command
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.table import Table

ROWS, ROWS_QUICK = 10_000_000, 1_000_000
REPEATS, REPEATS_QUICK = 20, 5


def run(options: Options) -> Report:
    """Raises SkippedError where there is no GPU."""
    if find_spec("torch") is None or find_spec("triton") is None:
        raise SkippedError("gpu: skipped, torch or triton is not installed (extra gpu-search)")
    from kernels.gpu.knn import found_gpu

    if not found_gpu():
        raise SkippedError("gpu: skipped, torch sees no GPU of compute capability 8 or more")
    import torch

    from benchmarks.gpu.measure import SIZE, measure

    rows = ROWS_QUICK if options.quick else ROWS
    state = measure(rows, REPEATS_QUICK if options.quick else REPEATS, options.seed)
    card = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    about = f"{rows:,} rows x {SIZE} on one {card}; a copy moves {state.bytes_a_ms / 1e9:.2f} TB/s, read and written"
    table = Table(
        "milliseconds", "The floor: bytes of the rows that may be found over the copy's bandwidth.",
        ["what, queries", "ms", "floor", "times floor", "recall"], state.rows,
    )  # fmt: skip
    return Report("gpu", about, options.seed, state.judgements, [table], [], state.took, state.notes)


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
