"""What a build of the workload found out, as one JSON file and as a table; light enough for the demo to read."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.table import Cell, Table
from engine import decodable

FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class Quality:
    """How well scores rank frauds above the rest: area under the ROC curve, and average precision."""

    auc: float
    average_precision: float


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest distance of an ONNX score from LightGBM's own over every test row, and the bound it was held to.

    `max_difference_unrounded` is what a conversion without the rounding of `export.float32_floor` gives.
    """

    max_difference: float
    bound: float
    max_difference_unrounded: float


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """One version of the model. Days count from the first of the simulation, the last one is included."""

    train_days: tuple[int, int]
    test_days: tuple[int, int]
    train_rows: int
    test_rows: int
    quality: Quality
    baselines: dict[str, Quality]
    parity: Parity


@dataclass(frozen=True, slots=True)
class Summary:
    """All versions, and how they do on the days that both were tested on."""

    seed: int
    transactions: int
    frauds: int
    features: list[str]
    requests: int
    sample_rows: int
    versions: dict[str, VersionSummary]
    shared_test_days: tuple[int, int]
    shared_quality: dict[str, Quality]


def write_summary(summary: Summary, folder: Path) -> None:
    """Write the summary into `folder`."""
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")


def read_summary(folder: Path) -> Summary:
    """The summary in `folder`. Raises msgspec.ValidationError when it is not one of ours."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=decodable(Summary))


def quality_table(summary: Summary) -> Table:
    """The model beside its baselines, a line each."""
    share = summary.frauds / summary.transactions
    about = f"{summary.transactions:,} simulated transactions, {share:.1%} fraud, {len(summary.features)} features."
    rows = [row for number, version in summary.versions.items() for row in _rows(number, version)]
    return Table(
        "Fraud model beside plain baselines", about, ["scored by", "test days", "AUC", "average precision"], rows
    )


def _rows(number: str, version: VersionSummary) -> list[list[Cell]]:
    days = "{}-{}".format(*version.test_days)
    scored = {f"LightGBM, version {number}": version.quality, **version.baselines}
    return [[name, days, found.auc, found.average_precision] for name, found in scored.items()]
