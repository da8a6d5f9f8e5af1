"""Indexes of sealed segments against brute force: recall, filters, order, files, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from engine.errors import DataLoss
from engine.vectors.codebook import Codebook, should_retrain
from engine.vectors.declaration import Metric
from engine.vectors.faiss_index import FaissIndex, build_index, load_index, signs_of, train_codebook
from engine.vectors.index import Bits, Floats, IndexChoice, Rows

ROWS, SIZE, COUNT = 3_000, 48, 200
CHOICES = {
    "pq": IndexChoice("pq"),
    "ivf_pq": IndexChoice("ivf_pq", lists=32, probed=16),
    "hnsw": IndexChoice("hnsw", links=16),
    "binary": IndexChoice("binary"),
}
METRICS: tuple[Metric, ...] = ("cosine", "dot", "l2")


def clustered(rows: int, size: int, seed: int, *, unit: bool) -> Floats:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, size))
    found = (centres[rng.integers(40, size=rows)] + 0.7 * rng.standard_normal((rows, size))).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True) if unit else found


def nearest(vectors: Floats, queries: Floats, metric: Metric, k: int, bits: Bits | None = None) -> Rows:
    scores = -((queries[:, None, :] - vectors[None]) ** 2).sum(2) if metric == "l2" else queries @ vectors.T
    if bits is not None:
        scores = np.where(np.unpackbits(bits, count=len(vectors), bitorder="little"), scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :k]


def recall(found: Rows, expected: Rows) -> float:
    return float(np.mean([np.isin(best, rows).mean() for rows, best in zip(found, expected, strict=True)]))


def made(kind: str, metric: Metric, *, rows: int = ROWS, size: int = SIZE) -> tuple[FaissIndex, Floats]:
    vectors = clustered(rows, size, 1, unit=metric == "cosine")
    codebook = train_codebook(vectors) if kind in ("pq", "ivf_pq") else None
    return build_index(vectors, CHOICES[kind], metric, codebook), vectors


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", CHOICES)
def test_the_nearest_are_among_the_candidates(kind: str, metric: Metric) -> None:
    index, vectors = made(kind, metric)
    queries = clustered(20, SIZE, 2, unit=metric == "cosine")
    scores, rows = index.search(queries, COUNT)
    assert (index.kind, index.rows) == (kind, ROWS)
    assert index.bytes_size > 0
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64
    assert (np.diff(scores, axis=1) <= 0).all()  # the higher the better, whatever the metric
    if kind != "binary" or metric == "cosine":
        assert recall(rows, nearest(vectors, queries, metric, 10)) > (0.85 if kind == "binary" else 0.93)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", CHOICES)
def test_only_rows_whose_bit_is_set_are_found(kind: str, share: float) -> None:
    index, vectors = made(kind, "cosine")
    passing = np.random.default_rng(5).random(ROWS) < share
    passing[7] = True
    bits = np.packbits(passing, bitorder="little")
    queries = clustered(5, SIZE, 6, unit=True)
    _, rows = index.search(queries, COUNT, bits, effort=4.0)
    for found in rows:
        real = found[found >= 0]
        assert passing[real].all()
        assert len(set(real.tolist())) == len(real)
        assert (found[len(real) :] == -1).all()
        if kind in ("pq", "binary"):
            assert len(real) == min(COUNT, passing.sum())
    if kind == "pq":
        expected = nearest(vectors, queries, "cosine", min(10, int(passing.sum())), bits)
        assert recall(rows, expected) > 0.93


@pytest.mark.parametrize("kind", CHOICES)
def test_nothing_passes_a_filter_without_bits(kind: str) -> None:
    index, _ = made(kind, "l2")
    _, rows = index.search(clustered(2, SIZE, 6, unit=False), 5, np.zeros(ROWS // 8, np.uint8))
    assert (rows == -1).all()


@pytest.mark.parametrize("kind", CHOICES)
def test_asking_for_more_than_there_is_ends_with_no_row(kind: str) -> None:
    index, _ = made(kind, "cosine", rows=300)
    _, rows = index.search(clustered(1, SIZE, 6, unit=True), 400, effort=100.0)
    assert (rows[0, 300:] == -1).all()
    if kind != "hnsw":  # a graph may not reach every node
        assert sorted(rows[0, :300].tolist()) == list(range(300))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 30, 65, 129, 257])
@pytest.mark.parametrize("kind", CHOICES)
def test_any_number_of_dimensions_will_do(kind: str, size: int) -> None:
    index, vectors = made(kind, "l2", rows=600, size=size)
    _, rows = index.search(vectors[:3].copy(), 100)
    assert rows.max() < 600
    if kind != "binary":
        assert recall(rows, nearest(vectors, vectors[:3], "l2", 5)) > 0.6


@pytest.mark.parametrize("kind", CHOICES)
def test_a_loaded_index_answers_as_the_one_that_was_saved(kind: str, tmp_path: Path) -> None:
    index, _ = made(kind, "l2")
    queries = clustered(7, SIZE, 2, unit=False)
    index.save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    assert (loaded.kind, loaded.rows, loaded.bytes_size) == (index.kind, index.rows, index.bytes_size)
    bits = np.full(ROWS // 8, 0b01010101, np.uint8)
    for given in (None, bits):
        scores, rows = index.search(queries, 50, given)
        again = loaded.search(queries, 50, given)
        assert np.array_equal(scores, again[0])
        assert np.array_equal(rows, again[1])


@pytest.mark.parametrize("kind", CHOICES)
def test_a_torn_foreign_or_missing_index_file_is_data_loss(kind: str, tmp_path: Path) -> None:
    index, _ = made(kind, "cosine", rows=300)
    path = tmp_path / "index"
    index.save(path)
    whole = path.read_bytes()
    for torn in (b"", whole[:10], whole[: len(whole) // 2], whole[:-1], whole + b"x", b"\0" * 100, whole[:-40]):
        path.write_bytes(torn)
        with pytest.raises(DataLoss, match="index file"):
            load_index(path)
    path.write_bytes(b"IxXX" + whole[4:])  # another library's format within our frame
    with pytest.raises(DataLoss):
        load_index(path)
    with pytest.raises(DataLoss):
        load_index(tmp_path / "nothing")


def test_an_index_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    index, _ = made("pq", "cosine", rows=300)
    with pytest.raises(OSError, match="nowhere"):
        index.save(tmp_path / "nowhere" / "index")


def test_many_threads_get_the_answers_that_one_gets() -> None:
    index, _ = made("pq", "cosine")
    queries = clustered(64, SIZE, 8, unit=True)
    bits = np.packbits(np.random.default_rng(1).random(ROWS) < 0.3, bitorder="little")
    alone = [index.search(query[None], 20, bits)[1].tolist() for query in queries]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: index.search(queries[i % 64 : i % 64 + 1], 20, bits)[1].tolist(), range(1024)))
    assert found == alone * 16


def test_building_in_slices_of_a_mapped_file_is_building_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clustered(ROWS, SIZE, 1, unit=True)
    np.save(tmp_path / "vectors.npy", vectors)
    codebook = train_codebook(vectors)
    whole = build_index(vectors, CHOICES["pq"], "cosine", codebook)
    monkeypatch.setattr("engine.vectors.faiss_index.SLICE_BYTES", 7 * 4 * SIZE)
    sliced = build_index(np.load(tmp_path / "vectors.npy", mmap_mode="r"), CHOICES["pq"], "cosine", codebook)
    queries = clustered(9, SIZE, 2, unit=True)
    assert np.array_equal(whole.search(queries, 40)[0], sliced.search(queries, 40)[0])


def test_one_codebook_serves_segments_it_was_not_trained_on(tmp_path: Path) -> None:
    train_codebook(clustered(ROWS, SIZE, 1, unit=True)).save(tmp_path / "codebook")
    codebook = Codebook.load(tmp_path / "codebook")
    others = clustered(ROWS, SIZE, 77, unit=True)
    queries = clustered(20, SIZE, 2, unit=True)
    for kind in ("pq", "ivf_pq"):
        _, rows = build_index(others, CHOICES[kind], "cosine", codebook).search(queries, COUNT)
        assert recall(rows, nearest(others, queries, "cosine", 10)) > 0.93


def test_training_again_gives_the_same_codebook_and_drift_asks_for_another() -> None:
    vectors = clustered(ROWS, SIZE, 1, unit=True)
    codebook = train_codebook(vectors)
    assert np.array_equal(codebook.centres, train_codebook(vectors).centres)
    assert 0 < codebook.error < 1
    assert not should_retrain(codebook, clustered(500, SIZE, 5, unit=True))
    assert should_retrain(codebook, 3 + clustered(500, SIZE, 5, unit=True))


@pytest.mark.parametrize("rows", [1, 5, 15, 17])
def test_a_codebook_may_be_trained_on_a_handful_of_rows(rows: int) -> None:
    vectors = clustered(rows, 9, 1, unit=True)
    index = build_index(vectors, CHOICES["pq"], "cosine", train_codebook(vectors))
    assert sorted(index.search(vectors[:1], rows)[1][0].tolist()) == list(range(rows))


def test_signs_fill_whole_words() -> None:
    assert signs_of(np.array([[1.0, -1.0, 0.0, 2.0]], np.float32)).tolist() == [[0b1001, 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("metric", METRICS)
def test_rows_are_found_even_where_all_are_equally_near(metric: Metric) -> None:
    same = np.ones((300, 9), np.float32)
    index = build_index(same, CHOICES["pq"], metric, train_codebook(same))
    assert len(set(index.search(same[:2].copy(), 50)[1][1].tolist()) - {-1}) == 50
    index, _ = made("pq", metric)
    scores, rows = index.search(np.zeros((1, SIZE), np.float32), 50)
    assert len(set(rows[0].tolist()) - {-1}) == 50
    assert np.isfinite(scores).all()
    bits = np.zeros(ROWS // 8, np.uint8)
    bits[3] = 0b101
    assert sorted(index.search(np.zeros((1, SIZE), np.float32), 4, bits)[1][0].tolist()) == [-1, -1, 24, 26]


def test_a_build_finds_out_how_many_lists_must_be_probed(tmp_path: Path) -> None:
    vectors = clustered(ROWS, SIZE, 1, unit=True)
    codebook = train_codebook(vectors)
    queries = clustered(20, SIZE, 2, unit=True)
    build_index(vectors, IndexChoice("ivf_pq", lists=64), "cosine", codebook).save(tmp_path / "index")
    _, rows = load_index(tmp_path / "index").search(queries, COUNT)
    assert recall(rows, nearest(vectors, queries, "cosine", 10)) > 0.9


def test_long_vectors_do_not_draw_all_rows_into_their_lists(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    along = np.eye(SIZE, dtype=np.float32)[0] * 6  # as vectors of popular items have in common
    vectors = rng.standard_normal((ROWS, SIZE)) + along
    vectors = (vectors * rng.lognormal(0, 0.5, (ROWS, 1))).astype(np.float32)
    index = build_index(vectors, IndexChoice("ivf_pq", lists=64, probed=16), "dot", train_codebook(vectors))
    index.save(tmp_path / "index")
    read: Any = faiss.read_index(str(tmp_path / "index"))
    sizes = np.array([read.invlists.list_size(each) for each in range(read.nlist)])
    assert (sizes**2).sum() / sizes.sum() < ROWS / 8  # the length of a row's list on average; ROWS / 64 at best
    queries = rng.standard_normal((20, SIZE)).astype(np.float32) + along
    assert recall(index.search(queries, COUNT)[1], nearest(vectors, queries, "dot", 10)) > 0.93
