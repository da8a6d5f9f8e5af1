"""The simulated transactions: ordered, the same for the same seed, and stored."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from benchmarks.workloads.fraud import transactions as module
from benchmarks.workloads.fraud.transactions import Simulation, Transactions, load_transactions
from tests.benchmarks.workloads.fraud.built import SIMULATION, Build

TINY = Simulation(customers=20, terminals=40, days=5, seed=1)


def same(one: Transactions, other: Transactions) -> bool:
    return all(np.array_equal(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))


def test_transactions_are_in_time_order_and_some_are_frauds(build: Build) -> None:
    assert (np.diff(build.transactions.time_s) >= 0).all()
    assert build.transactions.time_s.min() >= 0
    assert set(build.transactions.day.tolist()) == set(range(SIMULATION.days))
    assert 0.01 < build.transactions.fraud.mean() < 0.5


def test_same_seed_gives_the_same_transactions_and_another_seed_others(tmp_path: Path) -> None:
    first = load_transactions(TINY, tmp_path / "first")
    assert same(first, load_transactions(TINY, tmp_path / "second"))
    other = Simulation(TINY.customers, TINY.terminals, TINY.days, seed=2)
    assert not same(first, load_transactions(other, tmp_path / "first"))


def test_stored_transactions_are_not_simulated_again(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_simulation", lambda simulation: pytest.fail("simulated again"))
    assert same(load_transactions(SIMULATION, build.folder), build.transactions)
