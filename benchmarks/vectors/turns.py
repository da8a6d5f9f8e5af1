"""Contenders in one process, by turns, so that what else the machine does meets all alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.vector_indexes import timed
from benchmarks.vectors.curve import Curve, point_of

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Side:
    """One contender. `prepare` makes it ready for a setting and gives its search of one query, by the query's number; `rows`
    are k rows in an answer, best first, -1 for those that are missing. `notes` go into its curve."""

    prepare: Callable[[int], Callable[[int], Any]]
    rows: Callable[[Any], Sequence[int]]
    notes: dict[str, float] = field(default_factory=dict)


def by_turns(sides: Mapping[str, Side], settings: Sequence[int], truth: Rows, rounds: int) -> list[Curve]:
    """All queries of `truth`, [q, k], at all settings: once for what is found, then `rounds` times for how long it takes."""
    found = {}
    for who, side in sides.items():
        for setting in settings:
            search = side.prepare(setting)
            found[who, setting] = np.array([side.rows(search(at)) for at in range(len(truth))], np.int64)
    times: dict[tuple[str, int], list[dict[str, float]]] = {key: [] for key in found}
    for _ in range(rounds):
        for setting in settings:
            for who, side in sides.items():
                times[who, setting].append(timed(side.prepare(setting), len(truth)))
    return [
        Curve(who, [point_of(each, found[who, each], truth, times[who, each]) for each in settings], sides[who].notes)
        for who in sides
    ]
