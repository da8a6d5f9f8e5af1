"""Sealed segments whose vectors ask for a GPU: searched there, or on the CPU where there is none or it has no room.

No GPU is asked for: its place is taken by twins, FAISS or numpy on the CPU.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ResourceExhausted, Unavailable
from engine.vectors import gpu_placing, planner
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, VectorSpec
from engine.vectors.dense_rows import DenseRows
from engine.vectors.dense_search import DenseSearch
from engine.vectors.filter import Filter, Range
from engine.vectors.gpu_faiss import faiss_sees_gpu, host_index
from engine.vectors.index import IndexChoice
from engine.vectors.plain_points import points_of
from engine.vectors.query import DenseLeg, Query, SearchParams
from tests.engine.vectors.test_gpu_index import FilteringTwin, Twin

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
        kind = "gpu_ivf_flat" if choice.kind == "ivf_pq" else "gpu_flat"
        return Twin(host_index(vectors, choice, metric), kind)

    monkeypatch.setattr(gpu_placing, "faiss_sees_gpu", lambda: True)
    monkeypatch.setattr(planner, "GPU_US", 0.0)  # or so few rows are scanned instead
    monkeypatch.setattr(gpu_placing, "FaissDevice", twin)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[FilteringTwin]:
    """A GPU with our kernels, which is numpy; all that is placed there."""
    made: list[FilteringTwin] = []

    def places(dense: DenseRows, choice: IndexChoice, metric: Any) -> Any:  # noqa: ANN401
        def full() -> None:
            raise MemoryError("the GPU has no room")

        def roomy() -> FilteringTwin:
            made.append(FilteringTwin(dense.float32(slice(None)), "gpu_int8"))
            return made[-1]

        return [full, roomy]

    monkeypatch.setattr(gpu_placing, "kernels_see_gpu", lambda: True)
    monkeypatch.setattr(planner, "GPU_US", 0.0)  # or so few rows are scanned instead
    monkeypatch.setattr(gpu_placing, "_kernel_places", places)
    return made


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
            assert recall(collection, filter_) > (0.99 if told == "gpu_flat" else 0.6)  # half of the lists are probed
        collection.delete([each[0] for each in searched(collection, exact=True)])
        assert all(len(each) == 10 for each in searched(collection))
    with Collection("gpu", tmp_path) as collection:
        assert {each.indexes["v"] for each in collection.info().parts} == {told}


@pytest.mark.usefixtures("device")
def test_a_graph_is_the_gpus_where_faiss_has_cuvs_and_else_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def twin(vectors: Any, _: IndexChoice, metric: Any) -> Twin:  # noqa: ANN401
        return Twin(host_index(vectors, IndexChoice("flat"), metric), "gpu_cagra")

    def without(*_: object) -> None:
        raise Unavailable("built without")

    for made, told in ((twin, "gpu_cagra"), (without, "hnsw")):
        monkeypatch.setattr(gpu_placing, "GraphDevice", made)
        with filled(tmp_path / told, spec("hnsw")) as collection:
            assert {each.indexes["v"] for each in collection.info().parts} == {told}
            assert recall(collection) > 0.9
    assert "vector 'v': built without" in caplog.text


@pytest.mark.usefixtures("device")
def test_a_gpu_without_room_leaves_a_segment_to_the_cpu_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise ResourceExhausted("GPU 0 does not take the index: out of memory")

    monkeypatch.setattr(gpu_placing, "FaissDevice", full)
    with filled(tmp_path, spec()) as collection:
        assert {each.indexes["v"] for each in collection.info().parts} == {"pq"}
        assert recall(collection) > 0.95
    assert "vector 'v': GPU 0 does not take the index: out of memory" in caplog.text
    assert "vector 'v' is searched on the CPU" in caplog.text


@pytest.mark.parametrize("stored", ["float32", "binary"])
def test_kernels_take_filters_and_deletions_and_smaller_codes_where_there_is_little_room(
    tmp_path: Path, kernels: list[FilteringTwin], stored: str
) -> None:
    with filled(tmp_path, spec("auto", stored)) as collection:
        assert {each.indexes["v"] for each in collection.info().parts} == {"gpu_int8"}
        few = Filter.of(Range("n", lt=400), collection.spec)
        for filter_ in (None, few):
            assert recall(collection, filter_) > 0.99
        collection.delete([each[0] for each in searched(collection, exact=True)])
        assert recall(collection) > 0.99
    assert sum(len(each.batches) for each in kernels) > 0


def test_points_written_after_the_segment_are_found_beside_it_and_replaced_ones_are_not(
    tmp_path: Path, kernels: list[FilteringTwin]
) -> None:
    with filled(tmp_path, spec()) as collection:
        near = ROWS[7] * 10
        new = [{"id": 9_999, "vector": near, "payload": {}}, {"id": 0, "vector": near * 2, "payload": {}}]
        collection.upsert(points_of(collection.spec, new))
        hits = collection.search(Query((DenseLeg("v", near),), 5)).hits
        assert [each.id for each in hits[:2]] == [0, 9_999]
        assert recall(collection) > 0.99
        before = sum(len(each.batches) for each in kernels)
        assert searched(collection)
        assert sum(len(each.batches) for each in kernels) > before


def test_a_collection_goes_on_when_the_gpu_is_lost_and_tells_so(tmp_path: Path, kernels: list[FilteringTwin]) -> None:
    with filled(tmp_path, spec()) as collection:
        expected = searched(collection)
        for each in kernels:
            each.fault = RuntimeError("CUDA error: device lost")
        assert recall(collection) > 0.95
        assert np.mean([len({*a} & {*b}) for a, b in zip(searched(collection), expected, strict=True)]) > 9
        told = {each.indexes["v"] for each in collection.info().parts}
        assert told == {"pq, the GPU was lost: CUDA error: device lost"}
        lines: list[str] = []
        DenseSearch.of(collection.view, "v").best(ROWS[0], 5, told=lines)
        assert "segment 1: its index is pq, the GPU was lost: CUDA error: device lost" in lines


NO_GPU = not faiss_sees_gpu() and not gpu_placing.kernels_see_gpu()


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_that_there_is_no_gpu_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gpu_placing._tell_of_none.cache_clear()
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


@pytest.mark.skipif(NO_GPU, reason="no GPU here")
def test_a_gpu_finds_what_an_exact_search_does(tmp_path: Path) -> None:
    with filled(tmp_path, spec()) as collection:
        assert all(each.indexes["v"].startswith("gpu_") for each in collection.info().parts)
        assert recall(collection) > 0.99
