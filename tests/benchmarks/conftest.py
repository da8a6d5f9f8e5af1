"""One small build of the fraud workload for all tests of benchmarks."""

import shutil
from pathlib import Path

import pytest

from benchmarks.workloads.fraud.application import Application
from benchmarks.workloads.fraud.artifacts import make_artifacts
from benchmarks.workloads.fraud.decision_build import make_decision
from benchmarks.workloads.fraud.features import feature_matrix
from benchmarks.workloads.fraud.transactions import load_transactions
from tests.benchmarks.workloads.fraud.built import SIMULATION, Build, Decided


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of transactions."""
    folder = tmp_path_factory.mktemp("simulated")
    load_transactions(SIMULATION, folder)
    return folder / SIMULATION.name


@pytest.fixture(scope="session")
def build(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("fraud")
    shutil.copy(simulated, folder)
    summary = make_artifacts(folder, SIMULATION, say=lambda line: None)
    transactions = load_transactions(SIMULATION, folder)
    return Build(folder, summary, transactions, feature_matrix(transactions))


@pytest.fixture(scope="session")
def decided(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Decided:
    root = tmp_path_factory.mktemp("decision")
    shutil.copy(simulated, root)
    transactions = load_transactions(SIMULATION, root)
    summary = make_decision(root / "decision", transactions, SIMULATION.seed)
    return Decided(Application(root, SIMULATION), summary, transactions)
