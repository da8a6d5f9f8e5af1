"""The skew probe: what was served, some rows of it, against what history says should have been served.

A sample is kept while serving (`ServedSample`, cheap and bounded) and compared later (`compare`, a pure function) with the view's
`History` over a table or the log itself.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from engine.features.answer import MISSING, FeatureRows
from engine.features.view import View

if TYPE_CHECKING:
    from engine.features.history import History, Past

Value = float | str | None

_BELOW_ONE = math.nextafter(1.0, 0.0)

STATUS = "status"
"""The name under which a row's status is compared."""


@dataclass(frozen=True, slots=True)
class ServedRow:
    """One entity as it was answered: as of which instant, at which instant of the wall clock, with which request inputs.

    `status` and `event_time_us` as in `FeatureRows`. A read is answered for an instant after the entity's newest event, so
    `as_of_us` may be the one asked for, raised to where the watermark holds it (`StateRows.least_us`).
    """

    view: str
    entity: str | int | bytes
    as_of_us: int
    read_us: int
    status: int
    event_time_us: int
    features: Mapping[str, Value]
    request: Mapping[str, Value] = field(default_factory=dict)


def served_row(
    view: str,
    rows: FeatureRows,
    at: int,
    *,
    entity: str | int | bytes,
    as_of_us: int,
    read_us: int,
    request: Mapping[str, Value],
) -> ServedRow:
    """Row `at` of a lookup's answer, as a sample keeps it."""
    features: dict[str, Value] = dict(zip(rows.names, rows.values[at].tolist(), strict=True))
    features |= {name: texts[at] for name, texts in rows.texts.items()}
    newest, status = int(rows.event_time_us[at]), int(rows.status[at])
    return ServedRow(view, entity, as_of_us, read_us, status, newest, features, request)


class ServedSample:
    """A uniform sample of at most `rows_max` of all rows offered since it was last taken: a seeded reservoir (algorithm L, Li
    1994). Any thread may offer; rows that are not chosen cost a comparison (`skips`) and are never made."""

    def __init__(self, rows_max: int, seed: int) -> None:
        assert rows_max > 0
        self._rows_max = rows_max
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._rows: list[ServedRow] = []
        self._next, self._left, self._weight = 0, 0, 1.0  # the next row chosen, and how many pass before it

    def skips(self, count: int) -> bool:
        """Whether none of the next `count` rows is chosen; they are then counted. Else they are to be offered.

        Takes no lock, and is most of what sampling costs: where threads meet here, a few rows may be counted once too often or
        not at all, which moves the next choice by as many.
        """
        left = self._left - count
        if left < 0:
            return False
        self._left = left
        return True

    def offer(self, count: int, row: Callable[[int], ServedRow]) -> None:
        """Offers `count` rows that were served together; `row(i)` makes one of them and is called for those chosen alone."""
        with self._lock:
            start = self._next - self._left
            end = start + count
            while self._next < end:
                self._keep(row(self._next - start))
            self._left = self._next - end

    def _keep(self, row: ServedRow) -> None:
        if len(self._rows) < self._rows_max:
            self._rows.append(row)
            self._next += 1
            if len(self._rows) < self._rows_max:
                return
            self._next -= 1
        else:
            self._rows[self._random.randrange(self._rows_max)] = row
        self._weight = min(self._weight * self._uniform() ** (1 / self._rows_max), _BELOW_ONE)
        self._next += 1 + int(math.log(self._uniform()) / math.log1p(-self._weight))

    def _uniform(self) -> float:
        return 1.0 - self._random.random()  # never 0

    def take(self) -> tuple[list[ServedRow], int]:
        """The rows kept, and how many were offered; the sample then begins anew."""
        with self._lock:
            rows, seen = self._rows, self._next - self._left
            self._begin()
        return rows, seen


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One value that was not what history says."""

    entity: str | int | bytes
    as_of_us: int
    served: Value
    expected: Value


@dataclass(frozen=True, slots=True)
class FeatureSkew:
    """Of one feature how many values were compared, how many differed, by how much at most (of numbers), and the first few that
    did."""

    compared: int = 0
    mismatched: int = 0
    examples: tuple[Mismatch, ...] = ()
    worst: float = 0.0

    @property
    def share(self) -> float:
        """Of the values compared those that differed."""
        return self.mismatched / self.compared if self.compared else 0.0


@dataclass(frozen=True, slots=True)
class SkewReport:
    """`rows` were compared; `unsettled` ones were left out, because events of theirs arrived about when they were read.
    `features` by name, and `STATUS` among them."""

    view: str
    rows: int
    unsettled: int
    features: Mapping[str, FeatureSkew]


def compare(
    history: History,
    served: Iterable[ServedRow],
    *,
    tolerance: float = 1e-6,
    settle_us: int = 1_000_000,
    examples_max: int = 5,
) -> SkewReport:
    """Each served value against history's: numbers may differ by `tolerance`, relative to the greater (below 1: absolutely).

    Where history knows arrivals, a row is judged by what had arrived when it was read. One whose answer differs between
    `settle_us` before and after is unsettled: an event may have been acknowledged and not yet folded, and a broker's clock is
    another than the reader's. Rows of other views are ignored.
    """
    view = history.view
    rows = [each for each in served if each.view == view.name]
    expected = _expected(history, rows, settle_us)
    before = _expected(history, rows, -settle_us)
    settled = [i for i in range(len(rows)) if _same_row(expected[i], before[i], tolerance)]
    found = {name: FeatureSkew() for name in (STATUS, *(each.name for each in view.features))}
    for i in settled:
        given = {STATUS: float(rows[i].status), **rows[i].features}
        for name in found.keys() & given.keys():
            found[name] = _counted(found[name], rows[i], given[name], expected[i][name], tolerance, examples_max)
    return SkewReport(view.name, len(settled), len(rows) - len(settled), found)


def _counted(
    skew: FeatureSkew, row: ServedRow, served: Value, expected: Value, tolerance: float, examples_max: int
) -> FeatureSkew:
    if _same(served, expected, tolerance):
        return replace(skew, compared=skew.compared + 1)
    examples = skew.examples
    if len(examples) < examples_max:
        examples = (*examples, Mismatch(row.entity, row.as_of_us, served, expected))
    worst = max(skew.worst, _difference(_known(served), _known(expected)))
    return FeatureSkew(skew.compared + 1, skew.mismatched + 1, examples, worst)


def _difference(one: Value, other: Value) -> float:
    return abs(one - other) if isinstance(one, float) and isinstance(other, float) else 0.0


def _expected(history: History, rows: Sequence[ServedRow], later_us: int) -> list[dict[str, Value]]:
    """What history says of each row, by feature, and of its status."""
    if not rows:
        return []
    as_of = np.array([max(each.as_of_us, each.event_time_us + (each.status != MISSING)) for each in rows], np.int64)
    known = np.array([each.read_us + later_us for each in rows], np.int64)
    past = history.at(
        pa.array([each.entity for each in rows]), as_of, known=known, request=_request(history.view, rows)
    )
    return _rows(past)


def _request(view: View, rows: Sequence[ServedRow]) -> dict[str, pa.Array]:
    kinds = {each.name: pa.string() if each.text else pa.float64() for each in view.request}
    return {name: pa.array([each.request.get(name) for each in rows], kind) for name, kind in kinds.items()}


def _rows(past: Past) -> list[dict[str, Value]]:
    names = (STATUS, *past.features)
    columns = [past.status.astype(np.float64).tolist(), *(each.to_pylist() for each in past.features.values())]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _same_row(one: Mapping[str, Value], other: Mapping[str, Value], tolerance: float) -> bool:
    return all(_same(value, other[name], tolerance) for name, value in one.items())


def _same(one: Value, other: Value, tolerance: float) -> bool:
    one, other = _known(one), _known(other)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return one == other


def _known(value: Value) -> Value:
    """NaN is how a dense row says null."""
    return None if isinstance(value, float) and math.isnan(value) else float(value) if isinstance(value, int) else value
