"""A query answered from one view: legs, their fusion, then reranking, a threshold, diversity and groups, at last the columns.

Each stage takes and gives scores and places, best first; a place is a part's position in the view << 32 | the row.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.errors import quoted
from engine.vectors.declaration import CollectionSpec
from engine.vectors.dense_search import Best, DenseSearch
from engine.vectors.filter import Filter, for_tenant, of_value
from engine.vectors.found import Found
from engine.vectors.fusion import fused
from engine.vectors.grouping import Groups
from engine.vectors.legs import best_of_leg
from engine.vectors.matching import count
from engine.vectors.query import DenseLeg, Query, RankFusion, ScoreFusion
from engine.vectors.rescoring import diversified, rescored
from engine.vectors.values import PointId
from engine.vectors.view import Longs, View

Scores = npt.NDArray[np.floating]
POOL_MIN: Final = 100
"""Hits of a leg that are fused, and candidates of a rerank, where the query does not say and k is small."""
_AT_ONCE: Final = 32
"""Queries that an index is asked for together; of 64 each takes as long."""
_FILLED_MAX: Final = 64
"""Groups that are searched for by their values: 0.1 ms each, where ranking 100,000 points takes 37."""


def search(view: View, query: Query, *, explain: bool = False) -> Found:
    """`query` is checked, and names no point: see `recommend.resolved`. With `explain` the plans are told."""
    if _is_nearest(query) and not explain:
        leg = query.legs[0]
        assert isinstance(leg, DenseLeg)
        search_of = DenseSearch.of(view, leg.vector)
        best = search_of.best(
            leg.query, query.k, candidates=query.params.candidates, filter_=filter_of(view, query),
            exact=query.params.exact, effort=query.params.effort,
        )  # fmt: skip
        return _found_nearest(view, query, best, distances=search_of.is_distance)
    told: list[str] | None = [] if explain else None
    groups: list[PointId] | None = None
    if query.group_by is None:
        scores, places = _ranked(view, query, query.k + query.offset, told)
        scores, places = scores[query.offset :], places[query.offset :]
    else:
        scores, places, groups = _grouped(view, query, told)
    return Found(
        view, _told_scores(view, query, scores), places, payload=query.payload, vectors=query.vectors, groups=groups,
        plans=tuple(told or ()),
    )  # fmt: skip


def _is_nearest(query: Query) -> bool:
    """The nearest to one vector and nothing else, which is quicker asked at once."""
    return (
        len(query.legs) == 1
        and type(query.legs[0]) is DenseLeg
        and not query.offset
        and query.group_by is None
        and query.score_threshold is None
        and query.diversity is None
        and query.rerank is None
    )


def _found_nearest(view: View, query: Query, best: Best, *, distances: bool) -> Found:
    scores, places = best
    told = _distances(scores) if distances else scores
    return Found(view, told, places, payload=query.payload, vectors=query.vectors)


def _distances(scores: Scores) -> Scores:
    """Of negative squares of distances."""
    found: Scores = np.sqrt(np.maximum(-scores, 0))
    return found


def search_many(view: View, queries: Sequence[Query]) -> list[Found]:
    """Each as `search`, from the same view. An index is asked at once for those that ask it alike."""
    found: dict[int, Found] = {}
    alike: dict[Hashable, list[int]] = {}
    for at, each in enumerate(queries):
        if _is_nearest(each):
            leg = each.legs[0]
            assert isinstance(leg, DenseLeg)
            alike.setdefault((leg.vector, each.k, each.params, each.tenant, each.filter), []).append(at)
        else:
            found[at] = search(view, each)
    for same in alike.values():
        for begin in range(0, len(same), _AT_ONCE):
            some = same[begin : begin + _AT_ONCE]
            found |= zip(some, _nearest_of_each(view, [queries[at] for at in some]), strict=True)
    return [found[at] for at in range(len(queries))]


def _nearest_of_each(view: View, queries: Sequence[Query]) -> list[Found]:
    """Of queries that differ in their vectors alone, and in what hits carry."""
    first = queries[0]
    if len(queries) == 1:
        return [search(view, first)]
    legs = [each.legs[0] for each in queries]
    vectors = [each.query for each in legs if isinstance(each, DenseLeg)]
    assert isinstance(legs[0], DenseLeg)
    search_of = DenseSearch.of(view, legs[0].vector)
    best = search_of.best_of_each(
        np.stack(vectors), first.k, candidates=first.params.candidates, filter_=filter_of(view, first),
        exact=first.params.exact, effort=first.params.effort,
    )  # fmt: skip
    return [
        _found_nearest(view, query, each, distances=search_of.is_distance)
        for query, each in zip(queries, best, strict=True)
    ]


def exact(view: View, query: Query) -> Found:
    """The same without any index: what an index is measured against."""
    return search(view, replace(query, params=replace(query.params, exact=True)))


def filter_of(view: View, query: Query) -> Filter | None:
    """What the query filters by, its tenant's points alone."""
    return for_tenant(query.filter, view.spec, query.tenant)


def _ranked(view: View, query: Query, wanted: int, told: list[str] | None) -> tuple[Scores, Longs]:
    """At most `wanted` scores and places."""
    filter_ = filter_of(view, query)
    pool = wanted
    if query.rerank is not None:
        pool = max(wanted, query.rerank.candidates or pool_of(wanted))
    if query.diversity is not None:
        pool = max(pool, query.diversity.candidates or pool_of(wanted))
    scores, places = _of_legs(view, query, pool, filter_, told)
    if query.rerank is not None:
        _tell(told, f"the best {len(places)} are scored again by multi-vector {quoted(query.rerank.vector)}")
        scores, places = rescored(view, query.rerank, places)
    if query.score_threshold is not None:
        scores, places = _above(view, query, scores, places)
    if query.diversity is not None:
        _tell(told, f"of {len(places)} those are chosen that differ by vector {quoted(query.diversity.vector)}")
        scores, places = diversified(view, query.diversity, scores, places, wanted)
    return scores[:wanted], places[:wanted]


def pool_of(wanted: int) -> int:
    """How many hits of a leg are fused, or scored again, for so many, where the query does not say."""
    return max(POOL_MIN, 4 * wanted)


def _of_legs(
    view: View, query: Query, pool: int, filter_: Filter | None, told: list[str] | None
) -> tuple[Scores, Longs]:
    if len(query.legs) == 1:
        return best_of_leg(view, query.legs[0], pool, filter_, query.params, told)
    depth = depth_of(query, pool)
    legs = [best_of_leg(view, each, depth, filter_, query.params, told) for each in query.legs]
    _tell(told, f"the best {depth} of each of {len(legs)} legs are fused {_way_of(query.fusion)}")
    return fused(legs, query.fusion, pool)


def depth_of(query: Query, pool: int) -> int:
    """How many hits of each of several legs are fused into `pool`."""
    return max(pool, query.fusion.depth or pool_of(pool))


def _way_of(fusion: RankFusion | ScoreFusion) -> str:
    weights = f", weights {', '.join(f'{each:g}' for each in fusion.weights)}" if fusion.weights else ""
    return f"by rank, k {fusion.k:g}{weights}" if isinstance(fusion, RankFusion) else f"by scaled score{weights}"


def _tell(told: list[str] | None, line: str) -> None:
    if told is not None:
        told.append(line)


def is_distance(spec: CollectionSpec, query: Query) -> bool:
    """Whether its scores are distances, the lower the better; inside they are negative squares of them."""
    if len(query.legs) > 1 or query.rerank is not None:
        return False
    leg = query.legs[0]
    return isinstance(leg, DenseLeg) and spec.vectors[leg.vector].metric == "l2"


def _told_scores(view: View, query: Query, scores: Scores) -> Scores:
    return _distances(scores) if is_distance(view.spec, query) else scores


def _above(view: View, query: Query, scores: Scores, places: Longs) -> tuple[Scores, Longs]:
    assert query.score_threshold is not None
    told = _told_scores(view, query, scores).astype(np.float64)
    kept = told <= query.score_threshold if is_distance(view.spec, query) else told >= query.score_threshold
    return scores[kept], places[kept]


def _grouped(view: View, query: Query, told: list[str] | None) -> tuple[Scores, Longs, list[PointId]]:
    """Scores, places and the group of each. More and more hits are looked at, until the groups are full or there are no more.
    Where only few groups lack some, and scores do not depend on what else is found, these are searched for instead: rare values,
    or fewer than are wanted, would take all hits there are."""
    assert query.group_by is not None
    wanted = query.k + query.offset
    total = count(view, filter_of(view, query))
    pool = min(total, pool_of(wanted * query.group_by.size))
    while True:
        scores, places = _ranked(view, query, pool, told)
        groups = Groups(view, query.group_by, wanted)
        groups.add(places)
        if groups.full or len(places) < pool or pool >= total:
            break
        lacking = groups.lacking(_FILLED_MAX, filter_of(view, query))
        if lacking is not None and not lacking:
            break
        if lacking is not None and _is_alone(query):
            _tell(told, f"{len(lacking)} of {wanted} groups lack hits and are searched")
            scores, places = _filled(view, query, groups, lacking, scores, places)
            groups = Groups(view, query.group_by, wanted)
            groups.add(places)
            break
        pool = min(total, 4 * pool)
        told = None
    rows, values = groups.after(query.offset)
    return scores[rows], places[rows], values


def _is_alone(query: Query) -> bool:
    """Whether the score of a hit is its own, whatever other hits there are."""
    return len(query.legs) == 1 and query.rerank is None and query.diversity is None


def _filled(
    view: View, query: Query, groups: Groups, lacking: Sequence[PointId], scores: Scores, places: Longs
) -> tuple[Scores, Longs]:
    """What the groups have and the best of each value that lacks some, each once, best first."""
    assert query.group_by is not None
    rows, _ = groups.after(0)
    found = [(scores[rows], places[rows])]
    for value in lacking:
        one = replace(query, filter=of_value(query.filter, view.spec, query.group_by.field, value))
        found.append(_ranked(view, one, query.group_by.size, None))
    all_scores, all_places = (np.concatenate(each) for each in zip(*found, strict=True))
    all_places, first = np.unique(all_places, return_index=True)
    order = np.argsort(-all_scores[first], kind="stable")  # of equals the lower place first, as everywhere
    return all_scores[first][order], all_places[order]
