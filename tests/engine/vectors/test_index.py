"""The choice of an index by size and declaration, and the codebook's value, file and error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataLoss
from engine.vectors.codebook import Codebook, padded, quantisation_error, sample_of, should_retrain, width_for
from engine.vectors.declaration import IndexSpec
from engine.vectors.index import FLAT_ROWS_MAX, PQ_ROWS_MAX, IndexChoice, choose_index, lists_for


@pytest.mark.parametrize(
    ("rows", "kind"),
    [(0, "flat"), (FLAT_ROWS_MAX - 1, "flat"), (FLAT_ROWS_MAX, "pq"), (PQ_ROWS_MAX, "pq"), (PQ_ROWS_MAX + 1, "ivf_pq")],
)
def test_auto_goes_from_a_scan_to_codes_to_lists_as_rows_grow(rows: int, kind: str) -> None:
    assert choose_index(rows, 384, IndexSpec()).kind == kind


def test_short_vectors_are_scanned_for_longer() -> None:
    assert choose_index(2 * FLAT_ROWS_MAX, 8, IndexSpec()).kind == "flat"
    assert choose_index(8 * FLAT_ROWS_MAX, 8, IndexSpec()).kind == "pq"


@pytest.mark.parametrize("kind", ["pq", "ivf_pq", "hnsw", "binary"])
def test_a_declared_kind_is_taken_at_its_word_but_for_a_handful_of_rows(kind: str) -> None:
    assert choose_index(10_000, 384, IndexSpec(kind=kind)).kind == kind  # type: ignore[arg-type]
    assert choose_index(10, 384, IndexSpec(kind=kind)) == IndexChoice("flat")


def test_flat_is_never_anything_else() -> None:
    assert choose_index(10_000_000, 384, IndexSpec(kind="flat")) == IndexChoice("flat")


def test_lists_are_declared_or_by_size_and_never_more_than_rows_can_fill() -> None:
    assert choose_index(1_000_000, 128, IndexSpec()).lists == 2_048
    assert choose_index(1_000_000, 128, IndexSpec(kind="ivf_pq", lists=500)).lists == 500
    assert choose_index(2_000, 128, IndexSpec(kind="ivf_pq", lists=500)).lists <= 2_000 // 32
    assert lists_for(0) == 2
    assert max(lists_for(rows) for rows in (10, 10**6, 10**9)) == 16_384


def test_links_of_a_graph_are_those_declared() -> None:
    assert choose_index(10_000, 32, IndexSpec(kind="hnsw", links=7)).links == 7


def _codebook(size: int = 10) -> Codebook:
    rng = np.random.default_rng(3)
    parts = -(-size // width_for(size))
    return Codebook(rng.standard_normal((parts, 16, width_for(size)), np.float32), size, 0.5, 100)


def test_a_codebook_comes_back_from_its_file(tmp_path: Path) -> None:
    given = _codebook()
    given.save(tmp_path / "codebook")
    found = Codebook.load(tmp_path / "codebook")
    assert np.array_equal(found.centres, given.centres)
    assert (found.size, found.error, found.rows, found.parts, found.width) == (10, 0.5, 100, 10, 1)


def test_every_damaged_byte_of_a_codebook_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "codebook"
    _codebook(2).save(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataLoss, match="codebook"):
            Codebook.load(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataLoss):
            Codebook.load(path)


def test_a_missing_codebook_is_data_loss(tmp_path: Path) -> None:
    with pytest.raises(DataLoss, match="cannot be read"):
        Codebook.load(tmp_path / "nothing")


def test_the_error_is_what_brute_force_says() -> None:
    rng = np.random.default_rng(4)
    codebook = _codebook(6)
    vectors = rng.standard_normal((50, 6), np.float32)
    nearest = np.stack(
        [c[np.abs(vectors[:, i, None] - c[:, 0]).argmin(1), 0] for i, c in enumerate(codebook.centres)], 1
    )
    lost = ((vectors - nearest) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum()
    assert quantisation_error(codebook, vectors) == pytest.approx(lost, rel=1e-4)


def test_equal_vectors_lose_nothing_and_ask_for_no_training() -> None:
    same = np.ones((5, 6), np.float32)
    assert quantisation_error(_codebook(6), same) == 0.0
    assert not should_retrain(_codebook(6), same)


def test_a_sample_is_bounded_seeded_and_in_order() -> None:
    vectors = np.arange(40_000, dtype=np.float32).reshape(-1, 1)
    sample = sample_of(vectors, 1)
    assert len(sample) == 16_384
    assert (np.diff(sample[:, 0]) > 0).all()
    assert np.array_equal(sample, sample_of(vectors, 1))
    assert len(sample_of(vectors[:7], 1)) == 7


def test_padding_appends_zeros() -> None:
    assert padded(np.ones((1, 2), np.float32), 4).tolist() == [[1, 1, 0, 0]]
