"""`vireo.v1.Vectors` by generated stubs on grpcio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format

from protos.vireo.v1 import vectors_pb2 as pb
from tests.serving.vectors.books import PLAIN_SPEC, Stub


def point(number: int, *values: float, **payload: pb.Value) -> pb.Point:
    """A point with the vector `v`."""
    packed = np.array(values, "<f4").tobytes()
    return pb.Point(id=pb.PointId(integer=number), vectors={"v": pb.Vector(packed=packed)}, payload=payload)


def has(key: str, **test: Any) -> pb.Filter:  # noqa: ANN401
    """A filter of one condition."""
    return pb.Filter(must=[pb.Condition(field=pb.FieldCondition(key=key, **test))])


@pytest.fixture
def search(stub: Stub, name: str) -> Any:  # noqa: ANN401  a function
    """Searches the collection of three books."""
    return lambda **asked: stub.Search(pb.SearchRequest(collection=name, **asked))


def vector(*values: float) -> pb.Vector:
    """As plain numbers."""
    return pb.Vector(values=values)


def test_ids_and_scores_come_packed(search: Any) -> None:  # noqa: ANN401
    found = search(vector=vector(1, 0.1, 0, 0), using="v", k=2)
    assert list(found.ids) == [1, 3]
    assert found.scores[0] == pytest.approx(1 / 1.01**0.5, abs=1e-6)
    assert not found.points
    packed = pb.Vector(packed=np.array([1, 0.1, 0, 0], "<f4").tobytes())
    assert search(vector=packed, using="v", k=2) == found


def test_a_point_comes_back_as_it_went_in(stub: Stub, name: str) -> None:
    payload = {
        "title": pb.Value(text="words"),
        "price": pb.Value(number=2.5),
        "pages": pb.Value(integer=-7),
        "tags": pb.Value(list=pb.Values(values=[pb.Value(text="x"), pb.Value(text="y")])),
        "sold": pb.Value(flag=False),
        "at": pb.Value(instant_us=1_000_001),
        "where": pb.Value(geo=pb.GeoPoint(lat=1, lon=-2)),
    }
    vectors = {
        "v": pb.Vector(packed=np.array([0, 0, 0, 1], "<f4").tobytes()),
        "tokens": pb.Vector(packed=np.array([1, 2, 3, 4], "<f4").tobytes(), rows=2),
        "s": pb.Vector(indices=[3, 9], values=[1, 2]),
    }
    written = stub.Upsert(
        pb.UpsertRequest(collection=name, points=[pb.Point(id=pb.PointId(integer=7), vectors=vectors, payload=payload)])
    )
    assert written.count == 1
    request = pb.GetPointsRequest(collection=name, ids=[pb.PointId(integer=7)], payload=["*"], vectors=["*"])
    (found,) = stub.Get(request).points
    assert dict(found.payload) == payload
    assert found.vectors["v"] == vectors["v"]
    assert found.vectors["tokens"] == vectors["tokens"]


FILTERS = [
    (has("price", range=pb.Range(gt=pb.Value(number=3.5))), {2, 3}),
    (has("tags", match=pb.Value(text="novel")), {1, 2}),
    (has("author", any=pb.Values(values=[pb.Value(text="b"), pb.Value(text="z")])), {3}),
    (has("author", **{"except": pb.Values(values=[pb.Value(text="b")])}), {1, 2}),
    (has("title", words="red"), {1, 3}),
    (has("tags", values_count=pb.Range(gte=pb.Value(integer=2))), {1}),
    (has("where", geo_radius=pb.GeoRadius(center=pb.GeoPoint(lat=48, lon=11.4), metres=50_000)), {1}),
    (
        has("where", geo_box=pb.GeoBox(top_left=pb.GeoPoint(lat=50, lon=10), bottom_right=pb.GeoPoint(lat=40, lon=12))),
        {1},
    ),
    (pb.Filter(must_not=[pb.Condition(is_null="pages")]), {1, 2}),
    (pb.Filter(must=[pb.Condition(is_empty="tags")]), {3}),
    (pb.Filter(should=[pb.Condition(has_id=pb.HasId(ids=[pb.PointId(integer=2)]))]), {2}),
    (
        pb.Filter(
            min_should=pb.MinShould(conditions=[pb.Condition(is_null="at"), pb.Condition(is_null="pages")], min_count=2)
        ),
        {3},
    ),
    (pb.Filter(must=[pb.Condition(filter=has("sold", match=pb.Value(flag=True)))]), {1}),
]


@pytest.mark.parametrize(("filter_", "wanted"), FILTERS)
def test_filters_say_what_they_say(stub: Stub, search: Any, name: str, filter_: pb.Filter, wanted: set[int]) -> None:  # noqa: ANN401
    assert set(search(vector=vector(1, 1, 1, 1), using="v", filter=filter_).ids) == wanted
    assert stub.Count(pb.CountRequest(collection=name, filter=filter_)).count == len(wanted)


def test_legs_fusion_groups_diversity_and_reranking(search: Any) -> None:  # noqa: ANN401
    legs = [
        pb.Leg(dense=pb.DenseLeg(vector=vector(1, 0, 0, 0), using="v")),
        pb.Leg(text=pb.TextLeg(text="car")),
        pb.Leg(sparse=pb.SparseLeg(vector=pb.Vector(indices=[5], values=[1]))),
    ]
    found = search(legs=legs, fusion=pb.Fusion(ranks=pb.RankFusion(k=5, weights=[1, 2, 1])), explain=True)
    assert found.ids[0] == 2
    assert len(found.plans) == 4
    assert found.plans[-1] == "the best 100 of each of 3 legs are fused by rank, k 5, weights 1, 2, 1"
    found = search(legs=legs, fusion=pb.Fusion(scores=pb.ScoreFusion(weights=[1, 0, 0])))
    assert found.ids[0] == 1
    found = search(vector=vector(1, 1, 0, 0), using="v", group_by=pb.GroupBy(field="author"))
    assert {each.text for each in found.groups} == {"a", "b"}
    tokens = pb.Vector(values=[1, 0, 0, 1], rows=2)
    assert set(
        search(vector=vector(1, 1, 0, 0), using="v", rerank=pb.MaxSim(using="tokens", vector=tokens)).ids[:2]
    ) == {1, 2}
    assert search(vector=vector(1, 1, 0, 0), using="v", diversity=pb.Diversity(using="v")).ids[0] == 3
    examples = [pb.Example(id=pb.PointId(integer=1))]
    assert 1 not in search(legs=[pb.Leg(recommend=pb.RecommendLeg(using="v", positive=examples))]).ids


def test_a_batch_is_answered_in_order(stub: Stub, name: str) -> None:
    searches = [
        pb.SearchRequest(collection=name, vector=vector(*values), using="v", k=1)
        for values in ((1, 0, 0, 0), (0, 1, 0, 0))
    ]
    found = stub.SearchBatch(pb.SearchBatchRequest(searches=searches)).results
    assert [list(each.ids) for each in found] == [[1], [2]]


def test_of_a_batch_over_several_collections_the_bad_search_is_named(stub: Stub, name: str) -> None:
    for wrong, told in ((vector(1), "expected 4 dimensions"), (pb.Vector(packed=b"123"), "packed")):
        good = vector(1, 0, 0, 0)
        searches = [pb.SearchRequest(collection=each, vector=good, using="v") for each in (name, "declared", name)]
        searches[2].vector.CopyFrom(wrong)
        with pytest.raises(grpc.RpcError) as caught:
            stub.SearchBatch(pb.SearchBatchRequest(searches=searches))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert (caught.value.details() or "").startswith("searches[2]: ")
        assert told in (caught.value.details() or "")


def test_upserts_stream_and_a_bad_one_spoils_no_other(stub: Stub, name: str) -> None:
    def requests() -> Iterator[pb.UpsertRequest]:
        yield pb.UpsertRequest(collection=name, points=[point(20, 1, 2, 3, 4)])
        yield pb.UpsertRequest(collection=name, points=[point(21, 1, 2)])
        yield pb.UpsertRequest(collection=name, points=[point(22, 4, 3, 2, 1)])

    first, second, third = stub.UpsertStream(requests())
    assert (first.written.count, third.written.count) == (1, 1)
    assert second.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "points[0]" in second.error.message
    assert stub.Count(pb.CountRequest(collection=name)).count == 5


def test_points_come_as_arrow(stub: Stub, name: str) -> None:
    vectors = pa.array([[1.0, 2, 3, 4]] * 2, pa.list_(pa.float32(), 4))
    batch = pa.RecordBatch.from_pydict({"id": pa.array([50, 51], pa.uint64()), "vector.v": vectors})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    request = pb.UpsertRequest(collection=name, arrow=sink.getvalue().to_pybytes())
    assert stub.Upsert(request).count == 2


def test_pages_follow_one_another(stub: Stub, name: str) -> None:
    first = stub.Scroll(pb.ScrollRequest(collection=name, limit=2))
    assert [each.id.integer for each in first.points] == [1, 2]
    second = stub.Scroll(pb.ScrollRequest(collection=name, limit=2, after=first.next))
    assert [each.id.integer for each in second.points] == [3]
    assert not second.HasField("next")


def test_collections_come_change_and_go(stub: Stub) -> None:
    request = pb.CreateCollectionRequest(collection="made-by-grpc")
    json_format.ParseDict(PLAIN_SPEC, request.spec)
    made = stub.CreateCollection(request)
    assert made.points == 0
    assert made.spec["vectors"]["v"]["size"] == 4
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateCollection(request)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "made-by-grpc" in stub.ListCollections(pb.ListCollectionsRequest()).collections
    stub.ChangeAliases(pb.ChangeAliasesRequest(aliases={"grpc-now": "made-by-grpc"}))
    assert stub.ListAliases(pb.ListAliasesRequest()).aliases["grpc-now"] == "made-by-grpc"
    stub.Upsert(pb.UpsertRequest(collection="grpc-now", points=[point(1, 1, 2, 3, 4)]))
    taken = stub.CreateSnapshot(pb.CreateSnapshotRequest(collection="made-by-grpc"))
    stub.Delete(pb.DeleteRequest(collection="made-by-grpc", ids=[pb.PointId(integer=1)]))
    stub.Restore(pb.RestoreRequest(collection="made-by-grpc", snapshot=taken.snapshot))
    assert stub.DescribeCollection(pb.DescribeCollectionRequest(collection="grpc-now")).points == 1
    stub.DropCollection(pb.DropCollectionRequest(collection="made-by-grpc"))
    with pytest.raises(grpc.RpcError) as caught:
        stub.DescribeCollection(pb.DescribeCollectionRequest(collection="made-by-grpc"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


WRONG = [
    (pb.SearchRequest(vector=vector(1, 2), using="v"), "INVALID_ARGUMENT", "expected 4 dimensions, got 2"),
    (pb.SearchRequest(vector=pb.Vector(packed=b"123"), using="v"), "INVALID_ARGUMENT", "packed"),
    (pb.SearchRequest(vector=vector(float("nan"), 0, 0, 0), using="v"), "INVALID_ARGUMENT", "v"),
    (pb.SearchRequest(), "INVALID_ARGUMENT", "neither"),
    (pb.SearchRequest(vector=vector(1, 0, 0, 0), using="v", k=100_000), "INVALID_ARGUMENT", "k"),
    (pb.SearchRequest(vector=vector(1, 0, 0, 0), using="v", filter=pb.Filter(must=[pb.Condition()])),
     "INVALID_ARGUMENT", "filter.must[0]"),
    (pb.SearchRequest(vector=vector(1, 0, 0, 0), using="v", filter=has("pages", match=pb.Value(text="x"))),
     "INVALID_ARGUMENT", "filter.must[0]"),
    (pb.SearchRequest(legs=[pb.Leg()]), "INVALID_ARGUMENT", "legs[0]"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "code", "told"), WRONG)
def test_what_is_wrong_is_named(stub: Stub, name: str, request_: pb.SearchRequest, code: str, told: str) -> None:
    asked = pb.SearchRequest()
    asked.CopyFrom(request_)
    asked.collection = name
    with pytest.raises(grpc.RpcError) as caught:
        stub.Search(asked)
    assert caught.value.code().name == code, caught.value.details()
    assert told in (caught.value.details() or "")


def test_an_unknown_collection_is_told_with_the_nearest(stub: Stub, name: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Search(pb.SearchRequest(collection=name + "x", vector=vector(1, 0, 0, 0)))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "nearest" in (caught.value.details() or "")


def test_what_comes_too_late_is_not_begun(stub: Stub, name: str) -> None:
    many = [point(77_000 + each, 1, 2, 3, 4) for each in range(3_000)]  # one is written within the tick of gRPC's clock
    with pytest.raises(grpc.RpcError) as caught:
        stub.Upsert(pb.UpsertRequest(collection=name, points=many), timeout=1e-6)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_searches_of_one_turn_are_each_answered_with_their_own(stub: Stub, name: str) -> None:
    asked = [
        pb.SearchRequest(collection=name, vector=vector(*values), using="v", k=1)
        for values in ((1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0), (1, 2))
    ] * 16  # fmt: skip
    calls = [stub.Search.future(each) for each in asked]
    for at, call in enumerate(calls):
        if at % 4 == 3:
            assert call.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "expected 4 dimensions" in call.details()
        else:
            assert list(call.result().ids) == [at % 4 + 1]
