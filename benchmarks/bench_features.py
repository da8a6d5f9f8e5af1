"""Streaming features: events in, windows out, beside the systems that people use for it.

Parts, each of which can be run alone with --only:

    ingest      events from memory into windows on one core, beside polars and DuckDB
    memory      bytes a hot and an idle entity takes
    log         through the local log, fsync before every acknowledgement
    reads       1 entity x 20 features and 100 x 50 in process, beside Feast's SDK on sqlite and on Redis
    wire        the same over gRPC beside an empty call to the same server
    freshness   acknowledged to visible, local log and Kafka
    contention  reads while events are folded at half of the peak; no torn read of a hot key
    kafka       a full topic end to end, JSON and Arrow, beside Quix Streams on the same broker
    crash       kill -9 at random points, with torn and short writes
    restart     a million entities, from kill -9 to the first read
    fraud       what windows and delayed labels, as feature views, are worth to the fraud model

Each part runs ours and its rivals in processes of their own, pinned: what is measured to core 0, whatever feeds it to core
1. Rates are by CPU time where one core does all the work, since machines are shared; ratios are within one run.

    python -m benchmarks.peers.environments install                    # once: the rivals; those missing are left out
    python -m benchmarks features --out .cache/bench                   # some forty minutes
    python -m benchmarks features --only ingest,reads --quick          # a minute or two
"""

import sys
import traceback
from collections.abc import Callable
from importlib import import_module

from benchmarks.command import SkippedError, run_command
from benchmarks.features.part import Part, Setting, kept
from benchmarks.options import Options
from benchmarks.report import Report

PARTS = (
    "ingest", "memory", "log", "reads", "wire", "freshness", "contention", "kafka", "crash", "restart", "fraud",
)  # fmt: skip
CACHE = "features-data"
"""Below the folder of the fraud inputs' parent: event files, some gigabytes, that later runs take again."""

Run = Callable[[Setting], Part]


def run(options: Options) -> Report:
    """Measure and report. Raises SkippedError for parts that there are none of."""
    if unknown := set(options.only) - set(PARTS):
        raise SkippedError(f"features has no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    setting = Setting(options.out, options.inputs.parent / CACHE, options.inputs, options.quick, options.seed)
    found = {name: run_part(name, setting) for name in options.only or PARTS}
    return report_of(options, found)


def run_part(name: str, setting: Setting) -> Part:
    """One part; what broke down is told in its place, and the others go on."""
    part: Run = import_module(f"benchmarks.features.{name}").run
    try:
        return part(setting)
    except Exception as error:  # whatever it was, the other parts go on
        traceback.print_exc()
        return Part([kept(f"{name}: runs to its end", False, f"it broke down: {last_line(error)}")])


def last_line(error: Exception) -> str:
    """Where Python says what it was."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def report_of(options: Options, found: dict[str, Part]) -> Report:
    """All parts in one report. Pure but for the machine's description."""
    parts = found.values()
    return Report(
        name="features",
        about="streaming features: ingest, reads, freshness, memory, crashes, and what they are worth",
        seed=options.seed,
        judgements=[judgement for each in parts for judgement in each.judgements],
        tables=[table for each in parts for table in each.tables],
        figures=[figure for each in parts for figure in each.figures],
        data={name: each.data for name, each in found.items()},
        notes=[note for each in parts for note in each.notes],
    )


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
