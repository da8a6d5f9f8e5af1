"""Graphs: what a node costs, what callers feel of splits and shadows, what becomes of too many requests.

Parts, each of which can be run alone with --only:

    overhead  an empty chain of five nodes and a fan-out of eight over one node, in process and over gRPC
    shadow    splits, and a shadow of all requests, beside the model itself
    overload  up to twice the sustained rate with deadlines of 100 ms; priority classes

The server is pinned to core 0, the generator to core 1. Ratios and differences are within one round, medians over rounds.

    python -m benchmarks graphs --out .cache/bench             # some eight minutes
    python -m benchmarks graphs --only overhead --quick        # seconds
"""

import sys

from benchmarks.command import run_command
from benchmarks.parts import Parts

PARTS = Parts(
    "graphs",
    "graphs of servables: overhead of nodes, splits and shadows, overload",
    ("overhead", "shadow", "overload"),
)


if __name__ == "__main__":
    sys.exit(run_command(PARTS.run, __doc__))
