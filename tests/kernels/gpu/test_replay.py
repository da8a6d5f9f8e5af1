"""Searches that are recorded once; in Triton's interpreter, where nothing is, but all else is the same: `make test-gpu`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

interpreted: Any = pytest.importorskip("tests.kernels.gpu.interpreted", reason="wants torch and triton: make test-gpu")

import torch

from kernels import reference_gpu as twin
from kernels.gpu import device, knn, replay, rows
from kernels.gpu import scan as kernels
from kernels.gpu.layout import Tuning
from kernels.gpu.rounds import golden_stride
from kernels.reference_vectors import bitset_of
from tests.kernels.gpu.test_knn import held, numbers


@pytest.mark.parametrize(
    ("kind", "metric"), [("float16", "dot"), ("int8", "l2"), ("bfloat16", "cosine"), ("binary", "l2")]
)
def test_searches_one_after_another_of_different_kinds_find_what_float64_finds(kind: str, metric: str) -> None:
    """The answer of one is not what the next left behind."""
    count = 5_000
    on_device, kept = held(numbers(count, 32), kind, metric)
    searches = replay.Replayed(on_device)
    for many, k, share in ((1, 10, None), (20, 10, 0.3), (20, 3, None), (2, 150, 0.9), (1, 10, 0.3)):
        queries = numbers(many, 32, many)
        bits = None
        if share is not None:
            bits = bitset_of(np.flatnonzero(np.random.default_rng(k).random(count) < share).tolist(), count)
        signs = np.where(queries >= 0, 1, -1).astype(np.float32)
        truth = (signs @ kept.T - 32) / 2 if kind == "binary" else twin.scores(kept, queries, metric)
        expected, at = twin.nearest(truth, k, bits)
        scores, places = searches.search(torch.from_numpy(queries), k, bits=bits, wanted=4 * k)
        assert (
            places.sort(dim=1).values.tolist() == np.sort(at).tolist()
        )  # scores that float32 cannot tell apart change places
        np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_more_queries_than_one_recording_has_are_asked_in_turns() -> None:
    on_device, kept = held(numbers(300, 16), "float16", "dot")
    queries = numbers(270, 16, 2)
    places = replay.Replayed(on_device).search(torch.from_numpy(queries), 3)[1]
    assert places.tolist() == twin.nearest(twin.scores(kept, queries, "dot"), 3)[1].tolist()


def test_what_had_no_room_is_searched_without_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose scores rise with the turn of their tile: made against the stride."""
    tiles, tile = 400, 64
    turn = np.empty(tiles, np.int64)
    turn[np.arange(tiles) * golden_stride(tiles) % tiles] = np.arange(tiles)
    given = np.zeros((tiles * tile, 16), np.float32)
    given[:, 0] = np.repeat(turn, tile)
    given[:, 1] = np.tile(np.arange(tile) / tile, tiles)
    on_device, kept = held(given, "float16", "dot")
    again: list[int] = []
    nearest = knn.nearest

    def counted(*given: Any, **named: Any) -> Any:  # noqa: ANN401
        again.append(1)
        return nearest(*given, **named)

    monkeypatch.setattr(replay, "nearest", counted)
    searches = replay.Replayed(on_device, tuning=Tuning(rows=tile, step=16))
    queries = np.ones((2, 16), np.float32)
    places = searches.search(torch.from_numpy(queries), 10)[1]
    assert again
    assert places.tolist() == twin.nearest(twin.scores(kept, queries, "dot"), 10)[1].tolist()


def test_bad_queries_and_numbers_are_refused_and_the_next_search_is_none_the_worse() -> None:
    on_device, kept = held(numbers(300, 16), "float16", "dot")
    searches = replay.Replayed(on_device)
    queries = numbers(3, 16, 2)
    bad = queries.copy()
    bad[1, 5] = np.inf
    with pytest.raises(ValueError, match="query 1 has a number that is not finite"):
        searches.search(torch.from_numpy(bad), 3)
    with pytest.raises(ValueError, match="k is from 1 to 1024, not 1025"):
        searches.search(torch.from_numpy(queries), 1_025)
    with pytest.raises(ValueError, match="do not fit 300 rows"):
        searches.search(torch.from_numpy(queries), 3, bits=np.zeros(3, np.uint8))
    for some in (queries[:1], queries):
        places = searches.search(torch.from_numpy(some), 3)[1]
        assert places.tolist() == twin.nearest(twin.scores(kept, some, "dot"), 3)[1].tolist()


def test_recordings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "RECORDINGS_MAX", 2)
    searches = replay.Replayed(held(numbers(100, 16), "float16", "dot")[0])
    for k in (1, 17, 40, 1, 80):
        assert searches.search(torch.from_numpy(numbers(1, 16, 2)), k)[1].shape == (1, k)
    assert len(searches._recordings) == 2


@pytest.mark.parametrize("kind", ["float16", "int8", "binary", "rabitq"])
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_rows_are_used_once_the_kernels_are_seen_to_find_what_torch_finds(
    kind: Any,  # noqa: ANN401
    metric: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "_PROVED", set())
    given = rows.rows_of(numbers(5_000, 32), kind, metric, device="cpu")
    device._prove(given)
    device._PROVED.clear()
    settle = kernels.settle

    class Errs:
        """A kernel that a compiler got wrong: the best are lost."""

        def __getitem__(self, grid: Any) -> Any:  # noqa: ANN401
            def run(kept: Any, *more: Any, **named: Any) -> None:  # noqa: ANN401
                kept[kept == kept.max()] = knn.EMPTY
                settle[grid](kept, *more, **named)

            return run

    monkeypatch.setattr(kernels, "settle", Errs())
    with pytest.raises(RuntimeError, match=f"kernels for rows of {kind} under '{metric}' err on this GPU"):
        device._prove(given)
