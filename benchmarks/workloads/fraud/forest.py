"""A LightGBM model's trees for `kernels.treeshap`, read from its text form."""

import re

import lightgbm
import numpy as np
from numpy.typing import NDArray

from kernels.treeshap import Forest, Tree, contributions, plant

_DEFAULT_LEFT, _MISSING_SHIFT, _MISSING_MASK = 2, 2, 3
"""Bits of decision_type; bit 0 is a categorical split."""


def forest_of(booster: lightgbm.Booster) -> Forest:
    """The trees, planted. Raises ValueError for categorical splits."""
    return plant(trees_of(booster), booster.num_feature())


def trees_of(booster: lightgbm.Booster) -> list[Tree]:
    """The trees as they were trained. Raises ValueError for categorical splits."""
    text = booster.model_to_string()
    if re.search(r"^num_cat=[^0]", text, re.MULTILINE):
        raise ValueError("categorical splits cannot be explained")
    blocks = text.split("end of trees")[0].split("\nTree=")[1:]
    return [_tree(dict(_lines(block))) for block in blocks]


def explained(forest: Forest, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What each feature adds to the log-odds of each row, and last what is expected: float64 [rows, features + 1]."""
    out = np.empty((len(rows), forest.features + 1))
    contributions(forest, np.ascontiguousarray(rows, np.float64), out)
    return out


def _lines(block: str) -> list[tuple[str, str]]:
    return [(name, values) for name, _, values in (line.partition("=") for line in block.splitlines())]


def _tree(fields: dict[str, str]) -> Tree:
    def numbers(name: str) -> NDArray[np.float64]:
        return np.array(fields.get(name, "").split(), np.float64)

    def whole(name: str) -> NDArray[np.int64]:
        return np.array(fields.get(name, "").split(), np.int64)

    decision, value = whole("decision_type"), numbers("leaf_value")
    single = len(value) == 1  # then the counts are not written
    return Tree(
        feature=whole("split_feature"),
        threshold=numbers("threshold"),
        missing=decision >> _MISSING_SHIFT & _MISSING_MASK,
        default_left=(decision & _DEFAULT_LEFT) >> 1,
        left=whole("left_child"),
        right=whole("right_child"),
        count=numbers("internal_count"),
        leaf_value=value,
        leaf_count=np.ones(1) if single else numbers("leaf_count"),
    )
