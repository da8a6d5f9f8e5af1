"""Sparse vectors are found, counted and scored as a loop over dictionaries does, wherever a collection is cut into parts."""

from __future__ import annotations

from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from engine.errors import DataLoss, FailedPrecondition
from engine.vectors.growing_blocks import best_of_all
from engine.vectors.lexical import SealedText
from engine.vectors.postings_room import sums_room
from engine.vectors.sparse_index import (
    GrowingSparse,
    SealedSparse,
    rows_of_sparse,
    sparse_idf,
    write_sparse_postings,
)
from engine.vectors.view import SparsePart
from kernels.reference_vectors import sparse_dot

EVERY = np.empty(0, np.uint8)
Document = dict[int, float] | None


def drawn(rng: np.random.Generator, rows: int) -> list[Document]:
    """Vectors that share low indices, of weights of either sign; some are null, some empty, some have the highest index."""
    found: list[Document] = []
    for _ in range(rows):
        indices = {int(each) % 3000 for each in rng.zipf(1.4, rng.integers(0, 15))}
        indices |= {2**32 - 1} if rng.random() < 0.05 else set()
        found.append(
            None if rng.random() < 0.2 else {each: float(np.float32(rng.normal())) for each in sorted(indices)}
        )
    return found


def columns(documents: list[Document]) -> tuple[pa.ListArray, pa.ListArray]:
    """Of `points_schema`, sliced out of longer ones."""
    indices = [[7], *(None if each is None else list(each) for each in documents)]
    values = [[0.5], *(None if each is None else list(each.values()) for each in documents)]
    return pa.array(indices, pa.list_(pa.uint32()))[1:], pa.array(values, pa.list_(pa.float32()))[1:]


def part_of(kind: str, documents: list[Document], path: Path, rng: np.random.Generator) -> SparsePart:
    """These rows as a sealed part, one in a file, or a growing part that got them in batches."""
    indices, values = columns(documents)
    if kind == "file":
        write_sparse_postings(path, "terms", *rows_of_sparse(indices, values))
        return SealedSparse.open(path)
    if kind == "memory":
        return SealedSparse.of(*rows_of_sparse(indices, values))
    growing, at = GrowingSparse(), 0
    while at < len(documents):
        size = int(rng.integers(1, 400))
        growing.append(indices[at : at + size], values[at : at + size])
        at += size
    return growing.frozen(len(documents))


def agree(found: tuple[NDArray[np.float32], NDArray[np.int64]], every: dict[int, float], k: int) -> None:
    scores, rows = found
    wanted = sorted(every.values(), reverse=True)[:k]
    assert len(scores) == len(rows) == len(wanted) == len(set(rows.tolist()))
    assert np.allclose(scores, wanted, rtol=1e-5, atol=1e-5)
    assert np.allclose(scores, [every[row] for row in rows.tolist()], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_parts_cut_anywhere_score_as_dictionaries_do(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    documents = drawn(rng, int(rng.choice([0, 1, 2, 9, 300, 2000])))
    plain = [each or {} for each in documents]
    bounds = list(pairwise(sorted({0, len(plain), *rng.integers(0, len(plain) + 1, 3).tolist()}))) or [(0, 0)]
    parts = [
        (
            begin,
            part_of(str(rng.choice(["file", "memory", "growing"])), documents[begin:end], tmp_path / str(begin), rng),
        )
        for begin, end in bounds
    ]
    assert sum(each.vectors for _, each in parts) == sum(map(bool, plain))
    for query in ({1: 1.0}, {1: 1.0, 2: -0.5, 9: 2.0, 2**32 - 1: 0.25}, {5000: 1.0}, {}):
        indices, weights = np.array([*query], np.uint32), np.array([*query.values()], np.float32)
        living = rng.random(len(plain)) < 0.6
        every = sparse_dot(plain, query)
        for k in (1, 10, 5000):
            agree(best_of_all([(b, each.best(indices, weights, EVERY, k)) for b, each in parts], k), every, k)
            found = [
                (begin, part.best(indices, weights, np.packbits(living[begin:end], bitorder="little"), k))
                for (begin, part), (_, end) in zip(parts, bounds, strict=True)
            ]
            agree(best_of_all(found, k), {row: score for row, score in every.items() if living[row]}, k)


def test_idf_is_over_the_vectors_of_all_parts() -> None:
    rng = np.random.default_rng(1)
    documents = drawn(rng, 700)
    parts = [part_of(kind, documents[at:], Path(), rng) for kind, at in (("memory", 0), ("growing", 100))]
    found = sparse_idf(parts, np.array([1, 4000], np.uint32))
    together = [each for each in documents + documents[100:] if each]
    having = sum(1 in each for each in together)
    assert np.allclose(found, [log(1 + (len(together) - n + 0.5) / (n + 0.5)) for n in (having, 0)])


def test_a_row_scores_the_same_growing_and_sealed() -> None:
    rng = np.random.default_rng(2)
    documents = drawn(rng, 1500)
    growing, sealed = (part_of(kind, documents, Path(), rng) for kind in ("growing", "memory"))
    indices, weights = np.arange(40, dtype=np.uint32), rng.normal(size=40).astype(np.float32)
    ours, theirs = (each.best(indices, weights, EVERY, 500) for each in (growing, sealed))
    assert ours[0].tolist() == theirs[0].tolist()
    assert ours[1].tolist() == theirs[1].tolist()


def test_sums_that_overflow_leave_nothing_behind() -> None:
    starts, indices = np.array([0, 40, 80]), np.tile(np.arange(40, dtype=np.uint32), 2)
    signs = np.where(np.arange(80) % 3, -1, 1).astype(np.float32)
    for weights in (np.full(80, -3e38, np.float32), 3e38 * signs):
        for query in (1e30, 1.0, -1e30):
            part = SealedSparse.of(starts, indices, weights)
            _, rows = part.best(indices[:40], np.full(40, query, np.float32), EVERY, 10)
            assert set(rows.tolist()) <= {0, 1}
            assert (sums_room(2)[0] == -np.inf).all()


def test_a_file_cut_anywhere_is_refused_and_one_with_a_wrong_byte_searched_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "sparse-0.postings"
    write_sparse_postings(
        path, "terms", *rows_of_sparse(*columns([{1: 1.0, 5: 2.0}, None, {1: 3.0}, {2**32 - 1: 1.0}]))
    )
    opened = SealedSparse.open(path)
    assert (opened.name, opened.rows, opened.vectors) == ("terms", 4, 3)
    whole, indices = path.read_bytes(), np.array([1, 5, 2**32 - 1], np.uint32)
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        with pytest.raises(DataLoss, match="damaged"):
            SealedSparse.open(path)
        for mask in (1, 0x80, 0xFF):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            try:
                part = SealedSparse.open(path)
            except (DataLoss, FailedPrecondition):
                continue
            rows = part.best(indices, np.ones(3, np.float32), EVERY, 10)[1]
            assert ((rows >= 0) & (rows < 4)).all()
    assert (sums_room(1)[0] == -np.inf).all(), "a query left its sums behind"


def test_postings_of_words_are_no_sparse_vectors(tmp_path: Path) -> None:
    path = tmp_path / "sparse-0.postings"
    write_sparse_postings(path, "terms", *rows_of_sparse(*columns([{1: 1.0}])))
    with pytest.raises(DataLoss, match="expected \\['frequencies', 'lengths', 'offsets', 'rows', 'terms'\\]"):
        SealedText.open(path)


def test_nothing_is_found_in_no_rows(tmp_path: Path) -> None:
    every: list[list[Document]] = [[], [None], [{}], [None, {}]]
    for documents in every:
        for kind in ("file", "memory", "growing"):
            part = part_of(kind, documents, tmp_path / "postings", np.random.default_rng(0))
            indices = np.array([1], np.uint32)
            assert part.vectors == 0
            assert part.counts(indices).tolist() == [0]
            assert len(part.best(indices, np.ones(1, np.float32), EVERY, 10)[0]) == 0
