"""Vector collections: speed beside recall, live, filtered, hybrid, durable, beside bare FAISS, other libraries and databases.

Parts, each of which can be run alone with --only:

    inprocess  117,659 text embeddings of which a fifth was touched: bare FAISS, hnswlib, usearch, zvec
    million    1,000,000 clustered vectors: bare FAISS with inverted lists
    filtered   0.1 to 90% of the points pass, with and against the query's place: bare FAISS, zvec, qdrant-edge
    load       bulk load until all is indexed; single durable upserts: Redis Stack, milvus-lite
    hybrid     labelled WordNet: vectors, words, both fused
    during     searches while a merge runs and 500 upserts a second arrive, beside quiet
    restart    117,659 points, from the start of a process to its first answer
    wire       over gRPC, beside Redis Stack

What is measured is pinned to core 0, whatever asks over the wire to core 1. Queries a second are of CPU on one core, since
machines are shared; ratios are within one run, beside FAISS within one process.

    python -m benchmarks.peers.environments install hnswlib usearch zvec qdrant milvus redis-stack    # once
    python -m benchmarks vectors --out .cache/bench                     # some forty minutes, and more the first time
    python -m benchmarks vectors --only inprocess,hybrid --quick        # a minute
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

PARTS = ("inprocess", "million", "filtered", "load", "hybrid", "during", "restart", "wire")
CACHE = "vectors-data"
Run = Callable[[Setting], Part]


def run(options: Options) -> Report:
    """Measure and report. Raises SkippedError for parts that there are none of."""
    if unknown := set(options.only) - set(PARTS):
        raise SkippedError(f"vectors has no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    setting = Setting(options.out, options.inputs.parent / CACHE, options.inputs, options.quick, options.seed)
    found = {name: run_part(name, setting) for name in options.only or PARTS}
    parts = found.values()
    return Report(
        name="vectors",
        about="vector collections: speed beside recall, filters, hybrid search, writes, restarts",
        seed=options.seed,
        judgements=[judgement for each in parts for judgement in each.judgements],
        tables=[table for each in parts for table in each.tables],
        figures=[figure for each in parts for figure in each.figures],
        data={name: each.data for name, each in found.items()},
        notes=[note for each in parts for note in each.notes],
    )


def run_part(name: str, setting: Setting) -> Part:
    """One part; what broke down is told in its place, and the others go on."""
    try:
        part: Run = import_module(f"benchmarks.vectors.{name}").run
        return part(setting)
    except Exception as error:  # whatever it was, the other parts go on
        traceback.print_exc()
        return Part([kept(f"{name}: runs to its end", False, f"it broke down: {last_line(error)}")])


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
