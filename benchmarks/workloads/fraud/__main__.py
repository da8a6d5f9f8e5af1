"""Build the fraud workload: `python -m benchmarks.workloads.fraud --out DIR [--seed N]`.

DIR gets a model repository (models/fraud/1 and 2), requests.frames, sample.npz, summary.json and the transactions; and
decision/, the application that serves the whole decision: `vireo serve DIR/decision/fraud.yaml`.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.table import as_text
from benchmarks.workloads.fraud.artifacts import make_artifacts
from benchmarks.workloads.fraud.decision_build import make_decision
from benchmarks.workloads.fraud.decision_summary import decision_tables
from benchmarks.workloads.fraud.summary import quality_table
from benchmarks.workloads.fraud.transactions import SEED, Simulation, load_transactions


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workloads.fraud",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything goes")
    parser.add_argument("--seed", type=int, default=SEED, help="of simulation, training and drawing")
    parser.add_argument("--decision-only", action="store_true", help="nothing but decision/ and what it needs")
    given = parser.parse_args(arguments)
    began_s = time.monotonic()
    simulation, tables = Simulation(seed=given.seed), []
    if not given.decision_only:
        tables.append(quality_table(make_artifacts(given.out, simulation)))
    print(f"transactions of {simulation.customers:,} customers (simulating them takes half a minute, once)", flush=True)
    transactions = load_transactions(simulation, given.out)
    print("the decision: features by history, trees, isolation forest, calibration", flush=True)
    tables += decision_tables(make_decision(given.out / "decision", transactions, given.seed))
    for table in tables:
        print(f"\n{as_text(table)}", end="")
    print(f"\n{given.out} is complete after {time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
