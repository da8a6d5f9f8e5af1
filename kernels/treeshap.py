"""What each feature adds to an answer of regression trees: exact path-dependent TreeSHAP (Lundberg et al. 2018), linear in depth.

Along the path to a leaf with value v, feature i has a one-fraction o_i (1 where the row obeys all its splits there, else 0) and a
zero-fraction z_i (the share of the training rows that do, the product over its splits). Its Shapley value is

    v (o_i - z_i) * sum over S of |S|! (d - |S| - 1)! / d! * product of o_j in S * product of z_j outside,

and since the weight is the integral of t^|S| (1 - t)^(d - 1 - |S|) over [0, 1], that sum is the integral of
product over j != i of (o_j t + z_j (1 - t)): a polynomial, which Gauss-Legendre points integrate without error. So for each
point a product goes down each tree, sums of it over leaves come up, and features are divided out where they split: as in
Linear TreeSHAP (Yu, Xu, Cheng and Yu 2022), whose polynomials are this integrand, but without its degrees to keep alike.
`reference.shapley` is the readable twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import kernel

Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2
"""What a split takes for a missing value: nothing (NaN counts as 0), NaN and what is next to 0, NaN."""

_SUMS: Final = {"reassoc", "contract", "arcp"}
"""Sums over points may be taken in any order, so several at a time: half the time, for the last digit."""

ZERO: Final = 1.0000000180025095e-35
"""LightGBM's, a float32: what is not farther from 0 is 0."""


class Tree(NamedTuple):
    """A binary tree. A child >= 0 is a split, another is leaf -1 - child; split 0 is the root, unless there are no splits.

    A row with feature <= threshold goes left, a missing one where `default_left` says; `count` are of the training rows that
    came to a split, `leaf_count` to a leaf, all above 0.
    """

    feature: Longs
    threshold: Floats
    missing: Longs
    default_left: Longs
    left: Longs
    right: Longs
    count: Floats
    leaf_value: Floats
    leaf_count: Floats


class Forest(NamedTuple):
    """Trees side by side, of each the nodes in pre-order: tree i has nodes[start[i]:start[i + 1]], the first its root.

    Of each node: its `parent`; `is_left`; `earlier`, the nearest node on the way from the root that is below a split of the
    same feature as it is itself, -1 for none; `zero`, the share of rows that obeyed all those splits; `value`, a leaf's;
    and of splits `feature` (-1: a leaf), `threshold`, `missing`, `default_left`. `points` and `weights` integrate over [0, 1].
    `expected` is the mean answer over the training rows, `features` how many a row has.
    """

    start: Longs
    parent: Longs
    earlier: Longs
    zero: Floats
    value: Floats
    feature: Longs
    threshold: Floats
    missing: Bytes
    default_left: Bytes
    is_left: Bytes
    points: Floats
    weights: Floats
    expected: float
    features: int


class _Planting:
    """Trees being laid out; a list for each column of `Forest`. `depth`: the most different features on a path."""

    def __init__(self) -> None:
        self.start, self.expected, self.depth = [0], 0.0, 1
        self.whole: list[tuple[int, int, int, int, int, int]] = []
        """parent, earlier, feature, missing, default_left, is_left"""
        self.real: list[tuple[float, float, float]] = []
        """zero, value, threshold"""
        self._count: list[float] = []

    def add(self, tree: Tree) -> None:
        """Lays out the nodes of one more tree, a split before what is below it."""
        waiting: list[tuple[int, int, int, dict[int, int]]] = [(0 if len(tree.feature) else -1, -1, 0, {})]
        while waiting:
            number, parent, is_left, above = waiting.pop()
            index, split = len(self.whole), number >= 0
            count = float(tree.count[number] if split else tree.leaf_count[-1 - number])
            earlier, zero = -1, 1.0
            if parent >= 0:
                feature = self.whole[parent][2]
                earlier = above.get(feature, -1)
                zero = count / self._count[parent] * (self.real[earlier][0] if earlier >= 0 else 1.0)
                above = {**above, feature: index}
            self.depth = max(self.depth, len(above))
            asked = (tree.feature, tree.missing, tree.default_left)
            feature, missing, default_left = (int(each[number]) for each in asked) if split else (-1, 0, 0)
            self.whole.append((parent, earlier, feature, missing, default_left, is_left))
            value, threshold = (0.0, tree.threshold[number]) if split else (tree.leaf_value[-1 - number], 0.0)
            self.real.append((zero, float(value), float(threshold)))
            self._count.append(count)
            if split:
                waiting += [(int(tree.right[number]), index, 0, above), (int(tree.left[number]), index, 1, above)]
        self.start.append(len(self.whole))
        self.expected += float(tree.leaf_value @ tree.leaf_count / tree.leaf_count.sum())


def plant(trees: Sequence[Tree], features: int) -> Forest:
    """The trees as the kernel wants them, for rows of so many features. Raises ValueError for a count that is not above 0."""
    planting = _Planting()
    for tree in trees:
        if (tree.leaf_count <= 0).any() or (tree.count <= 0).any():
            raise ValueError("a node that no training row came to has no share to be explained by")
        planting.add(tree)
    whole = np.array(planting.whole, np.int64).reshape(-1, 6)
    real = np.array(planting.real, np.float64).reshape(-1, 3)
    points, weights = np.polynomial.legendre.leggauss((planting.depth + 1) // 2)
    parent, earlier, feature = (np.ascontiguousarray(whole[:, column]) for column in range(3))
    missing, default_left, is_left = (whole[:, column].astype(np.uint8) for column in range(3, 6))
    zero, value, threshold = (np.ascontiguousarray(real[:, column]) for column in range(3))
    return Forest(
        np.array(planting.start, np.int64), parent, earlier, zero, value, feature, threshold, missing, default_left, is_left,
        (points + 1) / 2, weights / 2, planting.expected, features,
    )  # fmt: skip


@kernel(cache=True, nogil=True)
def _goes_left(value: float, threshold: float, missing: int, default_left: int) -> bool:
    """Which way a value turns at a split, as LightGBM has it."""
    if np.isnan(value):
        if missing == MISSING_NAN:
            return default_left != 0
        value = 0.0
    if missing == MISSING_ZERO and -ZERO <= value <= ZERO:
        return default_left != 0
    return value <= threshold


@kernel(cache=True, nogil=True, fastmath=_SUMS)
def _go_down(forest: Forest, row: Floats, begin: int, end: int, one: Bytes, inverse: Floats, product: Floats) -> None:
    """Fills, of each node of a tree, its one-fraction, 1 / (its factor) at each point, and the product of factors to it."""
    points = len(forest.points)
    for node in range(begin + 1, end):
        parent, earlier, at = forest.parent[node], forest.earlier[node], node - begin
        left = _goes_left(
            row[forest.feature[parent]], forest.threshold[parent], forest.missing[parent], forest.default_left[parent]
        )
        obeys = left == (forest.is_left[node] != 0)
        if earlier >= 0 and one[earlier - begin] == 0:
            obeys = False
        one[at] = obeys
        zero, share = forest.zero[node], 1.0 if obeys else 0.0
        for point in range(points):
            place = forest.points[point]
            factor = share * place + zero * (1.0 - place)
            inverse[at, point] = 1.0 / factor
            product[at, point] = product[parent - begin, point] * factor
        if earlier >= 0:
            for point in range(points):
                product[at, point] *= inverse[earlier - begin, point]


@kernel(cache=True, nogil=True, fastmath=_SUMS)
def _come_up(forest: Forest, begin: int, end: int, one: Bytes, inverse: Floats, sums: Floats, out: Floats) -> None:
    """Adds each node's part to its feature; `sums`, of its leaves' values times products, are gathered on the way."""
    points = len(forest.points)
    for node in range(end - 1, begin, -1):
        parent, earlier, at = forest.parent[node], forest.earlier[node], node - begin
        here, before = 0.0, 0.0
        for point in range(points):
            weighted = forest.weights[point] * sums[at, point]
            here += weighted * inverse[at, point]
            if earlier >= 0:
                before += weighted * inverse[earlier - begin, point]
            sums[parent - begin, point] += sums[at, point]
        added = (one[at] - forest.zero[node]) * here
        if earlier >= 0:
            added -= (one[earlier - begin] - forest.zero[earlier]) * before
        out[forest.feature[parent]] += added


@kernel(cache=True, nogil=True)
def contributions(forest: Forest, rows: Floats, out: Floats) -> None:
    """Fills `out` float64 [rows, features + 1]: what each feature adds to the sum of the trees, and last what is expected of a
    row of which nothing is known. `rows` are float64 [rows, features]; NaN is missing."""
    nodes = 1
    for tree in range(len(forest.start) - 1):
        nodes = max(nodes, forest.start[tree + 1] - forest.start[tree])
    points = len(forest.points)
    one, inverse = np.empty(nodes, np.uint8), np.empty((nodes, points))
    product, sums = np.empty((nodes, points)), np.empty((nodes, points))
    for number in range(len(rows)):
        row, found = rows[number], out[number]
        found[:] = 0.0
        found[forest.features] = forest.expected
        for tree in range(len(forest.start) - 1):
            begin, end = forest.start[tree], forest.start[tree + 1]
            product[0, :] = 1.0
            _go_down(forest, row, begin, end, one, inverse, product)
            for node in range(end - begin):
                for point in range(points):
                    sums[node, point] = forest.value[begin + node] * product[node, point]
            _come_up(forest, begin, end, one, inverse, sums, found)
