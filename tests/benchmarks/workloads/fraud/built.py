"""What the small builds of the workload are, which all tests share."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads.fraud.application import Application
from benchmarks.workloads.fraud.decision_summary import DecisionSummary
from benchmarks.workloads.fraud.features import Matrix
from benchmarks.workloads.fraud.summary import Summary
from benchmarks.workloads.fraud.transactions import Simulation, Transactions

SIMULATION = Simulation(customers=200, terminals=400)


@dataclass(frozen=True)
class Build:
    """A finished folder and what went into it."""

    folder: Path
    summary: Summary
    transactions: Transactions
    matrix: Matrix


@dataclass(frozen=True)
class Decided:
    """The application that serves the decision."""

    application: Application
    summary: DecisionSummary
    transactions: Transactions
