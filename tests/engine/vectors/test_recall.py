"""Recall as a live figure: which searches are sampled, what counts as found, and that nothing waits for it."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import (
    Collection,
    CollectionSpec,
    DenseLeg,
    FieldSpec,
    Filter,
    Found,
    GroupBy,
    Hit,
    Match,
    Query,
    Range,
    SearchParams,
    TextLeg,
    VectorSpec,
    points_of,
)
from engine.vectors.declaration import IndexSpec
from engine.vectors.fold import Fold
from engine.vectors.recall import BUCKETS, RESTS, RecallCount, RecallMeter, bucket_of, hits_found, measurable
from engine.vectors.rows import OP, UPSERT
from engine.vectors.search import exact
from engine.vectors.view import View

SPEC = CollectionSpec(
    {"v": VectorSpec(8)},
    fields={"n": FieldSpec("integer"), "owner": FieldSpec("keyword")},
    tenant=None,
    durability="os",
)
LEG = DenseLeg("v", np.eye(8, dtype=np.float32)[0])


def view_of(points: int) -> View:
    """Of ids from 0 on."""
    given = points_of(SPEC, [{"id": at, "vector": LEG.query} for at in range(points)])
    fold = Fold(SPEC, [], 0, 1)
    fold.apply(given.add_column(0, OP, pa.array([UPSERT] * points, pa.int8())), 0)
    return fold.view


VIEW = view_of(4)


def found(*scores: float) -> Found:
    """Of ids from 0 on."""
    return Found(VIEW, np.array(scores, np.float32), np.arange(len(scores)))


def hits(*scores: float, first: int = 0) -> list[Hit]:
    """Of ids from `first` on."""
    return [Hit(first + at, score) for at, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("passing", "total", "bucket"),
    [
        (100, 100, ">50%"), (51, 100, ">50%"), (50, 100, "10-50%"), (11, 100, "10-50%"), (10, 100, "1-10%"),
        (1, 100, "0.1-1%"), (2, 1000, "0.1-1%"), (1, 1000, "<0.1%"), (0, 1000, "<0.1%"), (0, 0, "<0.1%"),
    ],
)  # fmt: skip
def test_buckets_are_by_the_share_a_filter_is_about(passing: int, total: int, bucket: str) -> None:
    assert bucket_of(passing, total) == bucket
    assert bucket in BUCKETS


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        (hits(0.9, 0.8, 0.7), hits(0.9, 0.8, 0.7), 3),
        (hits(0.9, 0.8), hits(0.9, 0.8, 0.7), 2),
        ([], hits(0.9), 0),
        (hits(0.9), [], 0),
        (hits(0.6, 0.5, first=7), hits(0.9, 0.8), 0),
        ([*hits(0.9), *hits(0.7, first=7)], hits(0.9, 0.7), 2),  # a tie with the last
        (hits(0.5, 0.5, first=7), hits(0.5, 0.5), 2),  # all tie
        ([*hits(0.1), *hits(0.3, first=7)], hits(0.1, 0.2), 1),  # distances: less is better
        ([*hits(0.1), *hits(0.2, first=7)], hits(0.1, 0.2), 2),
        (hits(0.9, 0.8, 0.8, 0.8), hits(0.9, 0.8), 2),
    ],
)
def test_a_hit_as_good_as_the_last_true_one_is_found(found: list[Hit], true: list[Hit], expected: int) -> None:
    assert hits_found(found, true) == expected


def test_fused_scores_say_nothing_of_truth() -> None:
    assert hits_found(hits(0.9, 0.8, first=7), hits(0.9, 0.8), fused=True) == 0
    assert hits_found([*hits(0.9), *hits(0.8, first=7)], hits(0.9, 0.8), fused=True) == 1


@pytest.mark.parametrize(
    ("query", "measured"),
    [
        (Query((LEG,), 10), True),
        (Query((LEG, TextLeg("t", "x")), 10), True),
        (Query((TextLeg("t", "x"),), 10), False),
        (Query((LEG,), 10, offset=5), False),
        (Query((LEG,), 10, params=SearchParams(exact=True)), False),
        (Query((LEG,), 10, group_by=GroupBy("n")), False),
    ],
)
def test_what_cannot_miss_or_be_compared_is_not_sampled(query: Query, measured: bool) -> None:
    assert measurable(query) is measured
    meter = RecallMeter(lambda *_: found())
    meter.watcher("c", 1.0).offer(VIEW, query, found())
    assert meter.step() is measured


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_about_the_share_that_is_asked_for_is_sampled(share: float) -> None:
    meter = RecallMeter(lambda *_: found(1.0), waiting_max=1)
    watcher = meter.watcher("c", share, seed=4)
    for _ in range(20_000):
        watcher.offer(VIEW, Query((LEG,), 1), found(1.0))
        meter.step()
    count = watcher.read().get("none", RecallCount())
    assert count.searches == count.hits == count.wanted
    assert abs(count.searches - 20_000 * share) <= 5 * math.sqrt(20_000 * share * (1 - share))


def test_samples_that_find_no_room_are_left_out_and_counted() -> None:
    meter = RecallMeter(lambda *_: found(1.0), waiting_max=3)
    watcher = meter.watcher("c", 1.0)
    for _ in range(10):
        watcher.offer(VIEW, Query((LEG,), 1), found(1.0))
    while meter.step():
        pass
    assert watcher.read() == {"none": RecallCount(3, 3, 3)}
    assert meter.left_out == 7


def test_a_measurement_that_fails_is_left_out_and_the_next_is_made() -> None:
    fails = [True, False]

    def answer(_: View, __: Query) -> Found:
        if fails.pop(0):
            raise ValueError("broken")
        return found(1.0)

    meter = RecallMeter(answer)
    watcher = meter.watcher("c", 1.0)
    for _ in range(2):
        watcher.offer(VIEW, Query((LEG,), 1), found())
    assert meter.step()
    assert meter.step()
    assert not meter.step()
    assert (meter.left_out, meter.read()) == (1, {"c": {"none": RecallCount(1, 0, 1)}})


def test_counts_go_with_their_collection_and_stay_while_its_share_changes() -> None:
    meter = RecallMeter(lambda *_: found(1.0))
    meter.watcher("c", 1.0).offer(VIEW, Query((LEG,), 1), found(1.0))
    meter.step()
    watcher = meter.watcher("c", 0.0)
    watcher.offer(VIEW, Query((LEG,), 1), found(1.0))
    assert not meter.step()
    assert watcher.read()["none"].recall == 1.0
    meter.forget("c")
    assert meter.read() == {}
    assert RecallCount().recall is None


def test_its_thread_measures_and_ends() -> None:
    measured = threading.Event()

    def answer(_: View, __: Query) -> Found:
        measured.set()
        return found()

    meter = RecallMeter(answer)
    meter.start()
    watcher = meter.watcher("c", 1.0)
    watcher.offer(VIEW, Query((LEG,), 1), found())
    assert measured.wait(30)
    meter.close()
    watcher.offer(VIEW, Query((LEG,), 1), found())
    assert not meter.step()


def test_its_thread_rests_after_what_took_long() -> None:
    rests: list[float] = []
    ended_s, both = [0.0], threading.Event()

    def answer(_: View, __: Query) -> Found:
        if ended_s[0]:
            rests.append(time.monotonic() - ended_s[0])
            both.set()
        until_s = time.thread_time() + 0.005
        while time.thread_time() < until_s:
            pass
        ended_s[0] = time.monotonic()
        return found()

    meter = RecallMeter(answer)
    watcher = meter.watcher("c", 1.0)
    for _ in range(2):
        watcher.offer(VIEW, Query((LEG,), 1), found())
    meter.start()
    assert both.wait(30)
    meter.close()
    assert rests[0] >= 0.005 * RESTS


# With a real collection.


def test_what_an_index_misses_is_counted_by_selectivity(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, vectors={"v": VectorSpec(8, index=IndexSpec(kind="hnsw", links=4))})
    random = np.random.default_rng(3)
    with Collection("c", tmp_path / "c", spec) as collection:
        vectors = random.standard_normal((4000, 8)).tolist()
        rows = [{"id": at, "vector": {"v": each}, "payload": {"n": at}} for at, each in enumerate(vectors)]
        collection.upsert(points_of(spec, rows))
        assert collection.wait_indexed(60)
        meter = RecallMeter()
        collection.watcher = meter.watcher("c", 1.0)
        wanted, found = dict.fromkeys(BUCKETS, 0), dict.fromkeys(BUCKETS, 0)
        filters = [
            ("none", None),
            (">50%", Range("n", gte=100)),
            ("1-10%", Range("n", lt=200)),
            ("<0.1%", Match("n", 7)),
        ]
        for bucket, condition in filters:
            for _ in range(20):
                filter_ = None if condition is None else Filter.of(condition, spec)
                leg = DenseLeg("v", random.standard_normal(8).astype(np.float32))
                answer = collection.search(Query((leg,), 10, filter=filter_, params=SearchParams(candidates=10)))
                assert meter.step()
                query = Query((DenseLeg("v", leg.query / np.linalg.norm(leg.query)),), 10, filter=filter_)
                true = {each.id for each in exact(collection.view, query).hits}
                wanted[bucket] += len(true)
                found[bucket] += len(true & {each.id for each in answer.hits})
        counts = meter.read()["c"]
        assert list(counts) == ["none", ">50%", "1-10%", "<0.1%"]
        for name, count in counts.items():
            assert (count.searches, count.wanted, count.hits) == (20, wanted[name], found[name])
        assert counts["<0.1%"].recall == 1.0


def test_a_tenant_is_a_filter_as_it_is_for_an_index(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, tenant="owner")
    with Collection("c", tmp_path / "c", spec) as collection:
        rows = [{"id": at, "vector": {"v": [1.0, at] + [0.0] * 6}, "payload": {"n": at}} for at in range(20)]
        for tenant in ("one", "two", "three"):
            collection.upsert(points_of(spec, rows), tenant=tenant)
        meter = RecallMeter()
        collection.watcher = meter.watcher("c", 1.0)
        half = Filter.of(Range("n", lt=11), spec)
        assert len(collection.search(Query((LEG,), 20, filter=half, tenant="two")).hits) == 11
        assert len(collection.search(Query((LEG,), 20, tenant="two")).hits) == 20
        while meter.step():
            pass
        assert meter.read()["c"] == {"10-50%": RecallCount(2, 31, 31)}
