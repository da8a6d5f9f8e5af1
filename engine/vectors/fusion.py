"""Several legs' hits as one list. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.vectors.query import RankFusion, ScoreFusion
from engine.vectors.view import Longs, Singles
from kernels.ranking import fuse_ranks, fuse_scores


def fused(
    legs: Sequence[tuple[Singles, Longs]], by: RankFusion | ScoreFusion, k: int
) -> tuple[npt.NDArray[np.float64], Longs]:
    """At most k scores and places, best first, of legs that are each best first."""
    keys = np.concatenate([places for _, places in legs])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(places) for _, places in legs])])
    weights = np.array(by.weights or [1.0] * len(legs), np.float64)
    best_scores, best_places = np.empty(min(k, len(keys)), np.float64), np.empty(min(k, len(keys)), np.int64)
    if isinstance(by, RankFusion):
        size = fuse_ranks(keys, starts, weights, by.k, best_scores, best_places)
    else:
        scores = np.concatenate([scores for scores, _ in legs])
        size = fuse_scores(keys, scores, starts, weights, best_scores, best_places)
    return best_scores[:size], best_places[:size]
