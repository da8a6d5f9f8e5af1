"""A search that filters by values of each request finds what a look at every point does; what it cannot ask is told."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import BYTES, DATATYPES, Engine, InvalidArgument, Request, SpecError, Tensor, parse_spec, points_of
from engine.servables.vector_search import load_vector_search
from engine.vectors.declaration import (
    CollectionSpec,
    ConditionSpec,
    FieldSpec,
    SearchFilterSpec,
    VectorSearchSpec,
    VectorSpec,
)
from engine.vectors.filter import Filter, Group, HasId, Match, Range
from engine.vectors.search_filter import FilterOf
from tests.fakes import FP32

SPEC = """
vectors:
  path: store
  collections:
    items:
      vectors: {v: {size: 4, metric: dot}}
      fields:
        region: {type: keyword, array: true}
        stock: {type: bool}
        price: {type: float}
        shelf: {type: integer}
        place: {type: geo}
        name: {type: text}
      growing_rows: 64
      durability: os
searches:
  allowed:
    collection: items
    k: 20
    filter:
      must:
        - {field: stock, match: true}
        - {field: region, match: $region}
        - {field: price, gt: 1, lte: $budget}
      should:
        - {field: shelf, any: $shelves}
        - {field: region, match: $$home}
      must_not:
        - {ids: $seen}
"""
ROWS = 200


@pytest.fixture(scope="module")
def points() -> list[dict[str, Any]]:
    rng = random.Random(7)
    return [
        {
            "id": at,
            "vector": {"v": [rng.gauss(0, 1) for _ in range(4)]},
            "payload": {
                "region": rng.sample(["eu", "us", "$home", "asia"], rng.randrange(3)),
                "stock": rng.random() < 0.7, "price": rng.uniform(0, 10), "shelf": rng.randrange(5),
            },
        }
        for at in range(ROWS)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, points: list[dict[str, Any]]) -> Iterator[Engine]:
    engine = Engine(parse_spec(SPEC, folder=tmp_path_factory.mktemp("filtered")))
    engine.start()
    items = engine.vectors.collection("items")
    items.upsert(points_of(items.spec, points[:150]))
    assert items.wait_indexed(30)
    items.upsert(points_of(items.spec, points[150:]))
    yield engine
    engine.close()


def bytes_of(*values: str) -> Tensor:
    return Tensor(BYTES, np.array([each.encode() for each in values], object))


def asked(query: list[float], region: str, budget: float, shelves: list[int], seen: list[int]) -> dict[str, Tensor]:
    return {
        "query": Tensor(FP32, np.array([query], np.float32)),
        "region": bytes_of(region),
        "budget": Tensor(DATATYPES["FP64"], np.array([budget])),
        "shelves": Tensor(DATATYPES["INT64"], np.array([shelves], np.int64).reshape(1, -1)),
        "seen": Tensor(DATATYPES["UINT64"], np.array([seen], np.uint64).reshape(1, -1)),
    }


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_a_look_at_every_point_finds(engine: Engine, points: list[dict[str, Any]], seed: int) -> None:
    rng = random.Random(seed)
    region, budget = rng.choice(["eu", "us", "nowhere"]), rng.uniform(0, 10)
    shelves, seen = rng.sample(range(7), rng.randrange(4)), rng.sample(range(2 * ROWS), rng.randrange(100))
    query = [rng.gauss(0, 1) for _ in range(4)]
    response = engine.infer(Request("allowed", asked(query, region, budget, shelves, seen)))

    def allowed(each: dict[str, Any]) -> bool:
        has = each["payload"]
        wanted = has["stock"] and region in has["region"] and 1 < has["price"] <= budget and each["id"] not in seen
        return bool(wanted and (has["shelf"] in shelves or "$home" in has["region"]))

    scored = [(float(np.dot(query, each["vector"]["v"])), each["id"]) for each in points if allowed(each)]
    expected = [number for _, number in sorted(scored, reverse=True)][:20]
    count = int(response.outputs["count"].array[0])
    assert response.outputs["ids"].array[0, :count].tolist() == expected, f"seed {seed}"


def test_queries_of_one_request_have_filters_of_their_own(engine: Engine) -> None:
    alone = [asked([1, 0, 0, 0], "eu", 9, [1, 2], [5]), asked([0, 1, 0, 0], "us", 5, [3, 4], [6])]
    joined = {
        name: Tensor(each.datatype, np.concatenate([one[name].array for one in alone]))
        for name, each in alone[0].items()
    }
    together = engine.infer(Request("allowed", joined)).outputs["ids"].array
    for row, one in enumerate(alone):
        assert np.array_equal(together[row : row + 1], engine.infer(Request("allowed", one)).outputs["ids"].array)


def test_a_value_that_is_none_of_its_field_is_refused_with_its_row(engine: Engine) -> None:
    bad = asked([1, 0, 0, 0], "eu", float("nan"), [], [])
    with pytest.raises(InvalidArgument, match=r"row 0: filter.must\[2\].range.lte: expected a finite number, got nan"):
        engine.infer(Request("allowed", bad))
    bad = {**bad, "region": Tensor(BYTES, np.array([b"\xff"], object))}
    with pytest.raises(InvalidArgument, match="input 'region': row 0: not UTF-8"):
        engine.infer(Request("allowed", bad))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{field: stock, match: true}", "{field: stok, match: true}", "filter.must[0].key: no field 'stok'; nearest: 'stock'"),
        ("{field: stock, match: true}", "{field: stock, match: 1}", "filter.must[0].match.value: expected true or false, got 1"),
        ("{field: stock, match: true}", "{field: place, match: $x}", "field 'place' is geo, which takes no parameter"),
        ("{field: stock, match: true}", "{field: name, match: x}", "field 'name' is text, expected keyword"),
        ("{field: stock, match: true}", "{match: true}", "filter.must[0]: expected 'ids' alone, or a 'field'"),
        ("{field: stock, match: true}", "{field: stock}", "filter.must[0]: expected one of 'match', 'any', 'none', or bounds"),
        ("{field: stock, match: true}", "{field: stock, match: $query}", "'$query': the search has an input of that name"),
        ("{field: stock, match: true}", "{field: stock, match: $}", "filter.must[0]: '$' has no name"),
        ("{field: stock, match: true}", "{field: stock, match: $budget}", "'$budget' is BOOL [-1] elsewhere, and FP64 [-1] here"),
        ("{ids: $seen}", "{ids: [-1]}", "filter.must_not[0].has_id[0]: expected an id of 64 bits, unsigned, got -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_told_with_its_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(SPEC.replace(old, new, 1), folder=tmp_path)
    assert message in str(caught.value)
    assert "searches.allowed.filter" in str(caught.value)


def test_a_filter_without_parameters_is_made_once(engine: Engine) -> None:
    spec = VectorSearchSpec("items", 3, filter=SearchFilterSpec(must=(ConditionSpec("shelf", match=2),)))
    search = load_vector_search(engine.vectors, "m", spec)
    assert [each.name for each in search.signature.inputs] == ["query"]
    found = search.execute({"query": Tensor(FP32, np.ones((1, 4), np.float32))}, ("ids",))["ids"].array[0].tolist()
    hits = engine.vectors.collection("items").get(found, payload=["shelf"])
    assert [each.payload["shelf"] for each in hits] == [2, 2, 2]


def test_a_filter_asked_again_is_what_it_would_be_made_anew() -> None:
    collection = CollectionSpec(
        {"v": VectorSpec(4)}, fields={"region": FieldSpec("keyword"), "shelf": FieldSpec("integer")}
    )
    template = SearchFilterSpec(
        must=(ConditionSpec("region", match="$region"), ConditionSpec("shelf", gt=1, lte="$most")),
        must_not=(ConditionSpec("shelf", match=3), ConditionSpec(ids="$seen")),
    )
    kept, rng = FilterOf(template, collection), random.Random(3)
    for _ in range(200):
        region, most, seen = rng.choice("ab"), rng.randrange(3), tuple(rng.choices(range(9), k=rng.randrange(5)))
        row = {"region": region, "most": most, "seen": list(seen)}
        assert kept.row(row) == FilterOf(template, collection).row(row)
        conditions = (Match("region", region), Range("shelf", gt=1, lte=most))
        asked = Group(conditions, must_not=(Match("shelf", 3), HasId(seen)))
        assert kept.row(row) == Filter.of(asked, collection)
    with pytest.raises(InvalidArgument, match=r"filter.must_not\[1\].has_id\[0\]"):
        kept.row({"region": "a", "most": 1, "seen": [-1]})
