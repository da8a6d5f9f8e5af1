"""Filters that know something of the query and filters that do not: two columns of integers, and windows of them. Pure.

`chance` is at random. `place` says where a point lies: points are halved again and again along the direction they vary most in,
so that places near each other hold points near each other, and each place as many.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

PLACES = 1_000
SAMPLE = 2_048
_POWER_STEPS = 8
KINDS = ("uncorrelated", "correlated", "opposed")
SHARES = (0.001, 0.01, 0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of filter at one selectivity. `bounds` int64 [q, 2]: from and up to but without, of `column`."""

    kind: str
    share: float
    column: str
    bounds: Rows


def places(points: Floats, queries: Floats, seed: int) -> tuple[Rows, Rows]:
    """The place, 0 to PLACES - 1, of each point and of each query."""
    rng = np.random.default_rng(seed)
    of_points, of_queries = np.empty(len(points), np.int64), np.empty(len(queries), np.int64)
    waiting = [(np.arange(len(points)), np.arange(len(queries)), 0, PLACES)]
    while waiting:
        rows, asking, first, end = waiting.pop()
        if end - first == 1 or not len(rows):
            of_points[rows] = of_queries[asking] = first
            continue
        middle = (first + end) // 2
        along = _direction(points[np.sort(rng.choice(rows, min(SAMPLE, len(rows)), replace=False))], rng)
        order = np.argsort(points[rows] @ along, kind="stable")
        cut = len(rows) * (middle - first) // (end - first)
        bound = points[rows[order[min(cut, len(rows) - 1)]]] @ along
        right = queries[asking] @ along >= bound
        waiting.append((rows[order[:cut]], asking[~right], first, middle))
        waiting.append((rows[order[cut:]], asking[right], middle, end))
    return of_points, of_queries


def _direction(sample: Floats, rng: np.random.Generator) -> Floats:
    """The first principal component, nearly: by the power method."""
    centred = sample - sample.mean(0)
    along: Floats = rng.standard_normal((sample.shape[1],), np.float32)
    for _ in range(_POWER_STEPS):
        along = centred.T @ (centred @ along)
        along /= np.linalg.norm(along) or 1.0
    return along


def cases(of_queries: Rows, seed: int) -> list[Case]:
    """Windows on a grid, so that queries share them as users' queries do: around the query's place, half of all places away, or
    anywhere."""
    rng = np.random.default_rng(seed)
    about = {
        "uncorrelated": ("chance", rng.integers(0, PLACES, len(of_queries))),
        "correlated": ("place", of_queries),
        "opposed": ("place", (of_queries + PLACES // 2) % PLACES),
    }
    return [Case(kind, share, about[kind][0], _windows(about[kind][1], share)) for kind in KINDS for share in SHARES]


def _windows(about: Rows, share: float) -> Rows:
    width = round(share * PLACES)
    first = np.minimum(about // width * width, PLACES - width)
    return np.stack([first, first + width], axis=1)


def truths_of(
    points: Floats, queries: Floats, columns: dict[str, Rows], asked: list[Case], k: int, *, block: int = 128
) -> list[Rows]:
    """What each case's filters leave to be found, [q, k] each, best first, -1 where fewer points pass; by brute force."""
    found = [np.full((len(queries), k), -1, np.int64) for _ in asked]
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ points.T
        for case, truth in zip(asked, found, strict=True):
            for row, given in enumerate(scores, start):
                low, high = case.bounds[row]
                passing = np.flatnonzero((columns[case.column] >= low) & (columns[case.column] < high))
                some = _best(passing, given[passing], k)
                truth[row, : len(some)] = some
    return found


def _best(rows: Rows, scores: Floats, k: int) -> Rows:
    some = np.argpartition(-scores, k)[:k] if len(rows) > k else np.arange(len(rows))
    best: Rows = rows[some[np.argsort(-scores[some], kind="stable")]]
    return best
