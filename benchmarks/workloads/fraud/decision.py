"""What the graph's functions compute, between the lookups and the answer: the model's row, the decision, its reasons.

Training makes its rows with the same `assembled`, so there is no second definition of a column. Needs numpy and, for reasons,
numba; knows neither LightGBM nor the engine.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads.fraud.calibration import Calibration
from benchmarks.workloads.fraud.reasons import REASONS, TOLD_MAX, groups_of, strongest
from engine import decodable
from kernels.treeshap import Forest, contributions

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
RAW = ("amount", "hour_of_day", "day_of_week")
"""Columns of the transaction itself: the first of the model's row."""

UNSEEN = ("last_latitude", "last_longitude")
"""Features of a view that others are made of; a model would learn from them who lives where."""

SETTINGS, TREES = "decision.json", "trees.npz"
APPROVE, REVIEW, DECLINE = b"approve", b"review", b"decline"
WORDS = np.array([APPROVE, REVIEW, DECLINE], object)
CODES = np.array([code.encode() for code in REASONS], object)
NAMES = tuple(REASONS)

Doubles = NDArray[np.float64]
Longs = NDArray[np.int64]
Matrix = NDArray[np.float32]
Bools = NDArray[np.bool_]
Texts = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """The columns of the model: RAW, then of each view its features but UNSEEN, in the order of the spec."""

    views: Mapping[str, tuple[str, ...]]
    """By name, the features as a lookup answers them."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, VIEW_FEATURE."""
        return (*RAW, *(f"{view}_{name}" for view, names in self.views.items() for name in names if name not in UNSEEN))

    def slices(self) -> dict[str, tuple[slice, slice]]:
        """Of each view, which of its features go to which columns. Raises ValueError where UNSEEN do not come first."""
        found, begin = {}, len(RAW)
        for view, names in self.views.items():
            skipped = sum(name in UNSEEN for name in names)
            if any(name in UNSEEN for name in names[skipped:]):
                raise ValueError(f"view '{view}': {', '.join(UNSEEN)} are to come first, got {', '.join(names)}")
            end = begin + len(names) - skipped
            found[view] = (slice(skipped, None), slice(begin, end))
            begin = end
        return found


@dataclass(frozen=True, slots=True)
class Settings:
    """What a build of the workload leaves for the functions."""

    row: ModelRow
    calibration: Calibration


def assembled(row: ModelRow, amount: Doubles, at: Longs, looked_up: Mapping[str, Doubles]) -> Matrix:
    """The model's rows, FP32 [rows, columns], NaN where a feature is null; `at` in microseconds since 1970."""
    return _assembled(len(row.columns), row.slices(), amount, at, looked_up)


def _assembled(
    width: int,
    slices: Mapping[str, tuple[slice, slice]],
    amount: Doubles,
    at: Longs,
    looked_up: Mapping[str, Doubles],
) -> Matrix:
    rows = np.empty((len(amount), width), np.float32)
    rows[:, 0] = amount
    rows[:, 1] = at % DAY_US / HOUR_US
    rows[:, 2] = at // DAY_US % 7
    for view, (features, columns) in slices.items():
        rows[:, columns] = looked_up[view][:, features]
    return rows


class Decision:
    """The functions of one build. Any number of threads."""

    def __init__(self, settings: Settings, forest: Forest) -> None:
        self._slices = settings.row.slices()
        self._width = len(settings.row.columns)
        self._calibration = settings.calibration
        self._forest = forest
        self._groups = groups_of(settings.row.columns)

    def assemble(self, amount: Doubles, at: Longs, **looked_up: Doubles) -> dict[str, Matrix]:
        """See `assembled`; `looked_up` are the views' answers by name."""
        return {"features": _assembled(self._width, self._slices, amount, at, looked_up)}

    def decide(
        self, score: Matrix, anomaly: Matrix, review_above: Matrix, alert_above: Matrix
    ) -> dict[str, NDArray[np.generic]]:
        """The calibrated probability, and what follows from it."""
        probability = self._calibration.probability(score[:, 0], anomaly[:, 0]).astype(np.float32)
        review, alert = probability > review_above, probability > alert_above
        level = np.where(alert, 2, review)
        return {"probability": probability, "decision": WORDS[level], "review": review | alert, "alert": alert}

    def explain(self, features: Matrix, wanted: Bools) -> dict[str, NDArray[np.generic]]:
        """The strongest reasons of the rows that are `wanted`; nothing of the others."""
        rows = len(features)
        codes, said = np.full((rows, TOLD_MAX), b"", object), np.full(rows, b"[]", object)
        added = np.zeros((rows, TOLD_MAX), np.float32)
        asked = np.flatnonzero(wanted)
        if len(asked):
            shares = np.empty((len(asked), self._width + 1))
            contributions(self._forest, features[asked].astype(np.float64), shares)
            which, much = strongest(shares[:, :-1] @ self._groups)
            told = much > 0
            codes[asked] = np.where(told, CODES[which], b"")
            added[asked] = np.where(told, much, 0)
            said[asked] = [_said(*row) for row in zip(which.tolist(), much.tolist(), strict=True)]
        return {"codes": codes, "contributions": added, "said": said}


def _said(which: list[int], much: list[float]) -> bytes:
    pairs = [[NAMES[reason], round(added, 3)] for reason, added in zip(which, much, strict=True) if added > 0]
    return msgspec.json.encode(pairs)


def write_decision(settings: Settings, forest: Forest, folder: Path) -> None:
    """Leave both in `folder`."""
    (folder / SETTINGS).write_text(json.dumps(asdict(settings), indent=1) + "\n")
    np.savez_compressed(folder / TREES, allow_pickle=False, **forest._asdict())


def read_decision(folder: Path) -> Decision:
    """The functions of the build in `folder`, compiled."""
    settings = msgspec.json.decode((folder / SETTINGS).read_bytes(), type=decodable(Settings))
    with np.load(folder / TREES) as stored:
        arrays = {name: stored[name] for name in Forest._fields}
    forest = Forest(**{**arrays, "expected": float(arrays["expected"]), "features": int(arrays["features"])})
    decision = Decision(settings, forest)
    columns = len(settings.row.columns)
    decision.explain(np.zeros((1, columns), np.float32), np.ones(1, np.bool_))  # else the first request waits for it
    return decision
