"""How quickly one finds how much: recall and cost of one contender over its settings. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Times:
    """One round: CPU of the process and wall clock a call, median and p99 of the wall clock, in microseconds."""

    cpu_us: float
    wall_us: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Point:
    """One setting (candidates, or ef of a graph), round after round. `exactly_k`: the share of queries that got k hits."""

    setting: int
    recall: float
    exactly_k: float
    rounds: list[Times]

    def middle(self, figure: str) -> float:
        """The median over the rounds of one of `Times`."""
        return float(median(getattr(each, figure) for each in self.rounds))

    @property
    def qps(self) -> float:
        """Queries a second of CPU: what one core would do if it had nothing else to do."""
        return 1e6 / self.middle("cpu_us")


@dataclass(frozen=True, slots=True)
class Curve:
    """`who` over its settings. `notes`: whatever is to be known of it, such as the seconds of its build."""

    who: str
    points: list[Point]
    notes: dict[str, float] = field(default_factory=dict)

    def best(self, recall: float) -> Point | None:
        """The quickest point of at least this recall; None where there is none."""
        enough = [each for each in self.points if each.recall >= recall]
        return max(enough, key=lambda each: each.qps, default=None)


def recall_of(found: Rows, truth: Rows) -> float:
    """The mean share of `truth`, [q, k], that is among `found`, [q, n]; -1 stands for nothing in both. A query for
    which there is nothing does not count."""
    wanted = truth >= 0
    hit = (truth[:, :, None] == found[:, None, :]).any(2) & wanted
    return float((hit.sum(1) / np.maximum(1, wanted.sum(1)))[wanted.any(1)].mean()) if wanted.any() else 1.0


def exactly_k(found: Rows, truth: Rows) -> float:
    """The share of queries that were answered with as many hits as there are in `truth`."""
    return float(((found >= 0).sum(1) == (truth >= 0).sum(1)).mean())


def point_of(setting: int, found: Rows, truth: Rows, rounds: Sequence[dict[str, float]]) -> Point:
    """One setting's recall and times."""
    return Point(setting, recall_of(found, truth), exactly_k(found, truth), [Times(**each) for each in rounds])


def ratio_at(ours: Curve, theirs: Curve, recall: float) -> float | None:
    """How many times their queries a second ours are, both at their best of at least this recall: the median over rounds that
    went by turns. None where one does not reach it."""
    mine, other = ours.best(recall), theirs.best(recall)
    if mine is None or other is None:
        return None
    return median(b.cpu_us / a.cpu_us for a, b in zip(mine.rounds, other.rounds, strict=False))
