"""One small build of the workload for all tests here."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.workloads.fraud.artifacts import make_artifacts
from benchmarks.workloads.fraud.features import Matrix, feature_matrix
from benchmarks.workloads.fraud.summary import Summary
from benchmarks.workloads.fraud.transactions import Simulation, Transactions, load_transactions

SIMULATION = Simulation(customers=200, terminals=400)


@dataclass(frozen=True)
class Build:
    """A finished folder and what went into it."""

    folder: Path
    summary: Summary
    transactions: Transactions
    matrix: Matrix


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("fraud")
    summary = make_artifacts(folder, SIMULATION, say=lambda line: None)
    transactions = load_transactions(SIMULATION, folder)
    return Build(folder, summary, transactions, feature_matrix(transactions))
