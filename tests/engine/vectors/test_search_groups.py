"""Hits by the values of a field: the best groups with their best hits, whatever it takes to find them; brute force beside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, VectorSpec
from engine.vectors.filter import Filter, Range
from engine.vectors.points import points_of
from engine.vectors.query import (
    DenseLeg,
    Diversity,
    GroupBy,
    Leg,
    Query,
    RankFusion,
    SearchParams,
    SparseLeg,
    TextLeg,
)
from engine.vectors.search import search
from engine.vectors.values import PointId
from tests.engine.vectors.core import Core, opened
from tests.engine.vectors.plain_collection import check_groups

SIZE = 32
ROWS = 4_000
Points = dict[PointId, dict[str, Any]]


@dataclass(slots=True)
class Grouped:
    """A collection of two parts, a twelfth dead, and what is in it."""

    core: Core
    living: Points

    def values(self, field: str) -> dict[PointId, Any]:
        """Of each point that has one."""
        return {id_: each["payload"].get(field) for id_, each in self.living.items()}

    def scores(self, leg: Leg) -> dict[PointId, float]:
        """By a search for all: single legs are checked elsewhere."""
        query = Query((leg,), 10_000, params=SearchParams(exact=True))
        return {each.id: each.score for each in search(self.core.view, query).hits}


@pytest.fixture(scope="module", params=["cosine", "l2"])
def grouped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grouped]:
    """Values that half of the points have, that few have, and that are left out."""
    source, numbers = random.Random(3), np.random.default_rng(3)
    spec = CollectionSpec(
        vectors={"v": VectorSpec(SIZE, metric=request.param)}, sparse={"s": SparseSpec()},
        fields={"kind": FieldSpec("keyword"), "number": FieldSpec("integer"), "body": FieldSpec("text"),
                "n": FieldSpec("integer")},
        growing_rows=100_000,
    )  # fmt: skip
    core, living = opened(tmp_path_factory.mktemp("grouped"), spec), Points()
    for id_ in range(ROWS):
        payload: dict[str, Any] = {"body": f"word{id_ % 9} common", "n": id_}
        if source.random() < 0.95:
            payload["kind"] = f"kind{int(source.expovariate(0.15))}"
        if source.random() < 0.9:
            payload["number"] = source.randrange(-300, 300)
        vector = {
            "v": numbers.standard_normal(SIZE).astype(np.float32),
            "s": {"indices": [id_ % 5, 5 + id_ % 3], "values": [source.uniform(0.1, 2), 0.5]},
        }
        living[id_] = {"id": id_, "vector": vector, "payload": payload}
    core.writer.upsert(points_of(spec, [living[each] for each in range(3_000)]))
    core.indexer.flush()
    core.writer.upsert(points_of(spec, [living[each] for each in range(3_000, ROWS)]))
    gone: list[PointId] = list(range(0, ROWS, 12))
    core.writer.delete(gone)
    for each in gone:
        del living[each]
    yield Grouped(core, living)
    core.close()


def unit(source: random.Random) -> np.ndarray:
    """float32 [SIZE], of length 1."""
    found = np.random.default_rng(source.randrange(1 << 30)).standard_normal(SIZE)
    return (found / np.linalg.norm(found)).astype(np.float32)


def random_leg(source: random.Random) -> Leg:
    """Of any kind."""
    kind = source.choice(["dense", "dense", "text", "sparse"])
    if kind == "text":
        return TextLeg("body", f"word{source.randrange(9)} {source.choice(['common', ''])}")
    if kind == "sparse":
        return SparseLeg("s", np.array([source.randrange(5), 6], np.uint32), np.array([1.0, 0.3], np.float32))
    return DenseLeg("v", unit(source))


def is_distance(core: Core, leg: Leg) -> bool:
    """Whether the lower score is the better."""
    return isinstance(leg, DenseLeg) and core.fold.spec.vectors["v"].metric == "l2"


@pytest.mark.parametrize("seed", range(4))
def test_the_best_groups_come_with_their_best_hits(grouped: Grouped, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(12):
        leg, field = random_leg(source), source.choice(["kind", "number"])
        by, k, offset = (
            GroupBy(field, source.choice([1, 2, 7, 60])),
            source.choice([1, 4, 25]),
            source.choice([0, 0, 3]),
        )
        low = source.choice([None, 0, 3_500])
        filter_ = None if low is None else Filter.of(Range("n", gte=low), grouped.core.fold.spec)
        query = Query((leg,), k, offset=offset, filter=filter_, group_by=by, params=SearchParams(exact=True))
        scores = {id_: score for id_, score in grouped.scores(leg).items() if low is None or int(id_) >= low}
        hits = search(grouped.core.view, query).hits
        distances = is_distance(grouped.core, leg)
        check_groups(hits, scores, grouped.values(field), by.size, k, offset, distances=distances)


def test_rare_values_are_searched_for_instead_of_ranking_everything(grouped: Grouped) -> None:
    query = Query((DenseLeg("v", unit(random.Random(1))),), 5, group_by=GroupBy("number", 100))
    found = search(grouped.core.view, query, explain=True)
    assert "5 of 5 groups lack hits and are searched" in found.plans
    for value in {each.group for each in found.hits}:
        members = {id_ for id_, each in grouped.values("number").items() if each == value}
        assert {each.id for each in found.hits if each.group == value} == members


@pytest.mark.parametrize("rank", [3, 45, 900])
def test_a_threshold_holds_within_groups(grouped: Grouped, rank: int) -> None:
    leg = DenseLeg("v", unit(random.Random(2)))
    distances = is_distance(grouped.core, leg)
    ordered = sorted(grouped.scores(leg).items(), key=lambda each: each[1], reverse=not distances)
    bound = ordered[rank][1]
    good = dict(ordered[: rank + 1])
    query = Query(
        (leg,), 100, score_threshold=bound, group_by=GroupBy("kind", 4), params=SearchParams(exact=True)
    )  # fmt: skip
    hits = search(grouped.core.view, query).hits
    check_groups(hits, good, grouped.values("kind"), 4, 100, 0, distances=distances)


def test_groups_of_what_is_fused_are_full_too(grouped: Grouped) -> None:
    legs = (DenseLeg("v", unit(random.Random(4))), TextLeg("body", "word3 common"))
    query = Query(legs, 6, group_by=GroupBy("number", 3), fusion=RankFusion(), params=SearchParams(exact=True))
    hits = search(grouped.core.view, query).hits
    sizes = {value: sum(each.group == value for each in hits) for value in {each.group for each in hits}}
    there = {value: sum(each == value for each in grouped.values("number").values()) for value in sizes}
    assert sizes == {value: min(3, each) for value, each in there.items()}
    assert len(sizes) == 6
    diverse = search(grouped.core.view, replace(query, legs=legs[:1], diversity=Diversity("v"))).hits
    assert len({each.group for each in diverse}) == 6


def test_all_groups_come_where_there_are_fewer_and_points_without_a_value_in_none(grouped: Grouped) -> None:
    filter_ = Filter.of(Range("n", lt=40), grouped.core.fold.spec)
    query = Query((DenseLeg("v", unit(random.Random(5))),), 500, filter=filter_, group_by=GroupBy("number", 9))
    hits = search(grouped.core.view, query).hits
    expected = {id_ for id_, value in grouped.values("number").items() if int(id_) < 40 and value is not None}
    assert {each.id for each in hits} == expected
    assert all(grouped.values("number")[each.id] == each.group for each in hits)
