"""The readable twins of kernels: the same answers by plain numpy, one query at a time. Tests hold the kernels to them."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import numpy.typing as npt

from kernels.ranges import Floats, Longs, Ranges
from kernels.treeshap import MISSING_NAN, MISSING_ZERO, ZERO, Tree

Singles = npt.NDArray[np.float32]


def chosen(ranges: Ranges, query: int) -> Longs:
    """Positions of the events that a query asks about, ascending."""
    certain = np.arange(ranges.a[query], ranges.c[query])
    rest = np.arange(ranges.c[query], ranges.b[query])
    if len(rest):
        rest = rest[ranges.arrival[rest] <= ranges.known[query]]
    return np.concatenate([certain, rest])


def range_moments(values: Floats, ranges: Ranges) -> list[tuple[int, float, float, float, float]]:
    """Number, sum, least, greatest, and sum of squared deviations from the mean, of each range."""
    found = []
    for query in range(len(ranges.a)):
        some = values[chosen(ranges, query)]
        squares = float(((some - some.mean()) ** 2).sum()) if len(some) else 0.0
        found.append((len(some), float(some.sum()), some.min(initial=np.inf), some.max(initial=-np.inf), squares))
    return found


def range_slots(slots: Longs, ranges: Ranges) -> list[int]:
    """How many different slots occur in each range."""
    return [len(set(slots[chosen(ranges, query)].tolist())) for query in range(len(ranges.a))]


def range_decayed(times: Longs, values: Floats, half_life: float, ranges: Ranges, as_of: Longs) -> list[float]:
    """The sum of each range's values, halved for every `half_life` of age."""
    found = []
    for query in range(len(ranges.a)):
        at = chosen(ranges, query)
        found.append(float((values[at] * 2.0 ** (-(as_of[query] - times[at]) / half_life)).sum()))
    return found


def range_top(codes: Longs, ranges: Ranges, k: int) -> list[list[int]]:
    """The `k` most frequent codes of each range, ties to the lesser; -1 for none."""
    found = []
    for query in range(len(ranges.a)):
        different, counts = np.unique(codes[chosen(ranges, query)], return_counts=True)
        best = different[np.argsort(-counts, kind="stable")][:k].tolist()
        found.append(best + [-1] * (k - len(best)))
    return found


def gathered_features(values: Floats, defaults: Singles) -> Singles:
    """Rows of features, NaN where null, as a model's buffer gets them."""
    return np.where(np.isnan(values), defaults.astype(np.float64), values).astype(np.float32)


def gathered_rows(table: Singles, rows: Longs, defaults: Singles) -> Singles:
    """Rows of a table one under the other; `defaults` for a row below 0."""
    return np.where((rows < 0)[:, None], defaults, table[rows])


def window_range(times: Longs, begin: int, end: int, as_of: int, length: int, tile: int, shape: int) -> tuple[int, int]:
    """Positions [a, b) of a window within [begin, end) by whole tiles, looking at every event."""
    head = as_of // tile
    first, last = [((as_of - length) // tile, head), (head - length // tile, head - 1), (head, head)][shape]
    inside = [at for at in range(begin, end) if first <= times[at] // tile <= last]
    return (inside[0], inside[-1] + 1) if inside else (end, end)


def shapley(tree: Tree, row: Floats) -> Floats:
    """What each feature adds to one tree's answer, by the definition: over every set of features known before it.

    What is not known is averaged over, by the training rows that went each way (path-dependent, Lundberg et al. 2018).
    """
    used = sorted(set(tree.feature.tolist()))
    found = np.zeros(len(row))
    for feature in used:
        others = [each for each in used if each != feature]
        for size in range(len(others) + 1):
            weight = math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(used))
            for known in combinations(others, size):
                found[feature] += weight * (_mean(tree, row, {*known, feature}) - _mean(tree, row, set(known)))
    return found


def _mean(tree: Tree, row: Floats, known: set[int]) -> float:
    """The tree's answer where only some features are known."""

    def below(node: int) -> float:
        if node < 0:
            return float(tree.leaf_value[-1 - node])
        left, right = int(tree.left[node]), int(tree.right[node])
        if tree.feature[node] in known:
            return below(left if _turns_left(tree, row, node) else right)
        counts = [float(tree.leaf_count[-1 - each] if each < 0 else tree.count[each]) for each in (left, right)]
        return (below(left) * counts[0] + below(right) * counts[1]) / sum(counts)

    return below(0 if len(tree.feature) else -1)


def _turns_left(tree: Tree, row: Floats, node: int) -> bool:
    value, missing = row[tree.feature[node]], tree.missing[node]
    if np.isnan(value) and missing != MISSING_NAN:
        value = 0.0
    if np.isnan(value) or (missing == MISSING_ZERO and abs(value) <= ZERO):
        return bool(tree.default_left[node])
    return bool(value <= tree.threshold[node])
