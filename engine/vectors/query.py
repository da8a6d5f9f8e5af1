"""What a search asks, and what it is told. Frozen values, checked against the collection by whoever makes them (see `checks`).

Scores: of cosine and dot the higher the better, cosine within [-1, 1]; of l2 the Euclidean distance (not squared), the lower the
better; of BM25, sparse vectors, MaxSim and fusions the higher the better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.vectors.filter import Filter

PointId = int | str
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DenseLeg:
    """Nearest to `query`, float32 [d], of length 1 where the metric is cosine."""

    vector: str
    query: Vector


@dataclass(frozen=True, slots=True)
class SparseLeg:
    """Highest dot product. `indices` uint32 [n], strictly ascending; `values` float32 [n]."""

    name: str
    indices: npt.NDArray[np.uint32]
    values: Vector


@dataclass(frozen=True, slots=True)
class TextLeg:
    """BM25 (Robertson and Zaragoza, 2009; k1 1.2, b 0.75) of the words of `text` in a text field."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class RecommendLeg:
    """Like `positive` and unlike `negative`, ids of stored points or vectors: nearest to 2 mean(positive) - mean(negative).
    The points named are not among the hits."""

    vector: str
    positive: tuple[PointId | Vector, ...]
    negative: tuple[PointId | Vector, ...] = ()


Leg = DenseLeg | SparseLeg | TextLeg | RecommendLeg


@dataclass(frozen=True, slots=True)
class RankFusion:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009): weight / (k + rank) summed, ranks from 1. `weights`: one a
    leg, none is 1 each. `depth`: how many hits of each leg are fused, None is by k.

    The default k finds more than 10 does on two sets of labelled sentences, and on both halves of one."""

    k: float = 20.0
    weights: tuple[float, ...] = ()
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class ScoreFusion:
    """The weighted sum of scores scaled to [0, 1] by each leg's least and greatest among its hits; a hit that a leg lacks
    has 0."""

    weights: tuple[float, ...] = ()
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class GroupBy:
    """At most `size` hits for each value of a keyword or integer field; then k counts groups."""

    field: str
    size: int = 1


@dataclass(frozen=True, slots=True)
class Diversity:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) by a dense vector: `weight` 1 is relevance alone, 0
    difference alone. Chosen among `candidates` hits, None is by k."""

    vector: str
    weight: float = 0.5
    candidates: int | None = None


@dataclass(frozen=True, slots=True)
class MaxSim:
    """Scores `candidates` hits (None is by k) again by a multi-vector: the sum over the rows of `query`, float32 [t, d], of their
    greatest dot product with any vector of the point."""

    vector: str
    query: Vector
    candidates: int | None = None


@dataclass(frozen=True, slots=True)
class SearchParams:
    """`candidates`: how many an index finds to be scored exactly, None is the collection's; `exact`: every point is scored.
    `effort`: how many times the usual number of inverted lists or graph nodes an index looks at, .01 to 100."""

    candidates: int | None = None
    exact: bool = False
    effort: float = 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """One search. Several legs are fused. `k` hits after `offset` better ones; `score_threshold`: no worse ones.

    `payload`: the fields that hits carry; `vectors`: likewise. Exactly min(k, matching points - offset) hits come, unless the
    threshold or the legs (words that do not occur) leave fewer.
    """

    legs: tuple[Leg, ...]
    k: int
    offset: int = 0
    filter: Filter | None = None
    tenant: str | None = None
    fusion: RankFusion | ScoreFusion = RankFusion()
    score_threshold: float | None = None
    group_by: GroupBy | None = None
    diversity: Diversity | None = None
    rerank: MaxSim | None = None
    params: SearchParams = SearchParams()
    payload: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()


@dataclass(slots=True)  # not frozen: k of a query
class Hit:
    """`payload` holds Python values, datetimes as microseconds since the Unix epoch, null fields left out. `group`: the value of
    the field that hits are grouped by."""

    id: PointId
    score: float
    payload: Mapping[str, Any] = field(default_factory=dict)
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    group: PointId | None = None
