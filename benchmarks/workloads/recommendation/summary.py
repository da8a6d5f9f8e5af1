"""What a build of the workload found out, as one JSON file and as a table; light enough for a benchmark to read."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.table import Cell, Table
from benchmarks.workloads.recommendation.judged import NDCGS, RECALLS, Quality
from engine import decodable

FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class Summary:
    """`quality`: by who asks (of the test: those with a history, those with none; of whom there is nobody is left out), then by
    what ranks. `parity`: by model, the greatest difference of the exported from the trained. `neighbours`: what was chosen on
    the validation period."""

    seed: int
    events: dict[str, int]
    neighbours: tuple[int, float]
    parity: dict[str, float]
    quality: dict[str, dict[str, Quality]]


def write_summary(summary: Summary, folder: Path) -> None:
    """Write the summary into `folder`."""
    (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")


def read_summary(folder: Path) -> Summary:
    """The summary in `folder`. Raises msgspec.ValidationError when it is not one of ours."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=decodable(Summary))


def quality_table(summary: Summary) -> Table:
    """Each ranking of each group of queries, a line each."""
    counts = ", ".join(f"{name} {count:,}" for name, count in summary.events.items())
    about = f"Events by time: {counts}. Liked later, among items in stock, sold in the region and new to the user."
    columns = ["ranked by", "queries", *(f"recall@{k}" for k in RECALLS), *(f"NDCG@{k}" for k in NDCGS)]
    rows = [_row(f"{group}: {name}", found) for group, by in summary.quality.items() for name, found in by.items()]
    return Table("Recommendations beside plain baselines", about, columns, rows)


def _row(name: str, found: Quality) -> list[Cell]:
    return [name, found.queries, *(found.recall[k] for k in RECALLS), *(found.ndcg[k] for k in NDCGS)]
