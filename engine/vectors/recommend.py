"""A recommendation as a search by one vector: nearest to 2 mean(positive) - mean(negative), the examples left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from engine.errors import InvalidArgument, NotFound, quoted
from engine.vectors.checks import direction
from engine.vectors.declaration import CollectionSpec
from engine.vectors.filter import Filter, Group, HasId
from engine.vectors.query import DenseLeg, Leg, Query, RecommendLeg
from engine.vectors.values import PointId, echo
from engine.vectors.view import Singles

VectorsOf = Callable[[str, Sequence[PointId]], Sequence[Singles | None]]
"""Of points by their ids, in order; None where there is no such point."""


def resolved(spec: CollectionSpec, query: Query, vectors_of: VectorsOf) -> Query:
    """`query` without recommendations. Raises NotFound where an example is not there; InvalidArgument where they cancel out."""
    if not any(isinstance(each, RecommendLeg) for each in query.legs):
        return query
    legs: list[Leg] = []
    named = set[PointId]()
    for each in query.legs:
        if isinstance(each, RecommendLeg):
            legs.append(_leg(spec, each, vectors_of))
            named |= {one for one in (*each.positive, *each.negative) if isinstance(one, int | str)}
        else:
            legs.append(each)
    if not named:
        return replace(query, legs=tuple(legs))
    root = Group() if query.filter is None else query.filter.root
    without = replace(root, must_not=(*root.must_not, HasId(tuple(named))))
    return replace(query, legs=tuple(legs), filter=Filter.of(without, spec))


def _leg(spec: CollectionSpec, leg: RecommendLeg, vectors_of: VectorsOf) -> DenseLeg:
    named = [each for each in (*leg.positive, *leg.negative) if isinstance(each, int | str)]
    found: dict[PointId, Singles] = {}
    for id_, vector in zip(named, vectors_of(leg.vector, named), strict=True):
        if vector is None:
            raise NotFound(f"example {echo(id_)} of vector {quoted(leg.vector)}: no such point")
        # signs, and what a precision left of a direction, are not of the length that vectors given have
        found[id_] = direction(spec.vectors[leg.vector], vector)

    def mean(examples: Sequence[PointId | Singles]) -> Singles:
        total: Singles = np.mean([found[each] if isinstance(each, int | str) else each for each in examples], axis=0)
        return total

    query = 2 * mean(leg.positive) - mean(leg.negative) if leg.negative else mean(leg.positive)
    try:
        return DenseLeg(leg.vector, direction(spec.vectors[leg.vector], query.astype(np.float32)))
    except InvalidArgument as error:
        raise InvalidArgument(f"examples of vector {quoted(leg.vector)}: their mean: {error.message}") from error
