"""Language models under vLLM: what Vireo adds to `vllm serve`, and what is left of callers who leave.

Parts, each of which can be run alone with --only:

    beside   streamed chats at 1, 4 and 16 callers through Vireo and through `vllm serve` of the same version, in turns
    freed    how soon the place of an answer that was left is another's: HTTP disconnect, gRPC cancel, deadline
    leaving  a thousand callers who leave at any moment, and what is left of them

The model is SmolLM2-135M-Instruct on CPUs, eager, its threads bound to both cores (`benchmarks.workloads.generation.model`).

    python -m benchmarks.workloads.generation.install       # once: vLLM, 3 GB
    python -m benchmarks generation --out .cache/bench      # some twenty minutes
    python -m benchmarks generation --only beside --quick   # three, most of them starting servers
"""

import sys

from benchmarks.command import SkippedError, run_command
from benchmarks.options import Options
from benchmarks.parts import Parts
from benchmarks.report import Report
from benchmarks.workloads.generation.model import missing

PARTS = Parts(
    "generation",
    "language models under vLLM, beside vllm serve, and callers who leave",
    ("beside", "freed", "leaving"),
    "generation",
)


def run(options: Options) -> Report:
    """Measure and report. Raises SkippedError where what it takes is not installed."""
    if needed := missing():
        raise SkippedError(
            f"generation: not installed: {', '.join(needed)}; 'python -m benchmarks.workloads.generation.install' does that"
        )
    return PARTS.run(options)


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
