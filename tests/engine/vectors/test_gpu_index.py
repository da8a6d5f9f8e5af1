"""The GPU index's batching and filters, over its twin on the CPU. No GPU is asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import Internal, Unavailable
from engine.vectors.gpu_index import COUNT_MAX, FaissDevice, GpuIndex, host_index, supports_gpu
from engine.vectors.index import Floats, IndexChoice, Rows

ROWS, SIZE = 5_000, 16
FLAT = IndexChoice("flat")


class Twin:
    """The same index on the CPU. `gate`: searches wait for it."""

    def __init__(self, index: Any) -> None:  # noqa: ANN401
        self.index = index
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.batches: list[int] = []

    def search(self, queries: Floats, count: int) -> tuple[Floats, Rows]:
        self.began.set()
        self.gate.wait()
        assert count <= COUNT_MAX
        self.batches.append(len(queries))
        return self.index.search(queries, count)  # type: ignore[no-any-return]

    def save(self, path: Path) -> None:
        path.write_bytes(b"twin")


def vectors(rows: int = ROWS, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, SIZE), np.float32)


def made(choice: IndexChoice = FLAT) -> tuple[GpuIndex, Twin]:
    twin = Twin(host_index(vectors(), choice, "dot"))
    return GpuIndex(twin, choice.kind, ROWS, SIZE), twin


def nearest(queries: Floats, k: int, passing: Any = None) -> list[list[int]]:  # noqa: ANN401
    scores = queries @ vectors().T
    if passing is not None:
        scores = np.where(passing, scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :k].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("choice", [FLAT, IndexChoice("ivf_pq", lists=16, probed=16)])
def test_it_finds_what_brute_force_finds(choice: IndexChoice) -> None:
    index, _ = made(choice)
    queries = vectors(5, 2)
    assert index.search(queries, 20)[1].tolist() == nearest(queries, 20)
    kind, bytes_each = ("gpu_flat", 2) if choice.kind == "flat" else ("gpu_ivf_flat", 4)
    assert (index.rows, index.kind, index.bytes_size) == (ROWS, kind, bytes_each * ROWS * SIZE)
    index.close()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_a_filter_is_kept_by_fetching_more(share: float) -> None:
    index, _ = made()
    passing = np.random.default_rng(3).random(ROWS) < share
    queries = vectors(4, 2)
    scores, rows = index.search(queries, 10, np.packbits(passing, bitorder="little"))
    assert rows.tolist() == nearest(queries, 10, passing)
    assert (np.diff(scores, axis=1) <= 0).all()
    index.close()


def test_rows_that_are_not_there_are_minus_one() -> None:
    index, _ = made()
    bits = np.zeros(ROWS // 8, np.uint8)
    assert (index.search(vectors(2), 7, bits)[1] == -1).all()
    _, rows = index.search(vectors(1), ROWS + 3)
    assert rows.shape == (1, ROWS + 3)
    assert (rows[0, COUNT_MAX:] == -1).all()
    index.close()


def test_callers_that_wait_are_answered_in_one_batch_and_each_gets_its_own() -> None:
    index, twin = made()
    queries = vectors(33, 2)
    expected = nearest(queries, 20)
    twin.gate.clear()
    with ThreadPoolExecutor(33) as pool:
        first = pool.submit(index.search, queries[:1], 3)
        twin.began.wait()
        rest = [pool.submit(index.search, queries[row : row + 1], row % 19 + 1) for row in range(1, 33)]
        while index._waiting.qsize() < 32:
            threading.Event().wait(0.001)
        twin.gate.set()
        assert first.result()[1].tolist() == [expected[0][:3]]
        for row, each in enumerate(rest, 1):
            assert each.result()[1].tolist() == [expected[row][: row % 19 + 1]]
    assert twin.batches == [1, 32]
    index.close()


def test_a_failing_device_fails_the_call_and_not_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    index, twin = made()
    with monkeypatch.context() as broken:
        broken.setattr(twin, "index", None)
        with pytest.raises(Internal, match="GPU"):
            index.search(vectors(1), 3)
    assert index.search(vectors(1), 3)[1].shape == (1, 3)
    index.close()


def test_a_closed_index_says_so() -> None:
    index, _ = made()
    index.close()
    index.close()
    with pytest.raises(Unavailable, match="closed"):
        index.search(vectors(1), 3)


@pytest.mark.skipif(supports_gpu(), reason="there is a GPU")
def test_without_a_gpu_the_error_names_what_is_missing() -> None:
    with pytest.raises(Unavailable, match="GPU"):
        FaissDevice(vectors(10), FLAT, "dot")


@pytest.mark.skipif(not supports_gpu(), reason="no GPU here")
def test_a_gpu_finds_what_the_cpu_finds(tmp_path: Path) -> None:
    host = host_index(vectors(), FLAT, "dot")
    index = GpuIndex(FaissDevice(vectors(), FLAT, "dot"), "flat", ROWS, SIZE)
    queries = vectors(20, 2)
    found, expected = index.search(queries, 10)[1], host.search(queries, 10)[1]
    assert np.mean([len(np.intersect1d(*each)) for each in zip(found, expected, strict=True)]) > 9.5  # float16
    index.save(tmp_path / "index")
    index.close()
