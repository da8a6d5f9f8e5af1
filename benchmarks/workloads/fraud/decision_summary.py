"""What building the decision found out, as one JSON file and as tables; light enough for the demo to read."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.table import Cell, Table
from benchmarks.workloads.fraud.summary import Quality
from engine import decodable

FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the decision does on the test days, at the thresholds of the spec.

    Shares are of all transactions; `alert_precision`: frauds among alerts; `alert_recall`: alerts among frauds.
    """

    review_share: float
    alert_share: float
    alert_precision: float
    alert_recall: float


@dataclass(frozen=True, slots=True)
class DecisionSummary:
    """Days count from the first of the simulation, the last one is included. `quality` by what the model sees, in order.

    `calibration_error` by score: how far it is from the frequency of fraud. `parity` by model: the largest distance of the
    exported model from its library's own scores over the test days.
    """

    train_days: tuple[int, int]
    calibration_days: tuple[int, int]
    test_days: tuple[int, int]
    test_rows: int
    columns: list[str]
    quality: dict[str, Quality]
    calibration_error: dict[str, float]
    outcome: Outcome
    parity: dict[str, float]


def write_decision_summary(summary: DecisionSummary, folder: Path) -> None:
    """Write the summary into `folder`."""
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")


def read_decision_summary(folder: Path) -> DecisionSummary:
    """The summary in `folder`. Raises msgspec.ValidationError when it is not one of ours."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=decodable(DecisionSummary))


def decision_tables(summary: DecisionSummary) -> list[Table]:
    """How well it ranks, and what it decides."""
    days = "{}-{}".format(*summary.test_days)
    about = (
        f"Trained on days {summary.train_days[0]} to {summary.train_days[1]}, calibrated on {summary.calibration_days[0]} to "
        f"{summary.calibration_days[1]}, tested on {summary.test_rows:,} transactions of days {days}, "
        f"{len(summary.columns)} columns."
    )
    ranked: list[list[Cell]] = [[name, each.auc, each.average_precision] for name, each in summary.quality.items()]
    outcome = summary.outcome
    said: list[list[Cell]] = [
        ["sent to review or declined", f"{outcome.review_share:.1%} of transactions"],
        ["alerts", f"{outcome.alert_share:.1%} of transactions"],
        ["frauds among alerts", f"{outcome.alert_precision:.1%}"],
        ["alerts among frauds", f"{outcome.alert_recall:.1%}"],
    ]
    said += [[f"calibration error, {name}", f"{error:.4f}"] for name, error in summary.calibration_error.items()]
    said += [[f"largest difference of {name} from its library", f"{most:.1e}"] for name, most in summary.parity.items()]
    return [
        Table("Fraud decision", about, ["scored by", "AUC", "average precision"], ranked),
        Table("What it decides", "", ["on the test days", ""], said),
    ]
