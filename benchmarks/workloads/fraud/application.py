"""The folder from which the fraud decision is served, and what is expected of it; light enough for the demo to read."""

import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.fraud_inputs import FRAUD
from benchmarks.machine import ROOT
from benchmarks.workloads.fraud.decision_summary import FILE as SUMMARY
from benchmarks.workloads.fraud.transactions import Simulation, Transactions, load_transactions

GRAPH = "fraud_decision"
DECLARED = Path(__file__).with_name("graph.yaml")
SPEC, FUNCTIONS, EXPECTED, FRAMES = "fraud.yaml", "fraud_functions.py", "expected.npz", "decision.frames"


@dataclass(frozen=True, slots=True)
class Expected:
    """The test days as the decision's own libraries see them, features by history; one row a transaction, in order.

    `number`: of the transaction, its row among all. `score` is LightGBM's, `anomaly` scikit-learn's, `probability` the
    calibrated one.
    """

    number: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    score: NDArray[np.float64]
    anomaly: NDArray[np.float64]
    probability: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Application:
    """`folder` holds the spec and all it names; `root` the transactions of `simulation`."""

    root: Path
    simulation: Simulation = field(default_factory=Simulation)

    @property
    def folder(self) -> Path:
        """Where the spec is, and below it its models."""
        return self.root / "decision"

    @property
    def spec(self) -> Path:
        """What to serve."""
        return self.folder / SPEC

    @property
    def frames(self) -> Path:
        """Requests to the graph: gRPC messages of the test days' transactions, in order."""
        return self.folder / FRAMES

    def expected(self) -> Expected:
        """What is known of the test days."""
        with np.load(self.folder / EXPECTED) as stored:
            return Expected(**stored)

    def transactions(self) -> Transactions:
        """All of them, the past and the test days."""
        return load_transactions(self.simulation, self.root)


def write_expected(expected: Expected, folder: Path) -> None:
    """Write it into `folder`."""
    columns = {each.name: getattr(expected, each.name) for each in fields(expected)}
    np.savez_compressed(folder / EXPECTED, allow_pickle=False, **columns)


def is_built(application: Application) -> bool:
    """Whether it is there, and of the spec as it is today."""
    there = (application.folder / SUMMARY).exists() and application.spec.exists()
    return there and application.spec.read_bytes() == DECLARED.read_bytes()


def decision_application(root: Path = FRAUD) -> Application:
    """The application under `root`, built now if it is missing or of another spec (a minute or two, once)."""
    application = Application(root)
    if not is_built(application):
        command = [sys.executable, "-m", "benchmarks.workloads.fraud", "--out", str(root), "--decision-only"]
        subprocess.run(command, cwd=ROOT, check=True)
    return application
