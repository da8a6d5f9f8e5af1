"""Part `fraud`: what windows, and labels as they become known, are worth to the fraud model, computed by feature views."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.features.part import Part, Setting, kept, say
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table
from benchmarks.workloads.fraud.features import raw_columns
from benchmarks.workloads.fraud.model import PERIODS, predict, quality, train
from benchmarks.workloads.fraud.summary import Quality
from benchmarks.workloads.fraud.transactions import SEED, Simulation, Transactions, load_transactions
from benchmarks.workloads.fraud.view_features import DELAYED_LABELS, WINDOWS, view_columns

RAW = ("amount", "card_present", "hour_of_day", "day_of_week")
"""The four fields that the bar was measured with."""

RAW_ONLY, WITH_WINDOWS, WITH_LABELS = "raw fields", "+ windows", "+ delayed-label windows"
AUC_LEAD_MIN, AP_LEAD_MIN = 0.931 - 0.698, 0.838 - 0.390
COLUMNS = ["model sees", "features", "AUC", "average precision"]
Columns = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model over these columns, on days it was not trained on."""

    name: str
    columns: list[str]
    quality: Quality


def run(setting: Setting) -> Part:
    """Train three models and conclude. The data are the same in a quick run: half a minute to simulate, once."""
    say("fraud: features by views, three models")
    transactions = load_transactions(Simulation(seed=SEED), setting.inputs)
    found = [measure(name, transactions, columns) for name, columns in columns_of(transactions).items()]
    rows: list[list[Cell]] = [
        [each.name, len(each.columns), each.quality.auc, each.quality.average_precision] for each in found
    ]
    period = PERIODS[1]
    about = (
        f"{len(transactions):,} simulated transactions; trained on days {period.train_first} to {period.train_last}, tested "
        f"from day {period.test_first}. Windows are feature views (graph.yaml) asked at the instant of each transaction."
    )
    return Part([judgement_of(found)], [Table("Fraud model", about, COLUMNS, rows)], data=found)


def columns_of(transactions: Transactions) -> dict[str, Columns]:
    """What each of the three models sees."""
    raw = {name: column for name, column in raw_columns(transactions).items() if name in RAW}
    windows = {**raw, **view_columns(transactions, WINDOWS)}
    return {
        RAW_ONLY: raw,
        WITH_WINDOWS: windows,
        WITH_LABELS: {**windows, **view_columns(transactions, DELAYED_LABELS)},
    }


def measure(name: str, transactions: Transactions, columns: Columns) -> Measured:
    """Train on the first period and judge."""
    matrix = np.ascontiguousarray(np.stack(list(columns.values()), axis=1), dtype=np.float32)
    period = PERIODS[1]
    trained, tested = period.train(transactions.day), period.test(transactions.day)
    booster = train(matrix[trained], transactions.fraud[trained], SEED, names=columns)
    return Measured(name, list(columns), quality(transactions.fraud[tested], predict(booster, matrix[tested])))


def judgement_of(found: list[Measured]) -> Judgement:
    """The last beside the first."""
    first, last = found[0].quality, found[-1].quality
    auc, precision = last.auc - first.auc, last.average_precision - first.average_precision
    promise = f"fraud: delayed labels and windows lead raw fields by {AUC_LEAD_MIN:.3f} AUC and {AP_LEAD_MIN:.3f} AP"
    said = f"by {auc:.3f} AUC ({first.auc:.3f} to {last.auc:.3f}) and {precision:.3f} AP"
    return kept(
        promise,
        auc >= AUC_LEAD_MIN and precision >= AP_LEAD_MIN,
        f"{said} ({first.average_precision:.3f} to {last.average_precision:.3f})",
    )
