"""Sealed segments whose vectors ask for a GPU: searched there, or on the CPU where there is none or it has no room.

No GPU is asked for: its place is taken by its twin, FAISS on the CPU.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ResourceExhausted
from engine.vectors import gpu_index
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, VectorSpec
from engine.vectors.filter import Filter, Range
from engine.vectors.index import IndexChoice
from engine.vectors.plain_points import points_of
from engine.vectors.query import DenseLeg, Query, SearchParams
from tests.engine.vectors.test_gpu_index import Twin

ROWS = np.random.default_rng(3).standard_normal((5_000, 16)).astype(np.float32)
Make = Callable[..., Collection]


def spec(kind: Any = "auto", stored: Any = "float32") -> CollectionSpec:  # noqa: ANN401
    """Of a vector that asks for a GPU."""
    vector = VectorSpec(16, "dot", stored=stored, index=IndexSpec(kind, gpu=True))
    return CollectionSpec(vectors={"v": vector}, fields={"n": FieldSpec("integer")})


def filled(folder: Path, declared: CollectionSpec) -> Collection:
    """Sealed, of ROWS."""
    collection = Collection("gpu", folder, declared, background=False)
    rows = [{"id": at, "vector": each, "payload": {"n": at}} for at, each in enumerate(ROWS)]
    collection.upsert(points_of(declared, rows))
    assert collection.wait_indexed(60)
    return collection


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, which is none."""

    def twin(vectors: Any, choice: IndexChoice, metric: Any) -> Twin:  # noqa: ANN401
        return Twin(gpu_index.host_index(vectors, choice, metric))

    monkeypatch.setattr(gpu_index, "supports_gpu", lambda: True)
    monkeypatch.setattr(gpu_index, "FaissDevice", twin)


def searched(collection: Collection, *, exact: bool = False, filter_: Filter | None = None) -> list[list[Any]]:
    """Who is found near some points."""
    params = SearchParams(exact=exact)
    queries = [Query((DenseLeg("v", each + 0.1),), 10, filter=filter_, params=params) for each in ROWS[:20]]
    one_by_one = [[hit.id for hit in collection.search(each).hits] for each in queries]
    assert one_by_one == [[hit.id for hit in each.hits] for each in collection.search_many(queries)]
    return one_by_one


def recall(collection: Collection, filter_: Filter | None = None) -> float:
    """How much of what is truly nearest is found."""
    found, expected = (searched(collection, exact=exact, filter_=filter_) for exact in (False, True))
    return float(np.mean([len({*one} & {*other}) / 10 for one, other in zip(found, expected, strict=True)]))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("kind", "told"), [("auto", "gpu_flat"), ("pq", "gpu_flat"), ("ivf_pq", "gpu_ivf_flat")])
@pytest.mark.parametrize("stored", ["float32", "int8"])
def test_sealed_segments_are_searched_on_the_gpu(tmp_path: Path, kind: str, told: str, stored: str) -> None:
    with filled(tmp_path, spec(kind, stored)) as collection:
        assert {each.indexes["v"] for each in collection.info().parts} == {told}
        few = Filter.of(Range("n", lt=2_500), collection.spec)
        for filter_ in (None, few):
            assert recall(collection, filter_) > (0.99 if told == "gpu_flat" else 0.8)
        collection.delete([each[0] for each in searched(collection, exact=True)])
        assert all(len(each) == 10 for each in searched(collection))
    with Collection("gpu", tmp_path) as collection:
        assert {each.indexes["v"] for each in collection.info().parts} == {told}


@pytest.mark.usefixtures("device")
def test_a_gpu_without_room_leaves_a_segment_to_the_cpu_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise ResourceExhausted("GPU 0 does not take the index: out of memory")

    monkeypatch.setattr(gpu_index, "FaissDevice", full)
    with filled(tmp_path, spec()) as collection:
        assert {each.indexes["v"] for each in collection.info().parts} == {"pq"}
        assert recall(collection) > 0.95
    assert "vector 'v' is searched on the CPU: GPU 0 does not take the index: out of memory" in caplog.text


@pytest.mark.skipif(gpu_index.supports_gpu(), reason="there is a GPU")
def test_that_there_is_no_gpu_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gpu_index._tell_of_none.cache_clear()
    for name in ("one", "other"):
        with filled(tmp_path / name, spec()) as collection:
            assert {each.indexes["v"] for each in collection.info().parts} == {"pq"}
    assert caplog.text.count("they are searched on the CPU") == 1


@pytest.mark.usefixtures("device")
def test_an_index_leaves_the_gpu_with_the_last_view_that_has_it(tmp_path: Path) -> None:
    before = threading.active_count()
    collection = filled(tmp_path, spec())
    view, rows = collection.view, ROWS[:4_000]
    assert threading.active_count() == before + 1
    again = [{"id": at, "vector": each, "payload": {}} for at, each in enumerate(rows)]
    collection.upsert(points_of(collection.spec, again))
    assert collection.wait_indexed(60)
    assert len({each.part.name for each in (*view.parts, *collection.view.parts)}) > 1
    index, _ = view.parts[0].part.indexed("v")
    assert index is not None
    assert index.search(ROWS[:1], 5)[1].shape == (1, 5)
    collection.close()
    del view, index, collection
    gc.collect()
    assert threading.active_count() == before


@pytest.mark.skipif(not gpu_index.supports_gpu(), reason="no GPU here")
def test_a_gpu_finds_what_an_exact_search_does(tmp_path: Path) -> None:
    with filled(tmp_path, spec()) as collection:
        assert {each.indexes["v"] for each in collection.info().parts} == {"gpu_flat"}
        assert recall(collection) > 0.99
