"""One search as searches of every shard, and their hits as its answer. Pure.

Shards have different points, so the best of all are among the best of each: hits are merged by their scores. Hits of several legs
are fused by their ranks among all, so each leg is a search of its own, merged before it is fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.errors import Unimplemented
from engine.limits import SEARCH_K_MAX
from engine.vectors.declaration import CollectionSpec
from engine.vectors.found_elsewhere import HitColumns, one_after_other
from engine.vectors.fusion import fused
from engine.vectors.query import Query, RankFusion
from engine.vectors.search import depth_of, is_distance
from engine.vectors.values import PointId
from engine.vectors.view import Longs, Singles


def check_scattered(query: Query) -> None:
    """Raises Unimplemented for what needs the points of several shards in one place."""
    several = len(query.legs) > 1
    if query.diversity is not None:
        raise Unimplemented("diversity: is not there over shards")
    if query.rerank is not None and several:
        raise Unimplemented("rerank: over shards it goes with one leg, not with several")
    if query.group_by is not None and (several or query.group_by.size > 1):
        raise Unimplemented("group_by: over shards it goes with one leg, and one hit a group")
    if several and (depth := depth_of(query, query.k + query.offset)) > SEARCH_K_MAX:
        raise Unimplemented(
            f"legs: over shards at most {SEARCH_K_MAX} hits of each can be fused, and k, offset and depth say {depth}"
        )


def scattered(query: Query) -> list[Query]:
    """What every shard is asked: a checked query that names no point."""
    wanted = query.k + query.offset
    if len(query.legs) == 1:
        return [replace(query, k=wanted, offset=0)]
    depth = depth_of(query, wanted)
    alone = replace(query, k=depth, offset=0, fusion=RankFusion(), score_threshold=None)
    return [replace(alone, legs=(each,)) for each in query.legs]


def gathered(spec: CollectionSpec, query: Query, answers: Sequence[Sequence[HitColumns]]) -> HitColumns:
    """The answer: by what was asked (see `scattered`) the hits of each shard that answered, at least one."""
    legs = [_merged(spec, part, each) for part, each in zip(scattered(query), answers, strict=True)]
    if len(legs) == 1:
        return legs[0].take(np.arange(query.offset, max(query.offset, len(legs[0]))))
    return _fused(spec, query, legs)


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
        scores: Singles = leg.scores.astype(np.float32, copy=False)
        if is_distance(spec, part):  # as they are fused where they are found
            scores = -(scores**2)
        rows = np.array([first[id_] for id_ in ids[starts[at] : starts[at + 1]]], np.int64)
        ranked.append((scores, rows))
    sums, rows = fused(ranked, query.fusion, query.k + query.offset)
    if query.score_threshold is not None:
        above = sums >= query.score_threshold
        sums, rows = sums[above], rows[above]
    return replace(every.take(rows[query.offset :]), scores=sums[query.offset :])
