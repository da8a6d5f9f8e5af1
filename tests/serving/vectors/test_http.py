"""Vector collections over HTTP, by a stock client."""

from __future__ import annotations

from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.serving.vectors.books import PLAIN_SPEC

Call = Any


def test_the_nearest_come_first_with_what_was_asked_for(one: Call) -> None:
    status, found = one("POST", "/search", {"vector": [1, 0.1, 0, 0], "k": 2, "payload": ["title"], "vectors": ["v"]})
    assert status == 200
    assert [each["id"] for each in found["hits"]] == [1, 3]
    assert found["hits"][0]["payload"] == {"title": "The red house"}
    assert found["hits"][0]["vectors"]["v"] == [1, 0, 0, 0]
    assert found["hits"][0]["score"] == pytest.approx(1 / 1.01**0.5, abs=1e-6)


def test_legs_are_fused_and_the_plan_is_told(one: Call) -> None:
    legs = [
        {"dense": {"vector": [1, 0.1, 0, 0], "using": "v"}},
        {"text": {"text": "car"}},
        {"sparse": {"indices": [5], "values": [1]}},
    ]
    status, found = one("POST", "/search", {"legs": legs, "explain": True})
    assert status == 200
    assert found["hits"][0]["id"] == 2
    assert len(found["plans"]) == 4
    assert found["plans"][-1] == "the best 100 of each of 3 legs are fused by rank, k 20"


FILTERS: list[tuple[dict[str, Any], set[int]]] = [
    ({"must": [{"key": "price", "range": {"gt": 3.5}}]}, {2, 3}),
    ({"must": {"key": "tags", "match": {"value": "novel"}}}, {1, 2}),
    ({"must_not": [{"key": "tags", "match": {"any": ["old", "new"]}}]}, {2, 3}),
    ({"should": [{"key": "pages", "match": {"value": 100}}, {"key": "author", "match": {"value": "b"}}]}, {1, 3}),
    ({"must": [{"is_null": {"key": "pages"}}]}, {3}),
    ({"must": [{"key": "title", "match": {"text": "RED"}}]}, {1, 3}),
    ({"must": [{"has_id": [2, 77]}]}, {2}),
    ({"must": [{"key": "at", "range": {"lte": "2026-01-01T00:00:00Z"}}]}, {1}),
    ({"must": [{"key": "where", "geo_radius": {"center": {"lat": 48, "lon": 11.4}, "radius": 50_000}}]}, {1}),
    ({"must": [{"key": "tags", "values_count": {"gte": 2}}]}, {1}),
    ({"must": [{"should": [{"key": "sold", "match": {"value": True}}, {"must": [{"has_id": [3]}]}]}]}, {1, 3}),
    ({"min_should": {"conditions": [{"has_id": [1]}, {"has_id": [1, 2]}, {"has_id": [3]}], "min_count": 2}}, {1}),
]


@pytest.mark.parametrize(("filter_", "wanted"), FILTERS)
def test_filters_say_what_they_say_in_searches_counts_and_scrolls(
    one: Call, filter_: dict[str, Any], wanted: set[int]
) -> None:
    found = one("POST", "/search", {"vector": [1, 1, 1, 1], "filter": filter_})[1]
    assert {each["id"] for each in found["hits"]} == wanted
    assert one("POST", "/count", {"filter": filter_}) == (200, {"count": len(wanted)})
    assert {each["id"] for each in one("POST", "/scroll", {"filter": filter_})[1]["points"]} == wanted


def test_points_are_read_page_by_page(one: Call) -> None:
    status, first = one("POST", "/scroll", {"limit": 2, "payload": False})
    assert (status, first) == (200, {"points": [{"id": 1}, {"id": 2}], "next": 2})
    assert one("POST", "/scroll", {"limit": 2, "after": 2, "payload": False})[1] == {
        "points": [{"id": 3}],
        "next": None,
    }


def test_payloads_are_changed_cleared_and_replaced(one: Call) -> None:
    assert one("POST", "/points/payload", {"payload": {"price": 5}, "ids": [1, 99]})[1]["count"] == 1
    filter_ = {"must": {"key": "author", "match": {"value": "a"}}}
    assert one("POST", "/points/payload", {"payload": {"sold": False}, "filter": filter_})[1]["count"] == 2
    assert one("POST", "/points/payload/clear", {"fields": ["title"], "ids": [2]})[1]["count"] == 1
    assert one("POST", "/points/payload", {"payload": {"pages": 7}, "ids": [3], "replace": True})[1]["count"] == 1
    points = {each["id"]: each["payload"] for each in one("POST", "/points/get", {"ids": [1, 2, 3]})[1]["points"]}
    assert (points[1]["price"], points[1]["sold"], points[1]["title"]) == (5, False, "The red house")
    assert "title" not in points[2]
    assert points[3] == {"pages": 7}


def test_points_are_deleted_by_ids_and_by_filter(one: Call) -> None:
    assert one("POST", "/points/delete", {"ids": [1, 99]})[1]["count"] == 1
    assert (
        one("POST", "/points/delete", {"filter": {"must": {"key": "author", "match": {"value": "b"}}}})[1]["count"] == 1
    )
    assert one("POST", "/count")[1] == {"count": 1}


def test_groups_diversity_reranking_and_recommendations(one: Call) -> None:
    found = one("POST", "/search", {"vector": [1, 1, 0, 0], "group_by": {"field": "author"}, "k": 2})[1]["hits"]
    assert {each["group"] for each in found} == {"a", "b"}
    found = one("POST", "/search", {"vector": [1, 1, 0, 0], "diversity": {"using": "v", "weight": 0.5}, "k": 3})[1][
        "hits"
    ]
    assert found[0]["id"] == 3
    rerank = {"using": "tokens", "vectors": [[1, 0], [0, 1]]}
    found = one("POST", "/search", {"vector": [1, 1, 0, 0], "rerank": rerank})[1]["hits"]
    assert {each["id"] for each in found[:2]} == {1, 2}
    legs = [{"recommend": {"using": "v", "positive": [1], "negative": [2]}}]
    assert [each["id"] for each in one("POST", "/search", {"legs": legs})[1]["hits"]] == [3]


def test_several_searches_are_answered_at_once(one: Call) -> None:
    status, found = one("POST", "/search/batch", {"searches": [{"vector": [1, 0, 0, 0], "using": "v", "k": 1}] * 3})
    assert status == 200
    assert [each["hits"][0]["id"] for each in found["results"]] == [1, 1, 1]


def test_points_come_as_arrow_too(http: httpx.Client, name: str) -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "id": pa.array([10, 11], pa.uint64()),
            "vector.v": pa.array([[1.0, 2, 3, 4], [4, 3, 2, 1]], pa.list_(pa.float32(), 4)),
            "field.author": ["x", None],
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    answer = http.put(f"/v1/collections/{name}/points", content=sink.getvalue().to_pybytes(), headers=headers)
    assert answer.json()["count"] == 2, answer.text
    answer = http.put(f"/v1/collections/{name}/points", content=b"no arrow", headers=headers)
    assert answer.status_code == 400


def test_snapshots_are_taken_listed_and_restored(http: httpx.Client, name: str, one: Call) -> None:
    status, taken = one("POST", "/snapshots")
    assert (status, taken["points"]) == (200, 3)
    one("POST", "/points/delete", {"ids": [1, 2]})
    assert one("GET", "/snapshots")[1]["snapshots"][0]["snapshot"] == taken["snapshot"]
    assert one("POST", f"/snapshots/{taken['snapshot']}/restore")[1]["points"] == 3
    assert one("POST", "/count")[1] == {"count": 3}
    assert one("DELETE", f"/snapshots/{taken['snapshot']}")[0] == 200
    assert one("POST", f"/snapshots/{taken['snapshot']}/restore")[0] == 404


def test_aliases_are_switched_at_once(http: httpx.Client, name: str) -> None:
    alias = f"{name}-now"
    assert http.post("/v1/collections-aliases", json={"aliases": {alias: name}}).json()["aliases"][alias] == name
    assert http.post(f"/v1/collections/{alias}/count").json() == {"count": 3}
    assert alias not in http.post("/v1/collections-aliases", json={"aliases": {alias: None}}).json()["aliases"]
    assert http.post(f"/v1/collections/{alias}/count").status_code == 404


def test_a_collection_is_declared_anew_with_its_points(one: Call) -> None:
    spec = PLAIN_SPEC | {"fields": PLAIN_SPEC["fields"] | {"isbn": {"type": "keyword"}}}
    assert one("PATCH", "", spec)[0] == 200
    assert one("POST", "/points/payload", {"payload": {"isbn": "x"}, "ids": [1]})[1]["count"] == 1
    assert one("POST", "/count", {"filter": {"must": {"key": "isbn", "match": {"value": "x"}}}})[1] == {"count": 1}
    worse = PLAIN_SPEC | {"vectors": {"v": {"size": 5}}}
    status, told = one("PATCH", "", worse)
    assert (status, told["code"]) == (400, "FAILED_PRECONDITION")


WRONG: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/search", {"vector": [1, 0, 0]}, 400, "expected 4 dimensions, got 3"),
    ("POST", "/search", {"vector": [0, 0, 0, 0]}, 400, "length is 0"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "k": 0}, 400, "k"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "k": 1_000_000}, 400, "k"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "using": "w"}, 400, "'w'"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "top": 3}, 400, "top"),
    ("POST", "/search", {}, 400, "neither 'vector' nor 'legs'"),
    ("POST", "/search", {"vector": [1e39, 0, 0, 0], "using": "v"}, 400, "got inf at dimension 0"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "effort": 0}, 400, "effort: expected from 0.01"),
    ("POST", "/search/batch", {"searches": [{"vector": [1, 0, 0, 0]}, {"vector": [1]}]}, 400, "searches[1]: vector 'v'"),
    ("POST", "/search/batch", {"searches": [{"vector": [1, 0, 0, 0]}, {}]}, 400, "searches[1]: request body"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "filter": {"must": [{"key": "prise", "match": {"value": 1}}]}}, 400,
     "nearest: 'price'"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "filter": {"must": [{"key": "price", "match": {"value": "x"}}]}}, 400,
     "filter.must[0]"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "payload": ["titel"]}, 400, "nearest: 'title'"),
    ("POST", "/search", {"vector": [1, 0, 0, 0], "group_by": {"field": "price"}}, 400, "price"),
    ("POST", "/search?tenant=a", {"vector": [1, 0, 0, 0]}, 400, "tenant"),
    ("PUT", "/points", {"points": [{"id": 9, "vector": {"v": [1, 0, 0, 0]}}, {"id": 9, "vector": {"v": [1, 0, 0, 0]}}]},
     400, "points[1]"),
    ("PUT", "/points", {"points": [{"id": 9, "vector": {"v": [1, 0, 0]}}]}, 400, "points[0]"),
    ("PUT", "/points", {"points": [{"id": -1, "vector": {"v": [1, 0, 0, 0]}}]}, 400, "points[0]"),
    ("PUT", "/points", {"points": [{"id": 9, "vector": {"v": [1, 0, 0, 0]}, "payload": {"pages": "x"}}]}, 400,
     "points[0].payload.pages"),
    ("PUT", "/points", {"points": [{"id": 9, "vector": {"v": [1, 0, 0, 0]}, "payload": {"title": "x" * 2_000_000}}]}, 413,
     "bytes"),
    ("PUT", "/points", {"points": [{"id": 9, "vector": {"v": [1, 0, 0, 0]}, "payload": {"tags": ["x"] * 65_537}}]}, 413,
     "points[0].payload.tags: 65537 values"),
    ("POST", "/points/payload/clear", {"fields": ["titel"], "ids": [1]}, 400, "fields: no field 'titel'; nearest: 'title'"),
    ("POST", "/scroll", {"after": "x"}, 400, "after: expected an id"),
    ("POST", "/points/delete", {}, 400, "neither 'ids' nor 'filter'"),
    ("POST", "/points/delete", {"ids": [1], "filter": {}}, 400, "both"),
    ("POST", "/points/payload", {"payload": {"nothing": 1}, "ids": [1]}, 400, "nothing"),
    ("POST", "/search", {"legs": [{"recommend": {"using": "v", "positive": [99]}}]}, 404, "99"),
    ("POST", "/snapshots/none/restore", None, 404, "none"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "told"), WRONG)
def test_what_is_wrong_is_named(one: Call, method: str, path: str, body: Any, status: int, told: str) -> None:  # noqa: ANN401
    got, answer = one(method, path, body)
    assert got == status, answer
    assert told in answer["error"], answer
    assert one("POST", "/count")[1] == {"count": 3}


def test_a_vector_that_is_not_there_is_told_as_such(http: httpx.Client) -> None:
    asked = {"sparse": {"indices": [1], "values": [1]}}, {"text": {"text": "x"}}, {"dense": {"vector": [1]}}
    spec = {"vectors": {}, "fields": {"a": {"type": "text"}, "b": {"type": "text"}}}
    assert http.put("/v1/collections/two-texts", json=spec).status_code == 200
    answers = [http.post("/v1/collections/two-texts/search", json={"legs": [each]}) for each in asked]
    assert [(each.status_code, each.json()["error"]) for each in answers] == [
        (400, "legs[0].sparse.using: the collection has no sparse vector to be searched"),
        (400, "legs[0].text.field: must name one of the text fields a, b"),
        (400, "legs[0].dense.using: the collection has no vector to be searched"),
    ]
    http.delete("/v1/collections/two-texts")


def test_a_search_whose_deadline_passed_is_not_computed(http: httpx.Client, name: str) -> None:
    asked = {"vector": [1, 0, 0, 0], "using": "v"}
    answer = http.post(f"/v1/collections/{name}/search", json=asked, headers={"x-request-timeout-ms": "0"})
    assert (answer.status_code, answer.json()["code"]) == (504, "DEADLINE_EXCEEDED")


def test_a_filter_nested_too_deep_is_refused(one: Call) -> None:
    filter_: dict[str, Any] = {"must": [{"has_id": [1]}]}
    for _ in range(40):
        filter_ = {"must": [filter_]}
    status, answer = one("POST", "/count", {"filter": filter_})
    assert status == 400
    assert "nested too deep" in answer["error"]


def test_what_the_spec_declares_is_not_the_clients_to_change(http: httpx.Client) -> None:
    assert http.delete("/v1/collections/declared").status_code == 400
    assert http.put("/v1/collections/declared", json=PLAIN_SPEC).status_code == 400
    assert http.post("/v1/collections/declared/count").json() == {"count": 0}
    assert http.put("/v1/collections/a b", json=PLAIN_SPEC).status_code == 400
    assert http.get("/v1/collections/nowhere").status_code == 404


def test_a_tenant_sees_its_own_points_alone(http: httpx.Client) -> None:
    spec = {"vectors": {"v": {"size": 2}}, "fields": {"owner": {"type": "keyword"}}, "tenant": "owner"}
    root = "/v1/collections/shared"
    assert http.put(root, json=spec).status_code == 200
    for tenant, vector in (("a", [1, 0]), ("b", [0, 1])):
        points = {"points": [{"id": 1, "vector": vector}]}
        assert http.put(f"{root}/points?tenant={tenant}", json=points).json()["count"] == 1
    found = http.post(f"{root}/search?tenant=b", json={"vector": [1, 0], "payload": True}).json()["hits"]
    assert [each["payload"] for each in found] == [{"owner": "b"}]
    assert http.post(f"{root}/count").status_code == 400
    assert http.post(f"{root}/points/delete?tenant=a", json={"ids": [1]}).json()["count"] == 1
    assert http.post(f"{root}/count?tenant=b").json() == {"count": 1}
    http.delete(root)


def test_the_metrics_and_the_document_know_collections(http: httpx.Client, name: str) -> None:
    text = http.get("/metrics").text
    assert f'vireo_collection_points{{collection="{name}"}} 3.0' in text
    assert "/v1/collections/{collection}/search" in http.get("/openapi.json").json()["paths"]
