"""Searches on a GPU: batches, filters, and what becomes of them when the device has no room or is lost.

No GPU is asked for: twins on the CPU stand in its place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import DataLoss, Internal, Unavailable
from engine.vectors import gpu_faiss
from engine.vectors.gpu_faiss import FaissDevice, GraphDevice, faiss_sees_gpu, host_index, nodes_searched
from engine.vectors.gpu_index import COUNT_MAX, Device, GpuIndex
from engine.vectors.index import Bits, Floats, IndexChoice, Rows, VectorIndex
from kernels import reference_gpu

ROWS, SIZE = 5_000, 16
FLAT = IndexChoice("flat")


class Twin:
    """A device that is FAISS on the CPU, without filters. `gate`: searches wait for it; `fault`: what the next ones raise."""

    filters = False

    def __init__(self, index: Any, kind: str = "gpu_flat") -> None:  # noqa: ANN401
        self.index, self.kind = index, kind
        self.bytes_size = 2 * ROWS * SIZE
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.batches: list[int] = []
        self.fault: Exception | None = None

    def search(self, queries: Floats, count: int, bits: Bits | None = None) -> tuple[Floats, Rows]:
        self.began.set()
        self.gate.wait()
        assert count <= COUNT_MAX
        self.batches.append(len(queries))
        if self.fault is not None:
            raise self.fault
        return self.found(queries, count, bits)

    def found(self, queries: Floats, count: int, bits: Bits | None) -> tuple[Floats, Rows]:
        assert bits is None
        return self.index.search(queries, count)  # type: ignore[no-any-return]

    def save(self, path: Path) -> None:
        path.write_bytes(b"twin")


class FilteringTwin(Twin):
    """A device that is the numpy twin of our kernels. `index` is the vectors."""

    filters = True

    def found(self, queries: Floats, count: int, bits: Bits | None) -> tuple[Floats, Rows]:
        scores, rows = reference_gpu.nearest(reference_gpu.scores(self.index, queries, "dot"), count, bits)
        return scores.astype(np.float32), rows


class OnCpu:
    """The same index on the CPU: brute force."""

    kind, rows, bytes_size = "pq", ROWS, 0

    def search(
        self, queries: Floats, count: int, bits: Bits | None = None, *, effort: float = 1.0
    ) -> tuple[Floats, Rows]:
        scores, rows = reference_gpu.nearest(reference_gpu.scores(vectors(), queries, "dot"), count, bits)
        return scores.astype(np.float32), rows

    def save(self, path: Path) -> None:
        raise OSError(str(path))


def vectors(rows: int = ROWS, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, SIZE), np.float32)


@pytest.fixture
def opened() -> Iterator[list[GpuIndex]]:
    """Closed afterwards."""
    indexes: list[GpuIndex] = []
    yield indexes
    for each in indexes:
        each.close()


def on(device: Device, opened: list[GpuIndex], on_cpu: VectorIndex | None = None) -> GpuIndex:
    opened.append(GpuIndex(device, ROWS, "vector 'v'", lambda: on_cpu))
    return opened[-1]


def made(opened: list[GpuIndex], choice: IndexChoice = FLAT) -> tuple[GpuIndex, Twin]:
    twin = Twin(host_index(vectors(), choice, "dot"))
    return on(twin, opened), twin


def nearest(queries: Floats, k: int, passing: Any = None) -> list[list[int]]:  # noqa: ANN401
    scores = queries @ vectors().T
    if passing is not None:
        scores = np.where(passing, scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :k].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("choice", [FLAT, IndexChoice("ivf_pq", lists=16, probed=16)])
def test_it_finds_what_brute_force_finds(choice: IndexChoice, opened: list[GpuIndex]) -> None:
    index, twin = made(opened, choice)
    queries = vectors(5, 2)
    assert index.search(queries, 20)[1].tolist() == nearest(queries, 20)
    assert (index.rows, index.kind, index.bytes_size) == (ROWS, "gpu_flat", twin.bytes_size)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("inside", [True, False])
def test_a_filter_is_kept_inside_or_by_fetching_more(share: float, inside: bool, opened: list[GpuIndex]) -> None:
    twin = FilteringTwin(vectors()) if inside else Twin(host_index(vectors(), FLAT, "dot"))
    index = on(twin, opened)
    passing = np.random.default_rng(3).random(ROWS) < share
    queries = vectors(4, 2)
    scores, rows = index.search(queries, 10, np.packbits(passing, bitorder="little"))
    assert rows.tolist() == nearest(queries, 10, passing)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert not inside or twin.batches == [4]


def test_rows_that_are_not_there_are_minus_one(opened: list[GpuIndex]) -> None:
    index, _ = made(opened)
    bits = np.zeros(ROWS // 8, np.uint8)
    assert (index.search(vectors(2), 7, bits)[1] == -1).all()
    _, rows = index.search(vectors(1), ROWS + 3)
    assert rows.shape == (1, ROWS + 3)
    assert (rows[0, COUNT_MAX:] == -1).all()


def waiting(index: GpuIndex, many: int) -> None:
    """Until so many wait."""
    while len(index._waiting) < many:
        threading.Event().wait(0.001)


def test_callers_that_wait_are_answered_in_one_batch_and_each_gets_its_own(opened: list[GpuIndex]) -> None:
    index, twin = made(opened)
    queries = vectors(65, 2)
    expected = nearest(queries, 20)
    twin.gate.clear()
    with ThreadPoolExecutor(65) as pool:
        first = pool.submit(index.search, queries[:1], 3)
        twin.began.wait()
        rest = [pool.submit(index.search, queries[row : row + 1], row % 19 + 1) for row in range(1, 65)]
        waiting(index, 64)
        twin.gate.set()
        assert first.result()[1].tolist() == [expected[0][:3]]
        for row, each in enumerate(rest, 1):
            assert each.result()[1].tolist() == [expected[row][: row % 19 + 1]]
    assert twin.batches == [1, 64]


def test_callers_with_one_filter_go_together_and_the_others_in_their_turn(opened: list[GpuIndex]) -> None:
    twin = FilteringTwin(vectors())
    index = on(twin, opened)
    queries = vectors(13, 2)
    passing = [np.random.default_rng(seed).random(ROWS) < 0.3 for seed in range(2)]
    filters = [None, *(np.packbits(each, bitorder="little") for each in passing)]
    twin.gate.clear()
    with ThreadPoolExecutor(13) as pool:
        answers = [pool.submit(index.search, queries[:1], 5)]
        twin.began.wait()
        for row in range(1, 13):
            answers.append(pool.submit(index.search, queries[row : row + 1], 5, filters[row % 3]))
            waiting(index, row)
        twin.gate.set()
        for row, each in enumerate(answers):
            allowed = passing[row % 3 - 1] if row % 3 else None
            assert each.result()[1].tolist() == nearest(queries[row : row + 1], 5, allowed)
    assert twin.batches == [1, 4, 4, 4]


def test_callers_that_come_again_and_again_each_get_their_own_answers(opened: list[GpuIndex]) -> None:
    index, twin = made(opened)
    queries = vectors(64, 2)
    expected = nearest(queries, 10)

    def calls(row: int) -> bool:
        return all(index.search(queries[row : row + 1], 10)[1].tolist() == [expected[row]] for _ in range(30))

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(calls, range(64)))
    assert sum(twin.batches) == 64 * 30


@pytest.mark.parametrize(
    "fault", [MemoryError("the GPU has no room"), ValueError("query 0 has a number that is not finite")]
)
def test_what_the_device_does_not_take_the_cpu_answers_and_the_device_the_next(
    opened: list[GpuIndex], fault: Exception
) -> None:
    twin = FilteringTwin(vectors())
    index = on(twin, opened, OnCpu())
    queries = vectors(3, 2)
    twin.fault = fault
    assert index.search(queries, 10)[1].tolist() == nearest(queries, 10)
    twin.fault = None
    assert index.search(queries, 10)[1].tolist() == nearest(queries, 10)
    assert twin.batches == [3, 3]
    assert index.kind == "gpu_flat"


def test_a_lost_device_is_never_asked_again_and_the_cpu_goes_on_for_all_who_wait(
    opened: list[GpuIndex], caplog: pytest.LogCaptureFixture
) -> None:
    twin = FilteringTwin(vectors())
    index = on(twin, opened, OnCpu())
    queries = vectors(20, 2)
    expected = nearest(queries, 10)
    twin.fault = RuntimeError("CUDA error: an illegal memory access was encountered")
    twin.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(index.search, queries[row : row + 1], 10) for row in range(20)]
        waiting(index, 5)
        twin.gate.set()
        assert [each.result()[1].tolist()[0] for each in answers] == expected
    assert len(twin.batches) == 1
    assert index.kind == "pq, the GPU was lost: CUDA error: an illegal memory access was encountered"
    assert "vector 'v' is searched on the CPU from now on, the GPU was lost: CUDA error" in caplog.text
    with pytest.raises(OSError, match="the GPU was lost"):
        index.save(Path("never"))


def test_where_no_index_is_left_nothing_is_found_so_that_rows_are_scanned(opened: list[GpuIndex]) -> None:
    def gone() -> VectorIndex:
        raise DataLoss("index file 'x' cannot be read")

    twin = FilteringTwin(vectors())
    twin.fault = RuntimeError("CUDA error")
    opened.append(GpuIndex(twin, ROWS, "vector 'v'", gone))
    for _ in range(2):
        assert opened[0].search(vectors(2), 4)[1].tolist() == [[-1] * 4] * 2
    assert opened[0].kind.startswith("flat, the GPU was lost")


def test_a_cpu_that_fails_too_fails_the_call_and_not_the_next(
    opened: list[GpuIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin, cpu = FilteringTwin(vectors()), OnCpu()
    twin.fault = MemoryError("the GPU has no room")
    index = on(twin, opened, cpu)
    with monkeypatch.context() as broken:
        broken.setattr(cpu, "search", None)
        with pytest.raises(Internal, match="failed on the GPU and on the CPU"):
            index.search(vectors(1), 3)
    assert index.search(vectors(1), 3)[1].shape == (1, 3)


def test_a_closed_index_says_so(opened: list[GpuIndex]) -> None:
    index, _ = made(opened)
    index.close()
    index.close()
    with pytest.raises(Unavailable, match="closed"):
        index.search(vectors(1), 3)


@pytest.mark.skipif(faiss_sees_gpu(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "StandardGpuResources: alloc fail type TemporaryMemoryOverflow (cudaMalloc error out of memory [2])",
            MemoryError,
        ),
        ("std::bad_alloc: out_of_memory: CUDA error at: cuda_memory_resource.hpp", MemoryError),
        ("CUDA error 700 an illegal memory access was encountered", RuntimeError),
    ],
)
@pytest.mark.parametrize("made", [FaissDevice, GraphDevice])
def test_a_search_for_which_faiss_has_no_room_does_not_cost_the_device(
    made: type[FaissDevice | GraphDevice], words: str, told: type[Exception]
) -> None:
    class Failing:
        def search(self, *_: object, **__: object) -> None:
            raise RuntimeError(words)

    device = made.__new__(made)  # which needs a GPU to be made
    vars(device).update(_index=Failing(), _faiss=SimpleNamespace(SearchParametersCagra=SimpleNamespace))
    with pytest.raises(told) as caught:
        device.search(np.zeros((1, SIZE), np.float32), 10)
    assert type(caught.value) is told


def test_without_a_gpu_the_error_names_what_is_missing() -> None:
    for device in (FaissDevice, GraphDevice):
        with pytest.raises(Unavailable, match="GPU"):
            device(vectors(10), FLAT, "dot")


def test_a_faiss_without_cuvs_says_that_graphs_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_faiss, "faiss_sees_gpu", lambda: True)
    monkeypatch.delattr("faiss.GpuIndexCagra", raising=False)
    with pytest.raises(Unavailable, match=r"built with cuVS \(faiss-gpu-cuvs\), but the faiss installed here"):
        GraphDevice(vectors(10), IndexChoice("hnsw"), "dot")


def test_a_graph_keeps_as_many_nodes_as_cuvs_takes() -> None:
    assert [nodes_searched(each) for each in (1, 64, 65, 512)] == [64, 64, 96, 512]
    with pytest.raises(MemoryError, match="512 at most, 513 were asked for"):
        nodes_searched(513)


@pytest.mark.skipif(not faiss_sees_gpu(), reason="no GPU here")
def test_a_gpu_finds_what_the_cpu_finds(tmp_path: Path, opened: list[GpuIndex]) -> None:
    host = host_index(vectors(), FLAT, "dot")
    index = on(FaissDevice(vectors(), FLAT, "dot"), opened)
    queries = vectors(20, 2)
    found, expected = index.search(queries, 10)[1], host.search(queries, 10)[1]
    assert np.mean([len(np.intersect1d(*each)) for each in zip(found, expected, strict=True)]) > 9.5  # float16
    index.save(tmp_path / "index")
