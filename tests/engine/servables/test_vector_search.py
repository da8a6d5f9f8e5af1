"""A collection called as a model: the contract of servables, what its tensors hold, and a graph with a search as a node."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import (
    BYTES,
    Array,
    CollectionSpec,
    Engine,
    FailedPrecondition,
    FieldSpec,
    InvalidArgument,
    ModelLoadError,
    NotFound,
    Request,
    Spec,
    SpecError,
    Tensor,
    TooLarge,
    VectorSpec,
    VectorStore,
    VectorStoreSpec,
    parse_spec,
    points_of,
)
from engine.declaration import Value
from engine.limits import SEARCH_ROWS_MAX
from engine.servables.servable import Servable
from engine.servables.vector_search import load_vector_search
from engine.vectors.declaration import EmbedderSpec, VectorSearchSpec, WordsSpec
from tests.engine.servables.contract import ServableContract, floats
from tests.fakes import FP32

FIELDS = {
    "title": FieldSpec("keyword"), "body": FieldSpec("text"), "year": FieldSpec("integer"), "price": FieldSpec("float"),
    "sold": FieldSpec("bool"), "at": FieldSpec("datetime"), "place": FieldSpec("geo"),
    "tags": FieldSpec("keyword", array=True),
}  # fmt: skip
SPEC = CollectionSpec({"v": VectorSpec(4)}, fields=FIELDS, durability="os")
TEXT_IDS = CollectionSpec(
    {"v": VectorSpec(4, metric="l2"), "w": VectorSpec(2)}, id="text", fields=FIELDS, tenant="title", durability="os"
)
ALL = VectorSearchSpec("docs", 3, payload=dict.fromkeys(name for name in FIELDS if name != "tags"))


def a_store(folder: Path, **collections: CollectionSpec) -> VectorStore:
    """With these collections."""
    store = VectorStore()
    store.apply(Spec(vectors=VectorStoreSpec("store"), folder=folder))
    for name, spec in collections.items():
        store.create(name, spec)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VectorStore]:
    """With a collection of a full point, one without payload, and 20 more."""
    found = a_store(tmp_path, docs=SPEC)
    full = {
        "title": "ä", "body": "some words", "year": 1999, "price": 2.5, "sold": True, "at": 1_000_000,
        "place": {"lat": 1.0, "lon": 2.0},
    }  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"id": 1, "vector": {"v": [1, 0, 0, 0]}, "payload": full},
        {"id": (1 << 64) - 1, "vector": {"v": [0, 1, 0, 0]}},
    ]
    found.collection("docs").upsert(points_of(SPEC, rows))
    yield found
    found.close()


def ask(servable: Servable, *outputs: str, **inputs: Array) -> dict[str, Any]:
    """Its outputs as lists."""
    tensors = {name: Tensor(BYTES if each.dtype == object else FP32, each) for name, each in inputs.items()}
    servable.signature.check("m", tensors, outputs)
    return {name: each.array.tolist() for name, each in servable.execute(tensors, outputs).items()}


def vectors(*rows: list[float]) -> Array:
    """FP32."""
    return np.array(rows, np.float32)


class TestVectorSearch(ServableContract):
    """The contract, on a collection of numbers with every type of field."""

    @pytest.fixture
    def servable(self, store: VectorStore) -> Servable:
        """Over 40 more points, so that there are more than k."""
        rows = [
            {"id": 100 + at, "vector": {"v": each.tolist()}, "payload": {"year": at, "title": f"t{at}"}}
            for at, each in enumerate(floats(40, 4, 9))
        ]
        store.collection("docs").upsert(points_of(SPEC, rows))
        return load_vector_search(store, "m", ALL)

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Directions."""
        return {"query": Tensor(FP32, floats(rows, 4, seed))}


class TestVectorSearchOfTenants(ServableContract):
    """The contract, on text ids, distances, and tenants."""

    @pytest.fixture
    def servable(self, tmp_path: Path) -> Iterator[Servable]:
        """Two tenants."""
        store = a_store(tmp_path, docs=TEXT_IDS)
        for tenant in ("one", "two"):
            rows = [
                {"id": f"{tenant}{at}", "vector": {"v": each.tolist(), "w": [1, 1]}}
                for at, each in enumerate(floats(9, 4, 3))
            ]
            store.collection("docs").upsert(points_of(TEXT_IDS, rows), tenant=tenant)
        yield load_vector_search(store, "m", VectorSearchSpec("docs", 4, vector="v", payload={"year": 7}))
        store.close()

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Rows of either tenant, and of one that has nothing."""
        tenants = np.array([(b"one", b"two", b"nobody")[each % 3] for each in range(rows)], object)
        return {"query": Tensor(FP32, floats(rows, 4, seed)), "tenant": Tensor(BYTES, tenants)}


class TestHybridSearch(ServableContract):
    """The contract, on vectors and words together."""

    @pytest.fixture
    def servable(self, store: VectorStore) -> Servable:
        """Over points of which each has a word of its own and one that all have."""
        rows = [
            {"id": 100 + at, "vector": {"v": each.tolist()}, "payload": {"body": f"common word{at % 5}"}}
            for at, each in enumerate(floats(40, 4, 9))
        ]
        store.collection("docs").upsert(points_of(SPEC, rows))
        return load_vector_search(
            store, "m", VectorSearchSpec("docs", 5, words=WordsSpec("body"), payload={"body": None})
        )

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Directions with words, of which some are not there."""
        words = [(b"common", b"word3", b"", b"nowhere to be found")[each % 4] for each in range(rows)]
        return {"query": Tensor(FP32, floats(rows, 4, seed)), "words": Tensor(BYTES, np.array(words, object))}


# What comes.


@pytest.mark.parametrize(
    ("spec", "ids"),
    [
        (WordsSpec("body"), [7, 8, 6]),  # ranks 2 and 1, 6 and 2, 1 and none
        (WordsSpec("body", weight=0.0), [6, 7, 5]),
        (WordsSpec("body", k=0.0, vector_weight=0.5), [7, 8, 6]),  # 1.25, .58, .5
        (WordsSpec("body", k=0.0, weight=0.4), [6, 7, 8]),  # 1, .9, .37
        (WordsSpec("body", "scores"), [7, 6, 5]),  # of the words 8 is the worst
    ],
)
def test_vectors_and_words_are_fused_as_declared(store: VectorStore, spec: WordsSpec, ids: list[int]) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 6, "vector": {"v": [0, 0, 1, 0]}, "payload": {"body": "nothing of the kind"}},
        {"id": 7, "vector": {"v": [0, 0, 1, 0.2]}, "payload": {"body": "kestrel kestrel hovers"}},
        {"id": 8, "vector": {"v": [0, 0, -1, 0]}, "payload": {"body": "a kestrel and many other birds of this field"}},
        {"id": 5, "vector": {"v": [0, 0, 1, 0.9]}},
    ]
    store.collection("docs").upsert(points_of(SPEC, rows))
    words = np.array([b"kestrel"], object)
    servable = load_vector_search(store, "m", VectorSearchSpec("docs", 3, words=spec))
    assert ask(servable, "ids", query=vectors([0, 0, 1, 0]), words=words)["ids"] == [ids]


def test_words_that_cannot_be_read_are_named_with_their_row(store: VectorStore) -> None:
    servable = load_vector_search(store, "m", VectorSearchSpec("docs", 3, words=WordsSpec("body")))
    with pytest.raises(InvalidArgument, match="input 'words': row 1: not UTF-8"):
        ask(servable, query=vectors([0, 0, 1, 0], [0, 0, 1, 0]), words=np.array([b"a", b"\xff"], object))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (WordsSpec("bodi"), "words.field: no text field 'bodi'; nearest: 'body'"),
        (WordsSpec("title"), "words.field: no text field 'title'"),
    ],
)
def test_words_of_a_field_that_has_none_are_refused(store: VectorStore, spec: WordsSpec, problem: str) -> None:
    with pytest.raises(ModelLoadError) as raised:
        load_vector_search(store, "m", VectorSearchSpec("docs", 3, words=spec))
    assert problem in raised.value.message


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("{field: body, weight: 0, vector_weight: 0}", "words.weight: one of both weights must be above 0"),
        ("{field: body, k: -1}", "words.k: must be finite and not below 0, got -1"),
        ("{field: body, depth: 0}", "words.depth: must be from 1"),
        ("{field: body, fusion: best}", "words.fusion"),
    ],
)
def test_a_wrong_fusion_is_refused_with_its_place(words: str, problem: str) -> None:
    text = f"vectors: {{path: store}}\nsearches: {{m: {{collection: docs, words: {words}}}}}"
    with pytest.raises(SpecError) as raised:
        parse_spec(text, folder=Path(), source="app.yaml")
    assert problem in raised.value.message


def test_every_type_of_field_comes_as_a_tensor_and_nulls_are_filled(store: VectorStore) -> None:
    found = ask(load_vector_search(store, "m", ALL), query=vectors([1, 0.1, 0, 0]))
    assert found["ids"] == [[1, (1 << 64) - 1, 0]]
    assert found["count"] == [2]
    assert found["scores"][0][:2] == pytest.approx([1 / math.sqrt(1.01), 0.1 / math.sqrt(1.01)], abs=1e-6)
    assert math.isnan(found["scores"][0][2])
    assert found["title"] == [["ä".encode(), b"", b""]]
    assert found["body"] == [[b"some words", b"", b""]]
    assert found["year"] == [[1999, 0, 0]]
    assert found["sold"] == [[True, False, False]]
    assert found["at"] == [[1_000_000, 0, 0]]
    assert found["price"][0][0] == 2.5
    assert found["place"][0][0] == [1.0, 2.0]
    assert np.isnan(found["price"][0][1:]).all()
    assert np.isnan(found["place"][0][1:]).all()


def test_what_stands_for_null_can_be_declared(store: VectorStore) -> None:
    fills: dict[str, Value | None] = {
        "title": "none",
        "year": -1,
        "price": 0.5,
        "sold": True,
        "at": "1970-01-02T00:00:00Z",
    }
    found = ask(load_vector_search(store, "m", VectorSearchSpec("docs", 2, payload=fills)), query=vectors([0, 1, 0, 0]))
    assert [found[name][0][0] for name in fills] == [b"none", -1, 0.5, True, 86_400_000_000]


def test_an_empty_collection_answers_with_nothing(tmp_path: Path) -> None:
    store = a_store(tmp_path, docs=SPEC)
    found = ask(load_vector_search(store, "m", VectorSearchSpec("docs", 2)), query=vectors([0, 1, 0, 0]))
    assert (found["ids"], found["count"]) == ([[0, 0]], [0])
    store.close()


def test_a_row_sees_its_tenants_points_alone(tmp_path: Path) -> None:
    store = a_store(tmp_path, docs=TEXT_IDS)
    for tenant in ("one", "two"):
        rows = [{"id": each, "vector": {"v": [1, 0, 0, at], "w": [1, 1]}} for at, each in enumerate(("x", tenant))]
        store.collection("docs").upsert(points_of(TEXT_IDS, rows), tenant=tenant)
    servable = load_vector_search(store, "m", VectorSearchSpec("docs", 3, vector="v"))
    tenants = np.array([b"two", b"nobody", b"one"], object)
    found = ask(servable, query=vectors(*[[1.0, 0, 0, 0]] * 3), tenant=tenants)
    assert found["ids"] == [[b"x", b"two", b""], [b"", b"", b""], [b"x", b"one", b""]]
    assert found["scores"][0][:2] == [0.0, 1.0]
    assert found["count"] == [2, 0, 2]
    store.close()


def test_an_alias_moves_a_search_at_once(store: VectorStore) -> None:
    other = store.create("other", SPEC)
    other.upsert(points_of(SPEC, [{"id": 5, "vector": {"v": [1, 0, 0, 0]}}]))
    store.set_alias("current", "docs")
    servable = load_vector_search(store, "m", VectorSearchSpec("current", 1))
    assert ask(servable, "ids", query=vectors([1, 0, 0, 0])) == {"ids": [[1]]}
    store.set_alias("current", "other")
    assert ask(servable, "ids", query=vectors([1, 0, 0, 0])) == {"ids": [[5]]}
    store.create("wide", dataclasses.replace(SPEC, vectors={"v": VectorSpec(5)}))
    store.set_alias("current", "wide")
    assert ask(servable, "ids", query=vectors([1, 0, 0, 0])) == {"ids": [[5]]}, "what it meant, until it is loaded anew"
    assert not servable.fits()
    store.set_alias("current", "docs")
    assert servable.fits()
    assert ask(servable, "ids", query=vectors([1, 0, 0, 0])) == {"ids": [[1]]}
    store.alter("docs", dataclasses.replace(SPEC, vectors={"v": VectorSpec(4, embedder=EmbedderSpec("tower", 1))}))
    with pytest.raises(
        FailedPrecondition, match=r"search 'm': collection 'current' has other tensors .* or is for another"
    ):
        ask(servable, query=vectors([1, 0, 0, 0]))
    store.set_alias("current", "wide")
    store.drop("wide")
    with pytest.raises(NotFound, match="no collection 'current'"):
        ask(servable, query=vectors([1, 0, 0, 0]))


# What is refused.


def test_a_row_that_cannot_be_searched_is_named(store: VectorStore) -> None:
    servable = load_vector_search(store, "m", ALL)
    for wrong in (math.nan, math.inf, 0.0):
        with pytest.raises(InvalidArgument, match=r"queries\[1\]: .*'v'"):
            ask(servable, query=vectors([1, 0, 0, 0], [wrong, 0, 0, 0]))
    with pytest.raises((InvalidArgument, TooLarge)):
        ask(servable, query=np.ones((SEARCH_ROWS_MAX + 1, 4), np.float32))


@pytest.mark.parametrize("tenant", [b"", b"\xff", b"x" * 256])
def test_a_tenant_that_can_be_none_is_refused(tenant: bytes, tmp_path: Path) -> None:
    store = a_store(tmp_path, docs=TEXT_IDS)
    servable = load_vector_search(store, "m", VectorSearchSpec("docs", 4, vector="v"))
    with pytest.raises(InvalidArgument, match="tenant"):
        ask(servable, query=vectors([1, 0, 0, 0]), tenant=np.array([tenant], object))
    store.close()


@pytest.mark.parametrize(
    ("search", "told"),
    [
        (VectorSearchSpec("dogs"), "no collection 'dogs'; nearest: 'docs'"),
        (VectorSearchSpec("docs", vector="x"), "vector: no vector 'x' that can be searched; known: 'v'"),
        (VectorSearchSpec("docs", payload={"yaer": None}), r"payload\.yaer: no field 'yaer'; nearest: 'year'"),
        (VectorSearchSpec("docs", payload={"tags": None}), "is an array"),
        (VectorSearchSpec("docs", payload={"year": "x"}), r"payload\.year: expected an integer"),
        (VectorSearchSpec("docs", payload={"place": 1.0}), "leave it null"),
        (VectorSearchSpec("two"), "vector: must be given: 2 vectors can be searched"),
    ],
)
def test_a_search_that_does_not_fit_its_collection_is_a_load_error(
    search: VectorSearchSpec, told: str, store: VectorStore
) -> None:
    store.create("two", TEXT_IDS)
    with pytest.raises(ModelLoadError, match=told):
        load_vector_search(store, "m", search)


# In the spec, and in a graph.

DECLARED = """
vectors:
  path: store
  collections:
    docs:
      vectors: {v: {size: 4}}
      fields: {year: {type: integer}, title: {type: keyword}, tags: {type: keyword, array: true}}
      durability: os
searches:
  find: {collection: docs, k: 3, payload: {year: -1}}
"""


def rise(x: Array) -> dict[str, Array]:
    """A made-up embedding: [x, 1, 0, 0]."""
    return {"e": np.stack([x, np.ones_like(x), np.zeros_like(x), np.zeros_like(x)], axis=1)}


def newest(years: Array, count: Array) -> dict[str, Array]:
    """The greatest year of each row, and how many there were."""
    return {"year": years.max(axis=1), "hits": count.astype(np.int64)}


GRAPH = (
    DECLARED
    + f"""
functions:
  embed:
    call: {__name__}:rise
    inputs: {{x: {{datatype: FP32, shape: [-1]}}}}
    outputs: {{e: {{datatype: FP32, shape: [-1, 4]}}}}
    batchable: true
  newest:
    call: {__name__}:newest
    inputs: {{years: {{datatype: INT64, shape: [-1, 3]}}, count: {{datatype: INT32, shape: [-1]}}}}
    outputs: {{year: {{datatype: INT64, shape: [-1]}}, hits: {{datatype: INT64, shape: [-1]}}}}
    batchable: true
graphs:
  ask:
    inputs: {{x: {{datatype: FP32, shape: [-1]}}}}
    nodes:
      embedded: {{call: embed, inputs: {{x: x}}}}
      found: {{call: find, inputs: {{query: embedded.e}}}}
      chosen: {{call: newest, inputs: {{years: found.year, count: found.count}}}}
    outputs: {{year: chosen.year, ids: found.ids}}
"""
)


def test_a_search_is_a_node_of_a_graph(tmp_path: Path) -> None:
    engine = Engine(parse_spec(GRAPH, folder=tmp_path))
    engine.start()
    assert engine.ready, engine.problems()
    collection = engine.vectors.collection("docs")
    rows = [
        {"id": at, "vector": {"v": [at, 1.0, 0, 0]}, "payload": {} if at == 3 else {"year": 2000 + at}}
        for at in range(20)
    ]
    collection.upsert(points_of(collection.spec, rows))
    response = engine.infer(Request("ask", inputs={"x": Tensor(FP32, np.array([3, 0], np.float32))}))
    assert response.outputs["ids"].array[:, 0].tolist() == [3, 0]
    assert response.outputs["year"].array.tolist() == [2005, 2002]
    told = engine.describe("find", None)
    assert (told.traits.platform, told.source, told.notes) == ("vireo_vector_search", "search of collection docs", ())
    assert sorted(told.expected_us) == [1, 2, 4, 8]
    engine.close()


def test_a_graph_may_search_what_clients_make_later(tmp_path: Path) -> None:
    engine = Engine(parse_spec(GRAPH.replace("collection: docs", "collection: later"), folder=tmp_path))
    engine.start()
    assert set(engine.problems()) == {"ask", "find"}
    assert [each.state for each in engine.index() if each.name == "ask"] == ["UNAVAILABLE"]
    engine.vectors.set_alias("later", "docs")
    _await_ready(engine)
    collection = engine.vectors.collection("later")
    collection.upsert(points_of(collection.spec, [{"id": 4, "vector": {"v": [1, 1, 0, 0]}, "payload": {"year": 7}}]))
    response = engine.infer(Request("ask", inputs={"x": Tensor(FP32, np.array([1], np.float32))}))
    assert response.outputs["year"].array.tolist() == [7]
    engine.apply(parse_spec("functions: {}", folder=tmp_path))
    with pytest.raises(FailedPrecondition, match="the spec has no 'vectors'"):
        engine.vectors.collection("docs")
    engine.close()


@pytest.mark.parametrize(
    ("replaced", "by", "told"),
    [
        ("k: 3", "k: 0", "searches.find.k: must be from 1 to 10000, got 0"),
        ("k: 3", "k: 3, candidates: 0", "searches.find.candidates: must be from 1"),
        ("k: 3", "k: 3, effort: 0.001", "searches.find.effort: must be from 0.01 to 100, got 0.001"),
        ("k: 3", "k: 3, effort: .nan", "searches.find.effort: must be from 0.01 to 100, got nan"),
        ("k: 3", "k: 3, timeout_ms: 0", "searches.find.timeout_ms: must be from"),
        ("k: 3", "kk: 3", "searches.find.*unknown key 'kk'"),
        ("collection: docs", "collection: a/b", "searches.find.collection: a name has"),
        ("collection: docs", "collection: docs, vector: w", "searches.find.vector: no vector 'w'"),
        ("year: -1", "count: 1", "searches.find.payload.count: every search has an output of that name already"),
        ("year: -1", "yaer: 1", "searches.find.payload.yaer: no field 'yaer'; nearest: 'year'"),
        ("year: -1", "tags: x", "searches.find.payload.tags: is an array"),
        ("year: -1", "year: x", "searches.find.payload.year: expected an integer, got 'x'"),
        ("  find:", "  embed:", "searches.embed: a function or a feature view has that name"),
        ("  find:", "  fi nd:", "searches.fi nd: a name has"),
        ("query: embedded.e", "queri: embedded.e", "queri.*nearest: 'query'"),
        ("shape: [-1, 4]", "shape: [-1, 5]", "expected shape"),
        ("shape: [-1, 3]", "shape: [-1, 2]", "expected shape"),
        ("years: found.year", "years: found.score", "no output 'score'; nearest: 'scores'"),
    ],
)
def test_a_search_that_makes_no_sense_is_told_with_its_place(replaced: str, by: str, told: str, tmp_path: Path) -> None:
    assert replaced in GRAPH
    with pytest.raises(SpecError, match=told):
        parse_spec(GRAPH.replace(replaced, by), folder=tmp_path)


def test_a_search_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"searches\.find: there are no collections"):
        parse_spec("searches: {find: {collection: docs}}", folder=tmp_path)


def test_a_search_of_a_broken_collection_serves_when_that_is_restored(tmp_path: Path) -> None:
    spec = parse_spec(DECLARED, folder=tmp_path)
    engine = Engine(spec)
    engine.start()
    taken = engine.vectors.snapshot("docs")
    engine.close()
    manifest = tmp_path / "store" / "collections" / "docs" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:50])
    again = Engine(spec)
    again.start()
    assert sorted(again.problems()) == ["collection docs", "find"]
    manifest.write_bytes(whole)
    again.apply(spec)
    _await_ready(again)
    again.close()
    manifest.write_bytes(whole[:50])
    last = Engine(spec)
    last.start()
    last.vectors.restore("docs", taken.name)
    _await_ready(last)
    last.close()


def test_a_search_is_loaded_anew_where_its_name_means_a_collection_of_other_tensors(tmp_path: Path) -> None:
    engine = Engine(parse_spec(DECLARED.replace("collection: docs", "collection: current"), folder=tmp_path))
    engine.start()
    engine.vectors.set_alias("current", "docs")
    _await_ready(engine)
    wide = dataclasses.replace(SPEC, vectors={"v": VectorSpec(6)}, id="text")
    engine.vectors.create("wide", wide)
    engine.vectors.set_alias("current", "wide")
    until_s = time.monotonic() + 30
    while not engine.is_ready("find", None) or engine.describe("find", None).signature.inputs[0].shape != (-1, 6):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    response = engine.infer(Request("find", inputs={"query": Tensor(FP32, np.ones((1, 6), np.float32))}))
    assert response.outputs["ids"].array.tolist() == [[b"", b"", b""]]
    engine.vectors.alter("wide", dataclasses.replace(wide, fields={"title": FieldSpec("keyword")}))
    while "no field 'year'" not in engine.problems().get("find", ""):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    engine.close()


def _await_ready(engine: Engine) -> None:
    until_s = time.monotonic() + 30
    while not engine.ready and time.monotonic() < until_s:
        time.sleep(0.01)
    assert engine.ready, engine.problems()


def test_a_search_waits_for_its_collection_or_alias(tmp_path: Path) -> None:
    spec = "vectors: {path: store}\nsearches: {find: {collection: later}}"
    engine = Engine(parse_spec(spec, folder=tmp_path))
    engine.start()
    assert engine.problems() == {"find": "no collection 'later'"}
    engine.vectors.create("now", SPEC)
    engine.vectors.set_alias("later", "now")
    _await_ready(engine)
    assert engine.describe("find", None).signature.inputs[0].shape == (-1, 4)
    assert engine.is_ready("find", None)
    engine.vectors.drop_alias("later")
    assert engine.problems() == {"find": "no collection 'later'; known: 'now'"}
    assert not engine.is_ready("find", None)
    engine.vectors.set_alias("later", "now")
    assert engine.ready
    engine.close()
