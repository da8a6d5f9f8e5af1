"""Features of many keys in one buffer: what each source says of them, its defaults, and the same memory in the next model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from engine import (
    DATATYPES,
    Array,
    Request,
    Spec,
    SpecError,
    Tensor,
    VectorStore,
    VectorStoreSpec,
    parse_spec,
    points_of,
)
from engine.candidates.declaration import GatherSourceSpec, GatherSpec
from engine.features.store import FeatureStore
from engine.servables.gather import Gather, load_gather
from engine.servables.onnx import OnnxServable
from engine.servables.servable import Servable
from engine.vectors.declaration import CollectionSpec, IndexSpec, VectorSpec
from kernels.reference import gathered_features
from tests.engine.features.running import START_US, Running, running
from tests.engine.onnx_models import affine, write
from tests.engine.servables.contract import ServableContract, floats

UINT64, INT64 = DATATYPES["UINT64"], DATATYPES["INT64"]
NOW_US = START_US + 3_600_000_000
SPEC = """
repository: {path: models}
logs:
  clicks:
    schema: {item: int64, price: float64, shop: string, at: timestamp}
    local: {path: clicks, durability: os}
feature_views:
  activity:
    source: clicks
    entity: item
    event_time: at
    max_age: 12h
    ttl: 24h
    features:
      n: {aggregation: count, window: 1h}
      price: {aggregation: last, column: price, window: 12h}
      top: {aggregation: most_frequent, column: item, window: 1h, k: 2}
      mean: {aggregation: mean, column: price}
      shop: {aggregation: last, column: shop, window: 1h}
      double: {expression: n * 2}
vectors:
  path: vectors
  collections:
    items:
      vectors:
        look: {size: 4, metric: dot}
        facts: {size: 3, metric: dot, index: {kind: flat}}
        half: {size: 3, stored: float16}
      durability: os
      growing_rows: 16
    texts: {id: text, vectors: {v: {size: 2}}}
    shared: {vectors: {v: {size: 2}}, fields: {owner: {type: keyword}}, tenant: owner}
gathers:
  item:
    key: item
    sources:
      - {collection: items, vector: facts, default: [7, 8, 9]}
      - {view: activity, features: [mean, n, price, top_2], default: [-1, -2, -3, -4]}
      - {collection: items, vector: half}
graphs:
  ranked:
    inputs: {item: {datatype: UINT64, shape: [-1]}, as_of: {datatype: INT64, shape: [-1]}}
    nodes:
      gather: {call: item, inputs: {item: item, as_of: as_of}}
      ranker: {call: ranker, inputs: {x: gather.rows}}
    outputs: {score: ranker.y}
"""


def facts_of(items: NDArray[Any]) -> NDArray[np.float32]:
    return np.stack([items, items * 2, items * 3], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """40 items, of which 10 were clicked, each thrice; number 3 has no price yet; 5 was clicked long ago."""
    folder = tmp_path_factory.mktemp("gathers")
    write(folder / "models/ranker/1", affine(-1.0, width=10))
    with running(folder, SPEC) as found:
        items = found.engine.vectors.collection("items")
        rows = [
            {"id": at, "vector": {"look": [1, 0, 0, at], "facts": facts.tolist(), "half": [1, at, 0]}}
            for at, facts in enumerate(facts_of(np.arange(40)))
        ]
        items.upsert(points_of(items.spec, rows))
        assert items.wait_indexed(30)
        items.upsert(points_of(items.spec, [rows[39]]))  # grows
        events = [
            {
                "item": at,
                "price": None if at == 3 else 10.0 * at + times,
                "shop": "s",
                "at": NOW_US - 1_000_000 * (9 - times),
            }
            for times in range(3)
            for at in range(10)
        ]
        found.push(
            *({**each, "at": NOW_US - 86_000_000_000} if each["item"] == 5 else each for each in events), log="clicks"
        )
        yield found


def asked(items: list[int]) -> dict[str, Tensor]:
    return {
        "item": Tensor(UINT64, np.array(items, np.uint64)),
        "as_of": Tensor(INT64, np.full(len(items), NOW_US, np.int64)),
    }


def test_each_column_is_what_its_source_says_or_the_default(engine: Running) -> None:
    items = [39, 2, 3, 77, 5, 20, 2]
    response = engine.engine.infer(Request("item", asked(items)))
    rows, found = response.outputs["rows"].array, response.outputs["found"].array
    assert rows.dtype == np.float32
    there = np.array(items) < 40
    assert np.array_equal(rows[there, :3], facts_of(np.array(items)[there]))
    assert rows[~there, :3].tolist() == [[7, 8, 9]]
    view = engine.view("activity")
    said = view.lookup(pa.array(items), as_of_us=NOW_US, features=["mean", "n", "price", "top_2"])
    assert np.array_equal(rows[:, 3:7], gathered_features(said.values, np.array([-1, -2, -3, -4], np.float32)))
    assert rows[1, 3:7].tolist() == [21, 3, 22, -4]  # clicked thrice, never another item
    assert rows[2, 3:7].tolist() == [-1, 3, -3, -4]  # no price yet
    assert rows[4, 3:7].tolist() == [-1, -2, -3, -4]  # stale
    half = engine.engine.vectors.collection("items").get([2], vectors=["half"])[0].vectors["half"]
    assert np.array_equal(rows[1, 7:], half)
    assert found.tolist() == [[each < 40, each < 10 and each != 5, each < 40] for each in items]


def test_the_buffer_that_is_filled_is_the_one_that_the_model_reads(
    engine: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, ranker = (engine.engine._registry.find(name, None).hosted.servable for name in ("item", "ranker"))
    assert isinstance(gather, Gather)
    assert isinstance(ranker, OnnxServable)
    filled: list[Array] = []
    read: list[tuple[int, Array]] = []
    execute, run = gather.execute, ranker._run

    def watched_execute(*arguments: Any) -> Any:  # noqa: ANN401
        answer = execute(*arguments)
        filled.append(answer["rows"].array)
        return answer

    def watched_run(names: Any, feeds: Any, options: Any) -> Any:  # noqa: ANN401
        read.append((feeds["x"].ctypes.data, feeds["x"]))
        return run(names, feeds, options)

    monkeypatch.setattr(gather, "execute", watched_execute)
    monkeypatch.setattr(ranker, "_run", watched_run)
    response = engine.engine.infer(Request("ranked", asked([1, 2, 3, 4])))
    ((buffer,), ((address, fed),)) = filled, read
    assert address == buffer.ctypes.data
    assert fed.flags.c_contiguous
    assert np.array_equal(response.outputs["score"].array, -buffer)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vector: facts", "vector: fact", "gathers.item.sources[0].vector: no dense vector 'fact'; nearest: 'facts'"),
        ("vector: half}", "vector: half, size: 3}", "sources[2].size: is the collection's own: the spec declares 'items'"),
        ("collection: items, vector: half}", "collection: other, vector: half, size: 0}", "sources[2].size: expected from 1 to"),
        ("collection: items", "collection: item", "sources[0].collection: the spec declares no collection 'item'; nearest"),
        ("{collection: items, vector: half}", "{collection: shared, vector: v}", "has tenants, and a gather names none"),
        ("{collection: items, vector: half}", "{collection: texts, vector: v}", "sources[2]: has texts as keys, and sources[0]"),
        ("{collection: items, vector: half}", "{default: 0}", "sources[2]: give either 'collection' with 'vector' or 'view'"),
        ("default: [7, 8, 9]", "default: [7, 8]", "sources[0].default: expected one number, or 3, got 2"),
        ("view: activity", "view: action", "no feature view 'action'"),
        ("[mean, n,", "[means, n,", "sources[1].features[0]: the view has no feature 'means'; nearest: 'mean'"),
        ("[mean, n,", "[double, n,", "features[0]: 'double' is an expression; a gather takes what the view aggregates"),
        ("[mean, n,", "[shop, n,", "features[0]: 'shop' is a text, and a gather gives numbers"),
        ("  item:\n    key: item", "  activity:\n    key: item", "has that name; all are called by it"),
        ("key: item\n    s", "key: as_of\n    s", "gathers.item.key: 'as_of' is the name of another input"),
        ("{x: gather.rows}", "{x: gather.row}", "calls gather 'item', which has no output 'row'; nearest: 'rows'"),
    ],
)  # fmt: skip
def test_what_a_gather_cannot_be_is_told_with_its_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in SPEC
    with pytest.raises(SpecError) as caught:
        parse_spec(SPEC.replace(old, new, 1), folder=tmp_path)
    assert message in str(caught.value)


FACTS = CollectionSpec({"facts": VectorSpec(3, metric="dot", index=IndexSpec("flat"))}, durability="os")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VectorStore]:
    found = VectorStore()
    found.apply(Spec(vectors=VectorStoreSpec("store"), folder=tmp_path))
    found.create("items", FACTS)
    rows = [{"id": at, "vector": {"facts": each.tolist()}} for at, each in enumerate(floats(20, 3, 1))]
    found.collection("items").upsert(points_of(FACTS, rows))
    yield found
    found.close()


class TestGather(ServableContract):
    """The contract, over a collection."""

    @pytest.fixture
    def servable(self, store: VectorStore) -> Servable:
        spec = GatherSpec((GatherSourceSpec(collection="items", vector="facts", default=-1.0),))
        return load_gather("m", spec, FeatureStore(), store)

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Some are not there."""
        return {"key": Tensor(UINT64, np.random.default_rng(seed).integers(0, 30, rows).astype(np.uint64))}


def test_a_gather_stays_with_its_collection_until_it_is_loaded_anew_for_another(store: VectorStore) -> None:
    spec = GatherSpec((GatherSourceSpec(collection="items", vector="facts"),))
    gather = load_gather("m", spec, FeatureStore(), store)
    keys = {"key": Tensor(UINT64, np.arange(2, dtype=np.uint64))}
    before = gather.execute(keys, ())["rows"].array
    assert gather.fits()
    store.drop("items")
    store.create("items", CollectionSpec({"facts": VectorSpec(2, metric="dot")}, durability="os"))
    assert not gather.fits()
    np.testing.assert_array_equal(gather.execute(keys, ())["rows"].array, before)
