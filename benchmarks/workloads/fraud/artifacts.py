"""Everything the workload leaves in a folder, made in order. The frames come last: who finds them finds the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.fraud_inputs import FraudInputs
from benchmarks.workloads.fraud.export import PARITY_BOUND, check_parity, max_difference, to_onnx
from benchmarks.workloads.fraud.features import FEATURES, Matrix, feature_matrix
from benchmarks.workloads.fraud.model import PERIODS, Period, baseline_scores, check_quality, predict, quality, train
from benchmarks.workloads.fraud.requests import request_frames
from benchmarks.workloads.fraud.sample import Sample, pick_rows, write_sample
from benchmarks.workloads.fraud.summary import Parity, Quality, Summary, VersionSummary, write_summary
from benchmarks.workloads.fraud.transactions import Simulation, Transactions, load_transactions

REQUESTS = 1024
SAMPLE_ROWS = 200


@dataclass(frozen=True, slots=True)
class Data:
    """Transactions and the feature matrix over them."""

    transactions: Transactions
    matrix: Matrix

    def quality(self, booster: lightgbm.Booster, rows: NDArray[np.int64]) -> Quality:
        """How well a model ranks these rows."""
        return quality(self.transactions.fraud[rows], predict(booster, self.matrix[rows]))


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the model: LightGBM's form, the exported one, and what is known of them."""

    booster: lightgbm.Booster
    model: onnx.ModelProto
    summary: VersionSummary


def make_artifacts(out: Path, simulation: Simulation, *, say: Callable[[str], None] = print) -> Summary:
    """Build all into `out`; the summary, which is among it. Transactions found there are used again.

    Raises QualityError or ParityError, and leaves no frames, when a model is not what it should be.
    """
    files = FraudInputs(out / "models", out / "requests.frames")
    files.frames.unlink(missing_ok=True)
    say(f"transactions of {simulation.customers:,} customers (simulating them takes half a minute, once)")
    transactions = load_transactions(simulation, out)
    say(f"{len(FEATURES)} features of {len(transactions):,} transactions")
    data = Data(transactions, feature_matrix(transactions))
    versions = {}
    for number, period in PERIODS.items():
        say(f"model version {number}: days {period.train_first} to {period.train_last}")
        versions[number] = make_version(data, period, simulation.seed)
        write_model(versions[number].model, files.model_file(number))
    summary = summarise(data, versions, simulation.seed)
    write_sample(sample_of(data, versions, simulation.seed), out)
    write_summary(summary, out)
    write_frames(data, files.frames, simulation.seed)
    return summary


def make_version(data: Data, period: Period, seed: int) -> Version:
    """Train, judge and export one version."""
    transactions, matrix = data.transactions, data.matrix
    trained, tested = period.train(transactions.day), period.test(transactions.day)
    labels = transactions.fraud
    booster = train(matrix[trained], labels[trained], seed)
    plain = baseline_scores(matrix[trained], labels[trained], matrix[tested])
    summary = VersionSummary(
        train_days=(period.train_first, period.train_last),
        test_days=(period.test_first, int(transactions.day.max())),
        train_rows=len(trained),
        test_rows=len(tested),
        quality=data.quality(booster, tested),
        baselines={name: quality(labels[tested], scores) for name, scores in plain.items()},
        parity=parity_of(booster, matrix[tested]),
    )
    check_quality(summary.quality, summary.baselines)
    check_parity(summary.parity.max_difference)
    return Version(booster, exported(booster, summary), summary)


def parity_of(booster: lightgbm.Booster, matrix: Matrix) -> Parity:
    """How near the exported model comes, with thresholds rounded down and without."""
    scores = predict(booster, matrix)
    rounded, unrounded = (max_difference(to_onnx(booster, rounded=each), matrix, scores) for each in (True, False))
    return Parity(rounded, PARITY_BOUND, unrounded)


def exported(booster: lightgbm.Booster, summary: VersionSummary) -> onnx.ModelProto:
    """The file to serve; its notes say where it comes from and what its columns are."""
    first, last = summary.train_days
    found = f"AUC {summary.quality.auc:.3f}, average precision {summary.quality.average_precision:.3f}"
    notes = {"trained_on": f"days {first} to {last}", "tested": found, "features": ",".join(FEATURES)}
    return to_onnx(booster, notes=notes)


def summarise(data: Data, versions: dict[int, Version], seed: int) -> Summary:
    """What there is to know about the build."""
    shared = shared_rows(data)
    return Summary(
        seed=seed,
        transactions=len(data.transactions),
        frauds=int(data.transactions.fraud.sum()),
        features=list(FEATURES),
        requests=REQUESTS,
        sample_rows=SAMPLE_ROWS,
        versions={str(number): version.summary for number, version in versions.items()},
        shared_test_days=(shared_first_day(), int(data.transactions.day.max())),
        shared_quality={str(number): data.quality(version.booster, shared) for number, version in versions.items()},
    )


def shared_first_day() -> int:
    """The first day that every version may be tested on."""
    return max(period.test_first for period in PERIODS.values())


def shared_rows(data: Data) -> NDArray[np.int64]:
    """The rows of the days that no version was trained on."""
    return np.flatnonzero(data.transactions.day >= shared_first_day())


def sample_of(data: Data, versions: dict[int, Version], seed: int) -> Sample:
    """Rows that no version was trained on."""
    transactions, shared = data.transactions, shared_rows(data)
    rows = pick_rows(shared, transactions.fraud[shared], SAMPLE_ROWS, seed)
    return Sample(
        rows=data.matrix[rows],
        amounts=transactions.amount_cents[rows] / 100,
        labels=transactions.fraud[rows],
        versions=np.array(list(versions), np.int64),
        scores=np.stack([predict(version.booster, data.matrix[rows]) for version in versions.values()], axis=1),
    )


def write_model(model: onnx.ModelProto, file: Path) -> None:
    """Write a model into its place in the repository."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.SerializeToString(deterministic=True))


def write_frames(data: Data, file: Path, seed: int) -> None:
    """Write the requests, whole or not at all."""
    unfinished = file.with_suffix(".tmp")
    unfinished.write_bytes(request_frames(data.matrix, shared_rows(data), count=REQUESTS, seed=seed))
    unfinished.replace(file)
