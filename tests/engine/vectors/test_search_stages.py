"""What comes before and after a ranking: legs fused, recommendations resolved, hits scored again and made diverse, and what they
carry; scrolling too. By hand and by plain Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidArgument, NotFound
from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, VectorSpec
from engine.vectors.filter import Filter, Group, HasId, Match, Range
from engine.vectors.fusion import fused
from engine.vectors.hits import hits_of
from engine.vectors.points import points_of
from engine.vectors.query import (
    DenseLeg,
    Diversity,
    MaxSim,
    Query,
    RankFusion,
    RecommendLeg,
    ScoreFusion,
    TextLeg,
)
from engine.vectors.recommend import resolved
from engine.vectors.rescoring import diversified, rescored
from engine.vectors.scroll import page
from engine.vectors.search import search
from engine.vectors.values import PointId
from engine.vectors.view import Longs, Singles
from tests.engine.vectors.core import Core, opened
from tests.engine.vectors.plain_collection import fused_scores

SPEC = CollectionSpec(
    vectors={"v": VectorSpec(3), "late": VectorSpec(2, metric="dot", multi=True)},
    sparse={"s": SparseSpec()},
    fields={
        "when": FieldSpec("datetime"), "whens": FieldSpec("datetime", array=True), "place": FieldSpec("geo"),
        "places": FieldSpec("geo", array=True), "n": FieldSpec("integer"), "tags": FieldSpec("keyword", array=True),
        "body": FieldSpec("text"), "ok": FieldSpec("bool"), "x": FieldSpec("float"),
    },
    growing_rows=100_000,
)  # fmt: skip
LETTERS = "aZé\U0001f600\uffee0"
"""Of one to four bytes: code points are ordered otherwise than UTF-16 is."""
AXES = np.eye(3, dtype=np.float32)


def filled(folder: Path, rows: Sequence[dict[str, Any]], spec: CollectionSpec = SPEC, *, sealed: int = 0) -> Core:
    """The first `sealed` of the rows in a segment, the others growing."""
    core = opened(folder, spec)
    if sealed:
        core.writer.upsert(points_of(spec, rows[:sealed]))
        core.indexer.flush()
    core.writer.upsert(points_of(spec, rows[sealed:]))
    return core


def three(late: Sequence[Any] = ((), (), ())) -> list[dict[str, Any]]:
    """A point on each axis."""
    return [
        {"id": at, "vector": {"v": AXES[at], "late": list(late[at])}, "payload": {"n": at}} for at in range(3)
    ]  # fmt: skip


def lists(*legs: Sequence[tuple[int, float]]) -> list[tuple[Singles, Longs]]:
    """Legs as they are fused."""
    return [
        (np.array([score for _, score in each], np.float32), np.array([place for place, _ in each], np.int64))
        for each in legs
    ]  # fmt: skip


# Fusion.


@pytest.mark.parametrize("seed", range(5))
def test_fusion_is_what_plain_python_adds_up(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(30):
        legs: list[list[tuple[int, float]]] = []
        for _ in range(source.randrange(1, 5)):
            places = source.sample(range(60), source.randrange(40))
            scores = sorted((round(source.uniform(-5, 5), 3) for _ in places), reverse=True)
            legs.append(list(zip(places, scores, strict=True)))
        weights = tuple(source.choice([0.0, 0.5, 2.0]) for _ in legs) if source.random() < 0.5 else ()
        by: RankFusion | ScoreFusion = ScoreFusion(weights)
        if source.random() < 0.5:
            by = RankFusion(source.choice([0.0, 10.0, 60.0]), weights)
        k = source.choice([1, 7, 100])
        expected = fused_scores([[(place, score) for place, score in each] for each in legs], by)
        scores_found, places_found = fused(lists(*legs), by, k)
        order = sorted(expected.values(), reverse=True)[:k]
        assert scores_found.tolist() == pytest.approx(order, abs=1e-5)
        assert [expected[each] for each in places_found.tolist()] == pytest.approx(order, abs=1e-5)


def test_a_hit_of_two_legs_comes_before_one_of_either() -> None:
    scores, places = fused(lists([(1, 9.0), (2, 8.0)], [(3, 5.0), (2, 4.0)]), RankFusion(), 10)
    assert places.tolist() == [2, 1, 3]
    assert scores.tolist() == pytest.approx([2 / 22, 1 / 21, 1 / 21])


def test_a_leg_that_finds_nothing_changes_nothing(tmp_path: Path) -> None:
    core = filled(tmp_path, three())
    alone = search(core.view, Query((DenseLeg("v", AXES[1]),), 3)).hits
    for fusion in (RankFusion(), ScoreFusion()):
        both = search(core.view, Query((DenseLeg("v", AXES[1]), TextLeg("body", "absent")), 3, fusion=fusion)).hits
        assert both[0].id == alone[0].id
        assert len(both) == 3
    core.close()


# Recommendations.


def vectors_of(name: str, ids: Sequence[PointId]) -> list[Singles | None]:
    """The axes by their number."""
    assert name == "v"
    return [AXES[each] if isinstance(each, int) and each < 3 else None for each in ids]


def test_a_recommendation_is_a_search_by_twice_the_liked_less_the_disliked_without_either() -> None:
    query = Query((RecommendLeg("v", (0, AXES[1]), (2,)),), 5, filter=Filter.of(Match("n", 1), SPEC))
    found = resolved(SPEC, query, vectors_of)
    (leg,) = found.legs
    assert isinstance(leg, DenseLeg)
    expected = np.array([1, 1, -1]) / 3**0.5
    assert leg.query == pytest.approx(expected, abs=1e-6)
    assert leg.query.dtype == np.float32
    assert found.filter == Filter.of(Group(must=(Match("n", 1),), must_not=(HasId((0, 2)),)), SPEC)


def test_liked_ones_alone_are_their_mean() -> None:
    (leg,) = resolved(SPEC, Query((RecommendLeg("v", (0, 1)),), 5), vectors_of).legs
    assert isinstance(leg, DenseLeg)
    assert leg.query == pytest.approx(np.array([1, 1, 0]) / 2**0.5, abs=1e-6)


def test_a_query_without_recommendations_stays_itself() -> None:
    query = Query((DenseLeg("v", AXES[0]), TextLeg("body", "x")), 5)
    assert resolved(SPEC, query, vectors_of) is query


def test_examples_that_are_not_there_or_cancel_out_are_told() -> None:
    with pytest.raises(NotFound, match="example 7 of vector 'v'"):
        resolved(SPEC, Query((RecommendLeg("v", (0, 7)),), 5), vectors_of)
    with pytest.raises(InvalidArgument, match="examples of vector 'v': their mean"):
        resolved(SPEC, Query((RecommendLeg("v", (AXES[0], -AXES[0])),), 5), vectors_of)


# Scored again, and made diverse.


def test_late_interaction_sums_the_best_of_each_token_and_nothing_comes_last(tmp_path: Path) -> None:
    core = filled(tmp_path, three([[[1, 0], [0, 1]], [], [[2, 0]]]), sealed=2)
    query = np.array([[1, 0], [0, 3]], np.float32)
    places = np.array([0, 1, (1 << 32) | 0], np.int64)
    scores, order = rescored(core.view, MaxSim("late", query), places)
    assert order.tolist() == [0, 1 << 32, 1]
    assert scores.tolist() == [4.0, 2.0, -np.inf]
    hits = search(core.view, Query((DenseLeg("v", AXES[1]),), 3, rerank=MaxSim("late", query))).hits
    assert [(each.id, each.score) for each in hits] == [(0, 4.0), (2, 2.0), (1, -np.inf)]
    core.close()


def test_diversity_puts_what_repeats_behind_what_is_new(tmp_path: Path) -> None:
    near = np.array([1, 0.02, 0], np.float32) / np.float32(1.0002)
    rows = [{"id": at, "vector": {"v": each}, "payload": {}} for at, each in enumerate([AXES[0], near, AXES[1]])]
    core = filled(tmp_path, rows)
    query = Query((DenseLeg("v", (AXES[0] + 0.3 * AXES[1]) / np.float32(1.044)),), 3)
    assert [each.id for each in search(core.view, query).hits] == [1, 0, 2]
    diverse = [search(core.view, Query(query.legs, 3, diversity=Diversity("v", each))).hits for each in (1.0, 0.3)]
    assert [[each.id for each in hits] for hits in diverse] == [[1, 0, 2], [1, 2, 0]]
    nothing = np.empty(0, np.float32), np.empty(0, np.int64)
    assert diversified(core.view, Diversity("v"), *nothing, 5)[1].tolist() == []
    core.close()


# What hits carry.


PAYLOAD = {
    "when": "2026-01-31T00:00:00.000001Z", "whens": ["1970-01-01T00:00:01Z", 5], "place": {"lat": 1.5, "lon": -2.0},
    "places": [{"lat": 1, "lon": 2}, {"lat": 3, "lon": 4}], "n": -7, "tags": ["a", "b"], "body": "some words",
    "ok": False, "x": 0.25,
}  # fmt: skip
CARRIED = {
    "when": 1769817600000001, "whens": [1_000_000, 5], "place": (1.5, -2.0), "places": [(1.0, 2.0), (3.0, 4.0)],
    "n": -7, "tags": ["a", "b"], "body": "some words", "ok": False, "x": 0.25,
}  # fmt: skip


@pytest.mark.parametrize("sealed", [0, 1, 2])
def test_hits_carry_python_values_and_nothing_for_null(sealed: int, tmp_path: Path) -> None:
    vector = {"v": AXES[0], "late": [[1, 2], [3, 4]], "s": {"indices": [3, 9], "values": [0.5, -1.0]}}
    rows = [
        {"id": 1, "vector": vector, "payload": PAYLOAD},
        {"id": 2, "vector": {"v": AXES[1]}, "payload": {"tags": []}},
    ]
    core = filled(tmp_path, rows, sealed=sealed)
    query = Query((DenseLeg("v", AXES[0]),), 2, payload=tuple(SPEC.fields), vectors=("v", "late", "s"))
    full, bare = search(core.view, query).hits
    assert (full.id, full.payload, bare.id, bare.payload) == (1, CARRIED, 2, {"tags": []})
    assert all(each.vectors["v"].dtype == np.float32 for each in (full, bare))
    assert full.vectors["v"].tolist() == AXES[0].tolist()
    assert full.vectors["late"].tolist() == [[1, 2], [3, 4]]
    assert [each.tolist() for each in full.vectors["s"]] == [[3, 9], [0.5, -1.0]]
    assert bare.vectors["v"].tolist() == AXES[1].tolist()
    assert "s" not in bare.vectors
    some = search(core.view, Query((DenseLeg("v", AXES[0]),), 1, payload=("n",))).hits[0]
    assert (some.payload, some.vectors) == ({"n": -7}, {})
    core.close()


def test_hits_come_in_the_order_of_their_places_whatever_parts_they_are_in(tmp_path: Path) -> None:
    rows = [{"id": each, "vector": {"v": AXES[0]}, "payload": {"n": each}} for each in range(40)]
    core = filled(tmp_path, rows, sealed=25)
    source = random.Random(1)
    order = source.sample(range(40), 40)
    places = [each if each < 25 else (1 << 32) | (each - 25) for each in order]
    hits = hits_of(core.view, [float(each) for each in order], np.array(places, np.int64), ("n",))
    assert [(each.id, each.score, each.payload["n"]) for each in hits] == [(each, float(each), each) for each in order]
    core.close()


# Page by page.


@pytest.mark.parametrize("kind", ["integer", "text"])
@pytest.mark.parametrize("limit", [1, 7, 256, 1_000])
def test_scrolling_shows_each_living_point_once_by_ascending_id(kind: str, limit: int, tmp_path: Path) -> None:
    source = random.Random(limit)
    spec = CollectionSpec(
        vectors={"v": VectorSpec(3)}, id=kind, fields={"n": FieldSpec("integer")}, growing_rows=100_000  # type: ignore[arg-type]
    )  # fmt: skip
    numbers = {source.randrange(1 << 64) for _ in range(600)}
    names = {"".join(source.choices(LETTERS, k=source.randrange(1, 6))) for _ in range(900)}
    ids: list[Any] = sorted(numbers if kind == "integer" else names)
    source.shuffle(ids)
    rows = [{"id": each, "vector": {"v": AXES[0]}, "payload": {"n": at % 10}} for at, each in enumerate(ids)]
    core = filled(tmp_path, rows, spec, sealed=len(rows) // 2)
    again = [{**each, "payload": {"n": 3}} for each in source.sample(rows, 60)]
    core.writer.upsert(points_of(spec, again))
    gone = source.sample(ids, 50)
    core.writer.delete(gone)
    n_of = {each["id"]: each["payload"]["n"] for each in [*rows, *again]}
    for filter_, wanted in ((None, range(10)), (Filter.of(Range("n", gte=2, lte=3), spec), (2, 3))):
        expected = sorted(each for each in set(ids) - set(gone) if n_of[each] in wanted)
        found: list[Any] = []
        after: PointId | None = None
        while True:
            places, last = page(core.view, filter_, limit, after)
            found += [each.id for each in hits_of(core.view, [0.0] * len(places), places)]
            assert len(places) == limit or last is None
            if last is None:
                break
            assert last == found[-1]
            assert len(found) <= len(expected), "a page came again"
            after = last
        assert found == expected
    core.close()


def test_a_page_past_the_end_and_one_of_nothing_are_empty(tmp_path: Path) -> None:
    core = opened(tmp_path, SPEC)
    places, last = page(core.view, None, 5, None)
    assert (places.tolist(), last) == ([], None)
    core.writer.upsert(points_of(SPEC, three()))
    assert page(core.view, None, 5, 2)[1] is None
    assert page(core.view, None, 5, (1 << 64) - 1)[0].tolist() == []
    places, last = page(core.view, None, 3, None)
    assert (len(places), last) == (3, None)
    assert page(core.view, None, 2, None)[1] == 1
    core.close()
