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
import traceback
from collections.abc import Callable
from importlib import import_module

from benchmarks.bench_features import last_line
from benchmarks.command import SkippedError, run_command
from benchmarks.features.part import Part, Setting, kept
from benchmarks.options import Options
from benchmarks.report import Report

PARTS = ("overhead", "shadow", "overload")
Run = Callable[[Setting], Part]


def run(options: Options) -> Report:
    """Measure and report. Raises SkippedError for parts that there are none of."""
    if unknown := set(options.only) - set(PARTS):
        raise SkippedError(f"graphs has no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    setting = Setting(options.out, options.inputs.parent, options.inputs, options.quick, options.seed)
    found = {name: run_part(name, setting) for name in options.only or PARTS}
    parts = found.values()
    return Report(
        name="graphs",
        about="graphs of servables: overhead of nodes, splits and shadows, overload",
        seed=options.seed,
        judgements=[judgement for each in parts for judgement in each.judgements],
        tables=[table for each in parts for table in each.tables],
        figures=[figure for each in parts for figure in each.figures],
        data={name: each.data for name, each in found.items()},
        notes=[note for each in parts for note in each.notes],
    )


def run_part(name: str, setting: Setting) -> Part:
    """One part; what broke down is told in its place, and the others go on."""
    part: Run = import_module(f"benchmarks.graphs.{name}").run
    try:
        return part(setting)
    except Exception as error:  # whatever it was, the other parts go on
        traceback.print_exc()
        return Part([kept(f"{name}: runs to its end", False, f"it broke down: {last_line(error)}")])


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
