"""Searches of views: what is nearest over many parts, several at once, and how it is told; brute force beside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, SparseSpec, VectorSpec
from engine.vectors.filter import Filter, Match, Range
from engine.vectors.indexer import HEAD_ROWS
from engine.vectors.points import points_of
from engine.vectors.query import (
    DenseLeg,
    Diversity,
    GroupBy,
    Hit,
    Query,
    RankFusion,
    ScoreFusion,
    SearchParams,
    SparseLeg,
    TextLeg,
)
from engine.vectors.search import exact, search, search_many
from engine.vectors.view import View
from tests.engine.vectors.core import Core, opened

SIZE = 128
"""So that some thousand rows are quicker found by an index than scanned."""
Numbers = np.ndarray


def clustered(rows: int, size: int, seed: int, *, clusters: int = 40) -> Numbers:
    """float32 [rows, size], of length 1."""
    source = np.random.default_rng(seed)
    centres = source.standard_normal((clusters, size))
    found = centres[source.integers(0, clusters, rows)] + 0.7 * source.standard_normal((rows, size))
    unit: Numbers = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def spec_of(metric: str = "cosine", stored: str = "float32", kind: str = "auto", **more: Any) -> CollectionSpec:  # noqa: ANN401
    """One vector, a text, a sparse vector, a number."""
    vector = VectorSpec(SIZE, metric=metric, stored=stored, index=IndexSpec(kind=kind))  # type: ignore[arg-type]
    return CollectionSpec(
        vectors={"v": vector}, sparse={"s": SparseSpec()},
        fields={"n": FieldSpec("integer"), "body": FieldSpec("text"), "tag": FieldSpec("keyword")}, **more,
    )  # fmt: skip


def put(core: Core, vectors: Numbers, begin: int = 0) -> None:
    """Points of ids from `begin` on."""
    rows = [
        {
            "id": begin + at,
            "vector": {"v": each, "s": {"indices": [at % 7, 7 + at % 3], "values": [1.0, 0.5]}},
            "payload": {"n": (begin + at) % 1_000, "body": f"word{at % 5} common", "tag": f"t{at % 11}"},
        }
        for at, each in enumerate(vectors)
    ]
    core.writer.upsert(points_of(core.fold.spec, rows))


def ids_of(hits: list[Hit]) -> list[int]:
    """In order."""
    return [int(each.id) for each in hits]


def recall_of(view: View, queries: Numbers, **more: Any) -> float:  # noqa: ANN401
    """Of 10 hits, beside the truth that `exact` finds."""
    found, wanted = 0, 0
    for each in queries:
        query = Query((DenseLeg("v", each),), 10, **more)
        true = set(ids_of(exact(view, query).hits))
        found, wanted = found + len(true & set(ids_of(search(view, query).hits))), wanted + len(true)
    return found / wanted


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """Two sealed parts with indexes, one that grows; a tenth of all are dead."""
    core = opened(tmp_path_factory.mktemp("mixed"), spec_of(growing_rows=100_000))
    vectors = clustered(9_500, SIZE, 1)
    for begin, end in ((0, 6_000), (6_000, 9_000)):
        put(core, vectors[begin:end], begin)
        core.indexer.flush()
    put(core, vectors[9_000:], 9_000)
    core.writer.delete(list(range(0, 9_500, 10)))
    assert [each.part.indexed("v")[0] is not None for each in core.view.parts] == [True, True, False]
    yield core
    core.close()


def test_the_truth_is_what_brute_force_finds(mixed: Core) -> None:
    vectors = clustered(9_500, SIZE, 1)
    living = np.array([each for each in range(9_500) if each % 10])
    for each in clustered(20, SIZE, 2):
        scores = vectors[living] @ each
        best = np.argsort(-scores, kind="stable")[:10]
        hits = exact(mixed.view, Query((DenseLeg("v", each),), 10)).hits
        assert ids_of(hits) == living[best].tolist()
        assert [hit.score for hit in hits] == pytest.approx(scores[best].tolist(), abs=1e-5)


@pytest.mark.parametrize("bounds", [None, (0, 2), (0, 10), (0, 100), (200, 700), (50, 950)])
def test_an_index_finds_nearly_all_of_it_whatever_passes(mixed: Core, bounds: tuple[int, int] | None) -> None:
    filter_ = None if bounds is None else Filter.of(Range("n", gte=bounds[0], lt=bounds[1]), mixed.fold.spec)
    assert recall_of(mixed.view, clustered(60, SIZE, 3), filter=filter_) >= 0.97


def test_exactly_k_come_where_k_are_there(mixed: Core) -> None:
    query = DenseLeg("v", clustered(1, SIZE, 4)[0])
    for width in (1, 3, 30, 300):
        filter_ = Filter.of(Range("n", gte=5, lt=5 + width), mixed.fold.spec)
        there = sum(1 for each in range(9_500) if each % 10 and 5 <= each % 1_000 < 5 + width)
        for k in (1, 10, 100, 2_000, 10_000):
            for candidates in (None, 1):
                hits = search(mixed.view, Query((query,), k, filter=filter_, params=SearchParams(candidates))).hits
                assert len(hits) == len({each.id for each in hits}) == min(k, there)


def test_pages_by_offset_are_the_whole_in_pieces(mixed: Core) -> None:
    query = Query((DenseLeg("v", clustered(1, SIZE, 5)[0]),), 40, params=SearchParams(exact=True))
    whole = ids_of(search(mixed.view, query).hits)
    pages = [ids_of(search(mixed.view, replace(query, k=8, offset=at)).hits) for at in range(0, 40, 8)]
    assert [each for page in pages for each in page] == whole
    assert search(mixed.view, replace(query, offset=9_500)).hits == []


# Several at once.


def kinds(spec: CollectionSpec) -> list[Query]:
    """Queries of every kind, many alike."""
    legs = [DenseLeg("v", each) for each in clustered(80, SIZE, 6)]
    few, half = (Filter.of(Range("n", lt=each), spec) for each in (20, 500))
    found = [Query((each,), 10) for each in legs[:40]]
    found += [Query((each,), 10, filter=half) for each in legs[40:50]]
    found += [Query((each,), 10, filter=few, payload=("n",)) for each in legs[50:53]]
    found += [Query((each,), 5, params=SearchParams(exact=True)) for each in legs[53:56]]
    found += [Query((each,), 5, params=SearchParams(200), vectors=("v",)) for each in legs[56:58]]
    found += [Query((each,), 5, offset=3) for each in legs[58:60]]
    found += [Query((legs[60], TextLeg("body", "word1 common")), 7), Query((TextLeg("body", "word2"),), 4)]
    found += [Query((legs[61],), 3, group_by=GroupBy("tag")), Query((legs[62],), 3, diversity=Diversity("v"))]
    found += [Query((legs[63],), 9_000), Query((legs[64],), 1)]
    random.Random(1).shuffle(found)
    return found


def plain(hits: list[Hit]) -> list[Any]:
    """To be compared."""
    return [
        (each.id, each.score, dict(each.payload), {name: value.tolist() for name, value in each.vectors.items()}, each.group)
        for each in hits
    ]  # fmt: skip


def test_each_of_a_batch_is_answered_as_it_is_alone(mixed: Core) -> None:
    queries = kinds(mixed.fold.spec)
    found = search_many(mixed.view, queries)
    assert len(found) == len(queries)
    for query, each in zip(queries, found, strict=True):
        assert plain(each.hits) == plain(search(mixed.view, query).hits), query


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("stored", ["float32", "float16", "int8", "binary"])
def test_a_batch_is_scored_by_every_metric_and_precision(metric: str, stored: str, tmp_path: Path) -> None:
    if (metric, stored) == ("l2", "binary"):
        pytest.skip("no such collection")
    core = opened(tmp_path, spec_of(metric, stored, growing_rows=100_000))
    put(core, clustered(300, SIZE, 7))
    core.indexer.flush()
    put(core, clustered(50, SIZE, 8), 300)
    queries = [Query((DenseLeg("v", each),), 12) for each in clustered(9, SIZE, 9)]
    for query, each in zip(queries, search_many(core.view, queries), strict=True):
        assert plain(each.hits) == plain(search(core.view, query).hits)
    core.close()


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    core = opened(tmp_path, spec_of(growing_rows=100_000))
    queries = [*kinds(core.fold.spec), Query((DenseLeg("v", clustered(1, SIZE, 1)[0]),), 3, group_by=GroupBy("tag"))]
    assert search_many(core.view, []) == []
    assert [each.hits for each in search_many(core.view, queries)] == [[]] * len(queries)
    put(core, clustered(30, SIZE, 10))
    core.writer.delete(list(range(30)))
    assert [each.hits for each in search_many(core.view, queries)] == [[]] * len(queries)
    core.close()


def test_of_equals_the_older_point_comes_first(tmp_path: Path) -> None:
    core = opened(tmp_path, spec_of(growing_rows=100_000))
    same = np.repeat(clustered(1, SIZE, 11), 30, axis=0)
    put(core, same[:20])
    core.indexer.flush()
    put(core, same[20:], 20)
    for query in (Query((DenseLeg("v", same[0]),), 25), Query((DenseLeg("v", -same[0]),), 25)):
        assert ids_of(search(core.view, query).hits) == list(range(25))
    core.close()


# Parts whose last rows no index has yet.


@pytest.mark.parametrize("tail", [0, 1, HEAD_ROWS - 1])
def test_rows_past_an_index_do_not_cost_it_what_it_would_find(tail: int, tmp_path: Path) -> None:
    core = opened(tmp_path, spec_of(growing_rows=100_000))
    put(core, clustered(5_000, SIZE, 12))
    core.indexer.flush()
    core.writer.delete(list(range(5_000)))
    head = 2 * HEAD_ROWS
    put(core, clustered(head, SIZE, 13), 10_000)
    core.indexer.step()
    far = -clustered(head, SIZE, 13).mean(axis=0)
    put(core, np.tile(far / np.linalg.norm(far), (tail, 1)).astype(np.float32), 20_000)
    living = core.view.parts[-1]
    assert (living.part.rows, living.part.indexed("v")[1]) == (head + tail, head)
    queries = clustered(60, SIZE, 13)
    assert recall_of(core.view, queries, params=SearchParams(candidates=40)) >= 0.9
    told = search(core.view, Query((DenseLeg("v", queries[0]),), 10), explain=True).plans
    assert any("candidates from the index" in each for each in told), told
    core.close()


# What is told.


def test_plans_tell_of_each_part_and_why(mixed: Core) -> None:
    query = Query((DenseLeg("v", clustered(1, SIZE, 14)[0]),), 10)
    plans = search(mixed.view, query, explain=True).plans
    assert [each.split(":")[0] for each in plans] == [each.part.name for each in mixed.view.parts]
    assert plans[-1] == "growing: all 450 of 500 rows that may be found are scored; no index is there or wanted"
    assert search(mixed.view, query).plans == ()
    few = Filter.of(Match("n", 5), mixed.fold.spec)
    told = search(mixed.view, replace(query, filter=few), explain=True).plans
    assert all("no more are asked for" in each for each in told[:2]), told


def test_plans_tell_of_fusion_and_what_comes_after(mixed: Core) -> None:
    dense = DenseLeg("v", clustered(1, SIZE, 15)[0])
    sparse = SparseLeg("s", np.array([1, 8], np.uint32), np.array([1.0, 2.0], np.float32))
    query = Query((dense, TextLeg("body", "word1"), sparse), 10, fusion=RankFusion(weights=(1, 2, 0.5)))
    plans = search(mixed.view, query, explain=True).plans
    assert plans[-1] == "the best 100 of each of 3 legs are fused by rank, k 20, weights 1, 2, 0.5"
    assert any("terms in 9500 texts" in each for each in plans)
    assert any("indices in 9500 sparse vectors" in each for each in plans)
    scaled = replace(query, fusion=ScoreFusion(depth=150), diversity=Diversity("v"))
    plans = search(mixed.view, scaled, explain=True).plans
    assert plans[-2:] == (
        "the best 150 of each of 3 legs are fused by scaled score",
        "of 100 those are chosen that differ by vector 'v'",
    )


def test_an_answer_is_the_same_told_or_not(mixed: Core) -> None:
    for query in kinds(mixed.fold.spec):
        assert plain(search(mixed.view, query).hits) == plain(search(mixed.view, query, explain=True).hits)
