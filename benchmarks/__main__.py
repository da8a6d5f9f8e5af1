"""Run the benchmarks: `python -m benchmarks [NAME] [--quick]`, all of fraud, overhead, swap, wire, cores and graphs unless named.

`make bench` runs all.
Each writes NAME.json and NAME.html into --out and prints its tables. Exit code 1 when a promise is broken. `soak` takes
20 minutes, `features` and `vectors` forty each; they are not part of `all`, nor are `batch` and
`recommendation`, which wants trained models, `generation`, which wants vLLM, `triton` and `shared-memory`, which want a Triton,
and `ray`.
"""

import argparse
import sys

from benchmarks import (
    bench_batch,
    bench_cores,
    bench_features,
    bench_fraud,
    bench_generation,
    bench_gpu,
    bench_graphs,
    bench_overhead,
    bench_ray,
    bench_recommendation,
    bench_shared_memory,
    bench_soak,
    bench_swap,
    bench_triton,
    bench_vectors,
    bench_wire,
)
from benchmarks.command import Run, keeps_promises
from benchmarks.options import add_options, options_of

BENCHMARKS: dict[str, Run] = {
    "fraud": bench_fraud.run,
    "overhead": bench_overhead.run,
    "swap": bench_swap.run,
    "wire": bench_wire.run,
    "cores": bench_cores.run,
    "graphs": bench_graphs.PARTS.run,
}
APART: dict[str, Run] = {
    "features": bench_features.PARTS.run,
    "vectors": bench_vectors.PARTS.run,
    "soak": bench_soak.run,
    "batch": bench_batch.run,
    "triton": bench_triton.run,
    "shared-memory": bench_shared_memory.run,
    "gpu": bench_gpu.run,
    "ray": bench_ray.run,
    "recommendation": bench_recommendation.run,
    "generation": bench_generation.run,
}
"""Run only where they are named."""


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", nargs="?", default="all", choices=[*BENCHMARKS, "all", *APART])
    add_options(parser)
    given = parser.parse_args(arguments)
    options = options_of(given)
    names = list(BENCHMARKS) if given.which == "all" else [given.which]
    runs = {**BENCHMARKS, **APART}
    broken = [name for name in names if not keeps_promises(runs[name], options)]
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
