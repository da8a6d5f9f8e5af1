"""A query answered from one view: legs, their fusion, then reranking, a threshold, diversity and groups, and the hits at last.

Each stage takes and gives scores and places, best first; a place is a part's position in the view << 32 | the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.vectors.dense_search import DenseSearch
from engine.vectors.filter import Filter, for_tenant
from engine.vectors.fusion import fused
from engine.vectors.grouping import Groups
from engine.vectors.hits import hits_of
from engine.vectors.legs import best_of_leg
from engine.vectors.matching import count
from engine.vectors.query import DenseLeg, Found, Hit, Query
from engine.vectors.rescoring import diversified, rescored
from engine.vectors.view import Longs, View

Scores = npt.NDArray[np.floating]
POOL_MIN: Final = 100
"""Hits of a leg that are fused, and candidates of a rerank, where the query does not say and k is small."""


def search(view: View, query: Query, *, explain: bool = False) -> Found:
    """`query` is checked, and names no point: see `recommend.resolved`. With `explain` the plans are told."""
    if _is_plain(query) and not explain:
        leg = query.legs[0]
        assert isinstance(leg, DenseLeg)
        search_of = DenseSearch.of(view, leg.vector)
        best, places = search_of.best(leg.query, query.k, candidates=query.params.candidates, exact=query.params.exact)
        told_scores: list[float] = (np.sqrt(np.maximum(-best, 0)) if search_of.is_distance else best).tolist()
        return Found(hits_of(view, told_scores, places, query.payload, query.vectors))
    told: list[str] | None = [] if explain else None
    if query.group_by is None:
        scores, places = _ranked(view, query, query.k + query.offset, told)
        places = places[query.offset :]
        hits = hits_of(view, _told_scores(view, query, scores[query.offset :]), places, query.payload, query.vectors)
    else:
        hits = _grouped(view, query, told)
    return Found(hits, tuple(told or ()))


def _is_plain(query: Query) -> bool:
    """The nearest to one vector and nothing else, which is quicker asked at once."""
    return (
        len(query.legs) == 1
        and type(query.legs[0]) is DenseLeg
        and query.filter is None
        and query.tenant is None
        and not query.offset
        and query.group_by is None
        and query.score_threshold is None
        and query.diversity is None
        and query.rerank is None
    )


def search_many(view: View, queries: Sequence[Query]) -> list[Found]:
    """Each of them, from the same view."""
    return [search(view, each) for each in queries]


def exact(view: View, query: Query) -> Found:
    """The same without any index: what an index is measured against."""
    return search(view, replace(query, params=replace(query.params, exact=True)))


def filter_of(view: View, query: Query) -> Filter | None:
    """What the query filters by, its tenant's points alone."""
    field = view.spec.tenant
    return query.filter if field is None or query.tenant is None else for_tenant(query.filter, field, query.tenant)


def _ranked(view: View, query: Query, wanted: int, told: list[str] | None) -> tuple[Scores, Longs]:
    """At most `wanted` scores and places."""
    filter_ = filter_of(view, query)
    pool = wanted
    if query.rerank is not None:
        pool = max(wanted, query.rerank.candidates or _pool_of(wanted))
    if query.diversity is not None:
        pool = max(pool, query.diversity.candidates or _pool_of(wanted))
    scores, places = _of_legs(view, query, pool, filter_, told)
    if query.rerank is not None:
        scores, places = rescored(view, query.rerank, places)
    if query.score_threshold is not None:
        scores, places = _above(view, query, scores, places)
    if query.diversity is not None:
        scores, places = diversified(view, query.diversity, scores, places, wanted)
    return scores[:wanted], places[:wanted]


def _pool_of(wanted: int) -> int:
    return max(POOL_MIN, 4 * wanted)


def _of_legs(
    view: View, query: Query, pool: int, filter_: Filter | None, told: list[str] | None
) -> tuple[Scores, Longs]:
    if len(query.legs) == 1:
        return best_of_leg(view, query.legs[0], pool, filter_, query.params, told)
    depth = max(pool, query.fusion.depth or _pool_of(pool))
    return fused(
        [best_of_leg(view, each, depth, filter_, query.params, told) for each in query.legs], query.fusion, pool
    )


def _is_distance(view: View, query: Query) -> bool:
    """Whether scores are negative squares of distances."""
    if len(query.legs) > 1 or query.rerank is not None:
        return False
    leg = query.legs[0]
    return isinstance(leg, DenseLeg) and view.spec.vectors[leg.vector].metric == "l2"


def _told_scores(view: View, query: Query, scores: Scores) -> list[float]:
    found: list[float] = (np.sqrt(np.maximum(-scores, 0)) if _is_distance(view, query) else scores).tolist()
    return found


def _above(view: View, query: Query, scores: Scores, places: Longs) -> tuple[Scores, Longs]:
    assert query.score_threshold is not None
    told = np.array(_told_scores(view, query, scores))
    kept = told <= query.score_threshold if _is_distance(view, query) else told >= query.score_threshold
    return scores[kept], places[kept]


def _grouped(view: View, query: Query, told: list[str] | None) -> list[Hit]:
    """More and more hits are looked at, until the groups are full or there are no more."""
    assert query.group_by is not None
    wanted = query.k + query.offset
    total = count(view, filter_of(view, query))
    pool = min(total, _pool_of(wanted * query.group_by.size))
    while True:
        scores, places = _ranked(view, query, pool, told)
        groups = Groups(view, query.group_by, wanted)
        groups.add(places)
        if groups.full or pool >= total:
            break
        pool = min(total, 4 * pool)
        told = None
    rows, values = groups.after(query.offset)
    hits = hits_of(view, _told_scores(view, query, scores[rows]), places[rows], query.payload, query.vectors)
    for hit, value in zip(hits, values, strict=True):
        hit.group = value
    return hits
