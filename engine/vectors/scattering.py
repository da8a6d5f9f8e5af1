"""One search as searches of every shard, and their hits as its answer. Pure.

Shards have different points, so the best of all are among the best of each: hits are merged by their scores. Hits of several legs
are fused by their ranks among all, so each leg is a search of its own, merged before it is fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from engine.errors import Unimplemented
from engine.limits import SEARCH_K_MAX
from engine.vectors.declaration import CollectionSpec
from engine.vectors.found_elsewhere import HitColumns, one_after_other
from engine.vectors.fusion import fused
from engine.vectors.query import Diversity, Query, RankFusion
from engine.vectors.search import depth_of, is_distance, pool_of
from engine.vectors.values import PointId
from engine.vectors.view import Longs
from kernels.ranking import diverse
from kernels.relevance import scaled


def check_scattered(query: Query) -> None:
    """Raises Unimplemented for what needs the points of several shards in one place."""
    several = len(query.legs) > 1
    if query.rerank is not None and several:
        raise Unimplemented("rerank: over shards it goes with one leg, not with several")
    if query.group_by is not None and (several or query.group_by.size > 1 or query.diversity is not None):
        raise Unimplemented("group_by: over shards it goes with one leg, one hit a group, and no diversity")
    wanted = scattered(query)[0].k
    if wanted > SEARCH_K_MAX:
        raise Unimplemented(
            f"k: over shards at most {SEARCH_K_MAX} hits of a leg can be merged, and the search needs {wanted}"
        )


def scattered(query: Query) -> list[Query]:
    """What every shard is asked, each for as many hits."""
    pool = _pool_of(query)
    part = replace(query, k=pool, offset=0)
    if query.diversity is not None:
        vectors = dict.fromkeys((*query.vectors, query.diversity.vector))
        part = replace(part, diversity=None, vectors=tuple(vectors))
    if len(query.legs) == 1:
        return [part]
    alone = replace(part, k=depth_of(query, pool), fusion=RankFusion(), score_threshold=None)
    return [replace(alone, legs=(each,)) for each in query.legs]


def _pool_of(query: Query) -> int:
    """How many hits the answer is chosen of."""
    wanted = query.k + query.offset
    if query.diversity is None:
        return wanted
    return max(wanted, query.diversity.candidates or pool_of(wanted))


def gathered(spec: CollectionSpec, query: Query, answers: Sequence[Sequence[HitColumns]]) -> HitColumns:
    """The answer: by what was asked (see `scattered`) the hits of each shard that answered, at least one."""
    legs = [_merged(spec, part, each) for part, each in zip(scattered(query), answers, strict=True)]
    found = legs[0] if len(legs) == 1 else _fused(spec, query, legs)
    if query.diversity is not None:
        found = _diversified(spec, query, query.diversity, found)
    return found.take(np.arange(query.offset, max(query.offset, len(found))))


def _merged(spec: CollectionSpec, query: Query, shards: Sequence[HitColumns]) -> HitColumns:
    """The best `k` hits of all shards, of each group the best one."""
    every = one_after_other(shards)
    order: Longs = np.argsort(every.scores if is_distance(spec, query) else -every.scores, kind="stable")
    if every.groups is not None:
        best = dict[PointId, int]()
        for row in order.tolist():
            best.setdefault(every.groups[row], row)
        order = np.array(list(best.values()), np.int64)
    return every.take(order[: query.k])


def _fused(spec: CollectionSpec, query: Query, legs: Sequence[HitColumns]) -> HitColumns:
    every = one_after_other(legs)
    ids = every.ids.tolist()
    first = {id_: row for row, id_ in reversed(list(enumerate(ids)))}
    starts = np.cumsum([0, *map(len, legs)])
    ranked = []
    for at, (part, leg) in enumerate(zip(scattered(query), legs, strict=True)):
        scores = _inside(spec, part, leg).astype(np.float32, copy=False)
        rows = np.array([first[id_] for id_ in ids[starts[at] : starts[at + 1]]], np.int64)
        ranked.append((scores, rows))
    sums, rows = fused(ranked, query.fusion, _pool_of(query))
    if query.score_threshold is not None:
        above = sums >= query.score_threshold
        sums, rows = sums[above], rows[above]
    return replace(every.take(rows), scores=sums)


def _diversified(spec: CollectionSpec, query: Query, by: Diversity, found: HitColumns) -> HitColumns:
    """See `rescoring.diversified`. Hits carry the vectors that were asked for alone."""
    chosen = np.empty(min(query.k + query.offset, len(found)), np.int64)
    if len(found) and found.vectors is not None:
        vectors = np.stack([each[by.vector] for each in found.vectors])
        chosen = chosen[: diverse(vectors, scaled(_inside(spec, query, found)), by.weight, chosen)]
    best = found.take(chosen)
    carried = [{name: each[name] for name in query.vectors} for each in best.vectors or ()]
    return replace(best, vectors=carried if query.vectors else None)


def _inside(spec: CollectionSpec, query: Query, found: HitColumns) -> npt.NDArray[np.floating]:
    """Scores as they are where they are found, the higher the better."""
    scores: npt.NDArray[np.floating] = -(found.scores**2) if is_distance(spec, query) else found.scores
    return scores
