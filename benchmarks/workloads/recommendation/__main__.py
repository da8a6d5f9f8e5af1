"""Build the recommendation workload: `python -m benchmarks.workloads.recommendation --out DIR`. Needs the extra `train`.

DIR gets the spec and functions of the graph with its models, catalogue.npz and summary.json; the table beside plain baselines is
printed, and whether the graph serves what the offline pipeline lists. MovieLens 100k is fetched into --cache where it is not.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.table import as_text
from benchmarks.workloads.recommendation.application import Application
from benchmarks.workloads.recommendation.artifacts import SEED, make_artifacts
from benchmarks.workloads.recommendation.judged import cases_of
from benchmarks.workloads.recommendation.movielens import movielens
from benchmarks.workloads.recommendation.served import agreement
from benchmarks.workloads.recommendation.split import cold_queries, queries, split_by_time
from benchmarks.workloads.recommendation.summary import quality_table

CACHE = ROOT / ".cache" / "recommendation"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workloads.recommendation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=CACHE, metavar="DIR", help=f"where everything goes ({CACHE})")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="where the data set is kept")
    parser.add_argument("--seed", type=int, default=SEED, help="of learning and drawing")
    given = parser.parse_args(arguments)
    began_s = time.monotonic()
    dataset = movielens(given.cache)
    summary = make_artifacts(given.out, dataset, seed=given.seed, say=partial(print, flush=True))
    Application(given.out).write()
    print(f"\n{as_text(quality_table(summary))}", end="")
    split = split_by_time(dataset.interactions)
    asked = [*queries(split.before_test, split.test), *cold_queries(split.before_test, split.test)]
    found = agreement(given.out, dataset, cases_of(dataset, asked))
    print(
        f"\nThe graph serves {found.lists - found.other} of {found.lists} lists as offline, scores within "
        f"{found.score_difference:.1g}: NDCG@20 {found.served_ndcg:.6f}, offline {found.offline_ndcg:.6f}"
    )
    worst = max(summary.parity.values())
    print(f"\nONNX is within {worst:.1g} of torch; {given.out} is complete after {time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
