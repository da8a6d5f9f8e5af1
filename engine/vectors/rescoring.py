"""Hits scored again, or chosen again to differ from one another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.vectors.places import parts_of
from engine.vectors.query import Diversity, MaxSim
from engine.vectors.view import Longs, Singles, View
from kernels.ranking import diverse
from kernels.relevance import scaled
from kernels.scoring import maxsim

_NO_SCALE = np.empty(0, np.float32)


def rescored(view: View, by: MaxSim, places: Longs) -> tuple[Singles, Longs]:
    """By late interaction, best first, of equals as they were; points without a vector come last, at minus infinity."""
    scores = np.empty(len(places), np.float32)
    for at, here, rows in parts_of(places):
        dense, offsets = view.parts[at].part.multi(by.vector)
        some = np.empty(len(here), np.float32)
        scale = _NO_SCALE if dense.scale is None else dense.scale
        maxsim(np.ascontiguousarray(dense.plain), by.query, scale, offsets, rows, some)
        scores[here] = some
    order = np.argsort(-scores, kind="stable")
    return scores[order], places[order]


def diversified(
    view: View, by: Diversity, scores: npt.NDArray[np.floating], places: Longs, k: int
) -> tuple[npt.NDArray[np.floating], Longs]:
    """At most k in the order that maximal marginal relevance chooses them; each keeps its score."""
    if not len(places):
        return scores, places
    vectors = np.empty((len(places), view.spec.vectors[by.vector].size), np.float32)
    for at, here, rows in parts_of(places):
        vectors[here] = view.parts[at].part.dense(by.vector).float32(rows)
    chosen = np.empty(min(k, len(places)), np.int64)
    count = diverse(vectors, scaled(scores), by.weight, chosen)
    return scores[chosen[:count]], places[chosen[:count]]
