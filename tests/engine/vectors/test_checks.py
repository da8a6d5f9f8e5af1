"""What a search may ask: it comes back ready to be run, or with the one message that says why not."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidArgument, TooLarge, VireoError
from engine.limits import SEARCH_CANDIDATES_MAX, SEARCH_K_MAX, SPARSE_VALUES_MAX
from engine.vectors.checks import check_names, check_tenant, checked_ids, checked_query
from engine.vectors.filter import Filter, Group, Match
from engine.vectors.query import (
    DenseLeg,
    Diversity,
    GroupBy,
    Leg,
    MaxSim,
    Query,
    RankFusion,
    RecommendLeg,
    ScoreFusion,
    SearchParams,
    SparseLeg,
    TextLeg,
)
from tests.engine.vectors.test_points import NAMED, OWNED, SPEC

UNIT = np.array([0.6, 0.0, 0.8], np.float32)
FAR = np.array([3.0, -4.0], np.float32)
DENSE = DenseLeg("text", UNIT)
SPARSE = SparseLeg("splade", np.array([1, 7], np.uint32), np.array([0.5, 2.0], np.float32))
TEXT = TextLeg("title", "some words")
LIKE = RecommendLeg("text", (1, UNIT), (3,))
QUERY = Query((DENSE,), 10)


def refused(message: str, query: Query, kind: type[VireoError] = InvalidArgument) -> None:
    """SPEC's collection says exactly so."""
    with pytest.raises(kind) as caught:
        checked_query(SPEC, query)
    assert caught.value.message == message


def leg(message: str, *legs: Leg, kind: type[VireoError] = InvalidArgument) -> None:
    """A leg alone is refused so; beside another its place is told."""
    refused(message, Query(legs, 10), kind)
    refused(f"legs[1]: {message}", Query((DENSE, *legs), 10), kind)


def test_a_query_that_is_fine_comes_back_as_it_is() -> None:
    for query in (
        QUERY,
        Query(
            (DenseLeg("far", FAR), TEXT), 1, SEARCH_K_MAX - 1, fusion=ScoreFusion((1.0, 0.0), 50), score_threshold=-1e30
        ),
        replace(
            QUERY, filter=Filter.of(Match("colour", "red"), SPEC), payload=("colour", "tags"), vectors=("text", "words")
        ),
        replace(QUERY, group_by=GroupBy("colour", 3), diversity=Diversity("far", 0, 100)),
        replace(QUERY, params=SearchParams(SEARCH_CANDIDATES_MAX, exact=True), fusion=RankFusion(0, (2,), 7)),
        Query((TextLeg("title", ""),), 1),
    ):
        assert checked_query(SPEC, query) is query


def test_a_vector_of_cosine_gets_length_1_and_others_stay() -> None:
    for scale in (1e-30, 0.5, 1e30):
        found = checked_query(SPEC, Query((DenseLeg("text", UNIT * np.float32(scale)),), 10)).legs[0]
        assert isinstance(found, DenseLeg)
        np.testing.assert_allclose(found.query, UNIT, rtol=1e-6)
        assert found.query.dtype == np.float32
    huge = DenseLeg("far", FAR * np.float32(1e37))  # whose squares are past float32
    assert checked_query(SPEC, Query((huge,), 10)).legs[0] is huge


@pytest.mark.parametrize(
    "given",
    [
        [0.6, 0, 0.8], (0.6, 0, 0.8), UNIT.astype(np.float64), np.repeat(UNIT, 2)[::2],
        np.frombuffer(b"x" + UNIT.tobytes(), np.uint8)[1:].view(np.float32),
    ],
)  # fmt: skip
def test_a_vector_may_be_any_list_or_array_and_becomes_one_that_kernels_take(given: Any) -> None:  # noqa: ANN401
    found = checked_query(SPEC, Query((DenseLeg("text", given),), 10)).legs[0]
    assert isinstance(found, DenseLeg)
    assert found.query.flags.c_contiguous
    assert found.query.flags.aligned
    np.testing.assert_allclose(found.query, UNIT, rtol=1e-6)


def test_what_is_no_vector_is_refused() -> None:
    nan, inf = np.array([0, np.nan, 1], np.float32), np.array([3, -np.inf], np.float32)
    leg("vector 'text': expected 3 dimensions, got 2", DenseLeg("text", FAR))
    leg("vector 'text': expected finite numbers of 32 bits, got nan at dimension 1", DenseLeg("text", nan))
    leg("vector 'far': expected finite numbers of 32 bits, got -inf at dimension 1", DenseLeg("far", inf))
    leg("vector 'text': its length is 0, and cosine needs a direction", DenseLeg("text", np.zeros(3, np.float32)))
    leg("vector 'text': expected an array of 1 dimension, got shape (1, 3)", DenseLeg("text", UNIT[np.newaxis]))
    leg("vector 'text': [1]: expected numbers, got '1'", DenseLeg("text", [1, "1", 2]))  # type: ignore[arg-type]
    leg("no vector 'txt'; nearest: 'text'", DenseLeg("txt", UNIT))
    leg("vector 'splade' is sparse, expected a dense one", DenseLeg("splade", UNIT))
    leg("vector 'words' is a multi-vector: it scores candidates again, and is not searched", DenseLeg("words", FAR))


def test_sparse_legs_ascend() -> None:
    found = checked_query(SPEC, Query((SparseLeg("splade", [1, 7], [0.5, 2]),), 10)).legs[0]  # type: ignore[arg-type]
    assert isinstance(found, SparseLeg)
    assert found.indices.dtype == np.uint32
    assert found.values.dtype == np.float32

    def bad(message: str, indices: Any, values: Any, kind: type[VireoError] = InvalidArgument) -> None:  # noqa: ANN401
        leg(f"sparse vector 'splade': {message}", SparseLeg("splade", indices, values), kind=kind)

    bad("indices: expected to ascend strictly, got 1 after 1", [1, 1], [1, 2])
    bad("indices: expected to ascend strictly, got 1 after 2", np.array([2, 1], np.uint32), [1, 2])
    bad("1 indices for 2 values", [1], [1, 2])
    bad("expected finite numbers of 32 bits, got nan at dimension 0", [1], [float("nan")])
    bad("expected whole numbers of 32 bits, unsigned", [-1], [1])
    many = SPARSE_VALUES_MAX + 1
    bad("65537 values, at most 65536 are allowed", np.arange(many), np.ones(many), kind=TooLarge)
    leg("no sparse vector 'splaid'; nearest: 'splade'", replace(SPARSE, name="splaid"))


def test_text_legs_are_of_text_fields() -> None:
    leg("no field 'titel'; nearest: 'title'", TextLeg("titel", "x"))
    leg("field 'colour' is keyword, expected text to be searched by words", TextLeg("colour", "x"))
    leg("field 'title': expected text of valid Unicode, got '\\udc80'", TextLeg("title", "\udc80"))
    leg("field 'title': expected a string, got 7", TextLeg("title", 7))  # type: ignore[arg-type]
    leg("field 'title': 70000 bytes of text, at most 65536 are allowed", TextLeg("title", "x" * 70_000), kind=TooLarge)


def test_examples_are_ids_or_vectors() -> None:
    found = checked_query(SPEC, Query((RecommendLeg("text", (5, UNIT * 2), (np.array([0, 1, 0]),)),), 10)).legs[0]
    assert isinstance(found, RecommendLeg)
    assert found.positive[0] == 5
    np.testing.assert_allclose(np.asarray(found.positive[1]), UNIT, rtol=1e-6)
    leg("positive: expected one example at least", RecommendLeg("text", ()))
    leg("positive[1]: expected an id of 64 bits, unsigned, got 'a'", RecommendLeg("text", (1, "a")))
    leg("negative[0]: vector 'text': expected 3 dimensions, got 2", RecommendLeg("text", (1,), (FAR,)))
    leg("no vector 'txt'; nearest: 'text'", RecommendLeg("txt", (1,)))
    leg("1001 examples, at most 1000 are allowed", RecommendLeg("text", (1,) * 1000, (2,)), kind=TooLarge)


@pytest.mark.parametrize(
    ("message", "query"),
    [
        ("k: expected from 1 to 10000, got 0", replace(QUERY, k=0)),
        ("k: expected from 1 to 10000, got -5", replace(QUERY, k=-5)),
        ("k: expected from 1 to 10000, got 10001", replace(QUERY, k=SEARCH_K_MAX + 1)),
        ("k: expected from 1 to 10000, got True", replace(QUERY, k=True)),
        ("k: expected from 1 to 10000, got 2.0", replace(QUERY, k=2.0)),  # type: ignore[arg-type]
        ("k: expected at most 10000, the offset among them, got 10001", replace(QUERY, k=1, offset=SEARCH_K_MAX)),
        ("offset: expected 0 or more, got -1", replace(QUERY, offset=-1)),
        ("legs: expected from 1 to 16, got 0", replace(QUERY, legs=())),
        ("legs: expected from 1 to 16, got 17", replace(QUERY, legs=(DENSE,) * 17)),
        ("legs[0]: expected a leg, got 7", replace(QUERY, legs=(7,))),  # type: ignore[arg-type]
        ("filter: expected a filter, got a Group", replace(QUERY, filter=Group())),  # type: ignore[arg-type]
        ("score_threshold: expected a finite number, got nan", replace(QUERY, score_threshold=float("nan"))),
        ("effort: expected from 0.01 to 100, got 0", replace(QUERY, params=SearchParams(effort=0))),
        ("effort: expected from 0.01 to 100, got nan", replace(QUERY, params=SearchParams(effort=float("nan")))),
        ("candidates: expected from 1 to 100000, got 0", replace(QUERY, params=SearchParams(0))),
        ("candidates: expected from 1 to 100000, got 100001", replace(QUERY, params=SearchParams(100_001))),
        ("fusion.weights: expected one for each of 1 legs, got 2", replace(QUERY, fusion=RankFusion(weights=(1, 1)))),
        ("fusion.weights[0]: expected 0 or more, got -1", replace(QUERY, fusion=ScoreFusion((-1,)))),
        ("fusion.weights[0]: expected a finite number, got inf", replace(QUERY, fusion=ScoreFusion((float("inf"),)))),
        ("fusion.weights: expected one above 0 at least", replace(QUERY, fusion=ScoreFusion((0.0,)))),
        ("fusion.depth: expected from 1 to 10000, got 0", replace(QUERY, fusion=ScoreFusion(depth=0))),
        ("fusion.k: expected 0 or more, got -1", replace(QUERY, fusion=RankFusion(k=-1))),
        ("payload: no field 'color'; nearest: 'colour'", replace(QUERY, payload=("size", "color"))),
        ("vectors: no vector 'txt'; nearest: 'text'", replace(QUERY, vectors=("txt",))),
        ("vectors: vector 'splade' is sparse, expected a dense one", replace(QUERY, vectors=("splade",))),
        ("group_by: no field 'color'; nearest: 'colour'", replace(QUERY, group_by=GroupBy("color"))),
        ("group_by: field 'price' is float, expected keyword or integer", replace(QUERY, group_by=GroupBy("price"))),
        (
            "group_by: field 'tags' is an array of keyword, expected keyword or integer",
            replace(QUERY, group_by=GroupBy("tags")),
        ),
        ("group_by.size: expected from 1 to 10000, got 0", replace(QUERY, group_by=GroupBy("colour", 0))),
        (
            "group_by: expected at most 10000 hits of all groups, got 110 groups of 100",
            replace(QUERY, offset=100, group_by=GroupBy("colour", 100)),
        ),
        ("diversity: no vector 'txt'; nearest: 'text'", replace(QUERY, diversity=Diversity("txt"))),
        ("diversity.weight: expected from 0 to 1, got 1.5", replace(QUERY, diversity=Diversity("text", 1.5))),
        (
            "diversity.weight: expected a finite number, got nan",
            replace(QUERY, diversity=Diversity("text", float("nan"))),
        ),
        ("diversity.candidates: expected from 1 to 10000, got 0", replace(QUERY, diversity=Diversity("text", 0.5, 0))),
        ("rerank: no vector 'wrds'; nearest: 'words'", replace(QUERY, rerank=MaxSim("wrds", FAR))),
        ("rerank: vector 'text' is no multi-vector", replace(QUERY, rerank=MaxSim("text", UNIT))),
        (
            "rerank: vector 'words': expected an array of 2 dimensions, got shape (2,)",
            replace(QUERY, rerank=MaxSim("words", FAR)),
        ),
        (
            "rerank: vector 'words': [0]: expected 2 dimensions, got 3",
            replace(QUERY, rerank=MaxSim("words", np.zeros((2, 3), np.float32))),
        ),
        (
            "rerank: vector 'words': [1]: expected finite numbers of 32 bits, got nan at dimension 0",
            replace(QUERY, rerank=MaxSim("words", np.array([[1, 2], [np.nan, 1]], np.float32))),
        ),
        (
            "rerank: vector 'words': expected one vector at least",
            replace(QUERY, rerank=MaxSim("words", np.zeros((0, 2), np.float32))),
        ),
        (
            "rerank.candidates: expected from 1 to 10000, got 10001",
            replace(QUERY, rerank=MaxSim("words", FAR[np.newaxis], 10_001)),
        ),
    ],
)
def test_what_cannot_be_asked_is_named(message: str, query: Query) -> None:
    refused(message, query)


def test_what_candidates_are_scored_by_again_is_a_matrix() -> None:
    rerank = MaxSim("words", [[1, 2], [3, 4]], 50)  # type: ignore[arg-type]  # made one
    found = checked_query(SPEC, replace(QUERY, rerank=rerank)).rerank
    assert found is not None
    assert found.query.dtype == np.float32
    assert (found.query.tolist(), found.candidates) == ([[1, 2], [3, 4]], 50)


def test_a_tenant_is_named_where_there_are_tenants_alone() -> None:
    query = Query((DenseLeg("text", np.array([0, 1], np.float32)),), 5)
    assert checked_query(OWNED, replace(query, tenant="me")).tenant == "me"
    with pytest.raises(InvalidArgument, match=r"^tenant: must be given"):
        checked_query(OWNED, query)
    with pytest.raises(InvalidArgument, match=r"^tenant: the collection has no tenants"):
        checked_query(SPEC, replace(QUERY, tenant="me"))
    with pytest.raises(InvalidArgument, match=r"^tenant: expected 1 to 255 bytes, got 256"):
        check_tenant(OWNED, "é" * 128)


def test_ids_and_names_are_checked_alone_too() -> None:
    assert checked_ids(SPEC, [1, (1 << 64) - 1]) == [1, (1 << 64) - 1]
    assert checked_ids(NAMED, ["a"]) == ["a"]
    with pytest.raises(InvalidArgument, match=r"^ids\[1\]: expected an id of 64 bits, unsigned, got 'a'$"):
        checked_ids(SPEC, [1, "a"])
    check_names(SPEC, payload=("tags",), vectors=("words",))
    with pytest.raises(InvalidArgument, match=r"^payload: no field 'tag'; nearest: 'tags'$"):
        check_names(SPEC, payload=("tag",))


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_asked_is_ready_to_be_run_or_refused_with_an_error(seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    names: list[Any] = ["", "text", "words", "far", "colour", "title", "splade", "\ud800", "x" * 1000]
    numbers: list[Any] = [
        None,
        True,
        0,
        1,
        -1,
        1 << 70,
        0.5,
        float("nan"),
        float("inf"),
        10**400,
        "1",
        [],
        np.float32(2),
    ]
    vectors: list[Any] = [
        *numbers, [1], [0.5, 2], [1, 2, "3"], [[1, 2, 3]], {}, UNIT, FAR, UNIT.astype(object), np.zeros((2, 2)), b"12",
        np.zeros((0, 2)), np.array(1.0), np.array([1, 1], np.uint32), np.array([0, 1e300, 2]), [10**400] * 3, range(3),
    ]  # fmt: skip
    whole = Query(
        (DENSE, SPARSE, TEXT, LIKE), 10, 5, group_by=GroupBy("colour"), diversity=Diversity("text"),
        rerank=MaxSim("words", FAR[np.newaxis]), payload=("tags",), vectors=("text",), fusion=RankFusion(weights=(1, 1, 1, 1)),
    )  # fmt: skip

    def spoilt(value: Any) -> Any:  # noqa: ANN401
        """One field, at any depth, is something odd that a client may have said."""
        name = dice.choice([*value.__dataclass_fields__])
        now = getattr(value, name)
        if hasattr(now, "__dataclass_fields__"):
            return replace(value, **{name: spoilt(now)})
        if isinstance(now, tuple) and now:
            at = dice.randrange(len(now))
            each = now[at]
            if hasattr(each, "__dataclass_fields__"):
                odd = spoilt(each)
            else:
                odd = dice.choice(names if isinstance(each, str) else vectors)
            return replace(value, **{name: (*now[:at], odd, *now[at + 1 :])})
        odd = dice.choice(names if isinstance(now, str) else vectors if isinstance(now, np.ndarray) else numbers)
        return replace(value, **{name: odd})

    for _ in range(2_000):
        query = spoilt(whole)
        try:
            found = checked_query(SPEC, query)
        except VireoError:
            continue
        for each in found.legs:
            if isinstance(each, DenseLeg):
                assert each.query.dtype == np.float32
                assert np.isfinite(each.query).all()
