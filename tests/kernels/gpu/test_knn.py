"""The kernels for GPUs themselves, run by Triton's interpreter on the CPU, beside their twins: `make test-gpu`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

interpreted: Any = pytest.importorskip("tests.kernels.gpu.interpreted", reason="wants torch and triton: make test-gpu")

import torch
from triton.runtime.errors import OutOfResources

from kernels import reference_gpu as twin
from kernels.gpu import device, knn, rows, stream
from kernels.gpu import scan as kernels
from kernels.gpu.faults import DeviceLost
from kernels.gpu.layout import Tuning
from kernels.gpu.rounds import golden_stride
from kernels.reference_vectors import bitset_of, rows_of

Singles = npt.NDArray[np.float32]
SMALL = Tuning(rows=64, step=32)


def numbers(count: int, size: int, seed: int = 1) -> Singles:
    return np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)


def held(given: Singles, kind: Any, metric: Any) -> tuple[Any, Singles]:  # noqa: ANN401
    """Rows on the device, and what they are there."""
    on_device = rows.rows_of(given, kind, metric, device="cpu")
    if kind == "int8":
        codes, factors = twin.int8_codes(given)
        return on_device, codes.astype(np.float32) * factors[:, None]
    if kind == "binary":
        return on_device, np.where(given >= 0, 1, -1).astype(np.float32)
    half = torch.float16 if kind == "float16" else torch.bfloat16
    return on_device, torch.from_numpy(given).to(half).float().numpy()


def found(on_device: Any, queries: Singles, k: int, **how: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:  # noqa: ANN401
    scores, places = knn.nearest(on_device, torch.from_numpy(queries), k, tuning=SMALL, **how)
    return scores.numpy(), places.numpy()


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
@pytest.mark.parametrize(("count", "size", "many", "k"), [(5_001, 40, 3, 10), (130, 96, 17, 33), (7, 16, 1, 10)])
def test_it_finds_what_float64_finds(kind: str, metric: str, count: int, size: int, many: int, k: int) -> None:
    on_device, kept = held(numbers(count, size), kind, metric)
    queries = numbers(many, size, 2)
    scores, places = found(on_device, queries, k)
    expected, at = twin.nearest(twin.scores(kept, queries, metric), k)
    assert places.tolist() == at.tolist()
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("k", [1, 100, 1_024])
def test_k_up_to_its_bound_and_several_rounds_and_blocks(k: int) -> None:
    given = numbers(40_000 if k < 200 else 25_000, 16)
    on_device, kept = held(given, "float16", "dot")
    queries = numbers(2, 16, 2)
    large = Tuning(rows=1_024, step=16)
    scores, places = knn.nearest(on_device, torch.from_numpy(queries), k, tuning=large)
    _, at = twin.nearest(twin.scores(kept, queries, "dot"), k)
    assert places.tolist() == at.tolist()
    assert bool((scores.diff(dim=1) <= 0).all())


@pytest.mark.parametrize("kind", ["float16", "int8", "binary"])
@pytest.mark.parametrize("share", [0, 0.002, 0.1, 0.45, 0.6, 0.97, 1])
def test_only_rows_whose_bit_is_set_are_found(kind: str, share: float) -> None:
    count = 3_003
    on_device, kept = held(numbers(count, 72), kind, "l2" if kind == "binary" else "dot")
    passing = np.flatnonzero(np.random.default_rng(3).random(count) < share)
    bits = bitset_of(passing.tolist(), count)
    queries = numbers(3, 72, 2)
    signs = np.where(queries >= 0, 1, -1).astype(np.float32)
    truth = (signs @ kept.T - 72) / 2 if kind == "binary" else twin.scores(kept, queries, "dot")
    expected, at = twin.nearest(truth, 12, bits)
    for each in (bits, torch.from_numpy(bits)):
        scores, places = found(on_device, queries, 12, bits=each)
        assert places.tolist() == at.tolist()
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_a_tile_without_a_row_that_may_be_found_is_not_read() -> None:
    """What is not read may be anything: here it is NaN, past what float16 holds."""
    given = numbers(4_096, 32)
    on_device, kept = held(given, "float16", "dot")
    passing = np.arange(1_024, 4_096)
    on_device.data[:1_024] = float("nan")
    queries = numbers(2, 32, 2)
    expected, at = twin.nearest(twin.scores(kept, queries, "dot"), 10, bitset_of(passing.tolist(), 4_096))
    assert np.isfinite(expected).all()
    assert found(on_device, queries, 10, bits=bitset_of(passing.tolist(), 4_096))[1].tolist() == at.tolist()


def test_signs_under_hamming_are_exact_and_ties_go_to_the_lower_row() -> None:
    given = numbers(2_000, 20)
    on_device, kept = held(given, "binary", "l2")
    queries = np.where(numbers(5, 20, 2) >= 0, 1, -1).astype(np.float32)
    scores, places = found(on_device, queries, 50)
    expected, at = twin.nearest((queries @ kept.T - 20) / 2, 50)
    assert places.tolist() == at.tolist()
    assert scores.tolist() == expected.tolist()


def test_signs_under_dot_are_scored_by_all_of_the_query() -> None:
    given = numbers(2_000, 64)
    on_device, kept = held(given, "binary", "dot")
    queries = numbers(4, 64, 2)
    _, places = found(on_device, queries, 10, wanted=40)
    assert places.tolist() == twin.nearest(twin.scores(kept, queries, "dot"), 10)[1].tolist()


def test_codes_that_come_with_scales_of_dimensions_are_searched_as_they_are() -> None:
    codes = np.random.default_rng(1).integers(-127, 128, (1_500, 48)).astype(np.int8)
    codes[0], codes[1] = 127, -127
    weights = np.random.default_rng(2).random(48).astype(np.float32) / 100
    queries = numbers(3, 48, 2)
    for metric in ("dot", "l2"):
        on_device = rows.rows_of_codes(codes, metric, 48, weights=weights, device="cpu")
        expected, at = twin.nearest(twin.scores(codes * weights, queries, metric), 10)
        scores, places = found(on_device, queries, 10, wanted=40)
        assert places.tolist() == at.tolist()
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", ["dot", "l2", "cosine"])
def test_extremes_of_int8_and_rows_of_zeros(metric: str) -> None:
    given = np.zeros((300, 32), np.float32)
    given[::3] = 127
    given[1::3] = -127
    queries = np.stack([np.full(32, 127, np.float32), np.full(32, -127, np.float32), np.zeros(32, np.float32)])
    on_device, kept = held(given, "int8", metric)
    scores, places = found(on_device, queries, 20)
    expected, at = twin.nearest(twin.scores(kept, queries, metric), 20)
    assert places.tolist() == at.tolist()
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_estimates_of_turned_signs_are_the_twins_and_refining_them_finds_the_nearest() -> None:
    given, queries = numbers(2_000, 64), numbers(8, 64, 2)
    estimated = rows.rows_of(given, "rabitq", "dot", device="cpu")
    kept = rows.rows_of(given, "float16", "dot", device="cpu")
    turn: Any = estimated.turn
    expected = twin.rabitq_scores(given, queries, turn.numpy())
    scores, places = found(estimated, queries, 30)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, places, 1), atol=0.3)
    _, refined = found(estimated, queries, 10, wanted=300, refine=kept)
    _, at = twin.nearest(twin.scores(given.astype(np.float16).astype(np.float32), queries, "dot"), 10)
    shared = [len({*one} & {*other}) for one, other in zip(refined.tolist(), at.tolist(), strict=True)]
    assert np.mean(shared) > 9.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_and_the_row_is_named(bad: float) -> None:
    given = numbers(100, 16)
    given[42, 3] = bad
    with pytest.raises(ValueError, match="row 42 has a number that is not finite"):
        rows.rows_of(given, "float16", "dot", device="cpu")
    with pytest.raises(ValueError, match="query 0"):
        found(rows.rows_of(numbers(9, 16), "float16", "dot", device="cpu"), given[42:43], 3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="past what float16 holds"):
        rows.rows_of(np.full((9, 16), 7e4, np.float32), "float16", "dot", device="cpu")
    on_device = rows.rows_of(numbers(9, 16), "float16", "dot", device="cpu")
    for k in (0, 1_025):
        with pytest.raises(ValueError, match="from 1 to 1024"):
            found(on_device, numbers(1, 16), k)
    with pytest.raises(ValueError, match="do not fit 9 rows"):
        found(on_device, numbers(1, 16), 3, bits=np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match="bits past the last"):
        found(on_device, numbers(1, 16), 3, bits=np.full(2, 255, np.uint8))


def test_queries_of_any_size_keep_their_order_in_float16() -> None:
    on_device, kept = held(numbers(500, 16), "float16", "dot")
    for size in (1e-20, 1e20):
        queries = numbers(2, 16, 2) * np.float32(size)
        at = twin.nearest(twin.scores(kept, queries, "dot"), 10)[1]
        assert found(on_device, queries, 10)[1].tolist() == at.tolist()


def test_rows_that_stay_with_the_host_are_searched_piece_by_piece() -> None:
    given = numbers(3_001, 32).astype(np.float16)
    streamed = stream.Streamed(given, "dot", device="cpu", piece_bytes=600 * 64)
    queries = numbers(3, 32, 2)
    bits = bitset_of(range(0, 3_001, 3), 3_001)
    for each in (None, bits):
        _, at = twin.nearest(twin.scores(given.astype(np.float32), queries, "dot"), 10, each)
        assert found(streamed, queries, 10, bits=each)[1].tolist() == at.tolist()
    with pytest.raises(ValueError, match="streamed are float16"):
        stream.Streamed(given.astype(np.float32), "dot", device="cpu")


def test_more_queries_than_fit_one_search_are_split() -> None:
    on_device, kept = held(numbers(300, 16), "float16", "dot")
    queries = numbers(270, 16, 2)
    assert found(on_device, queries, 3)[1].tolist() == twin.nearest(twin.scores(kept, queries, "dot"), 3)[1].tolist()


def test_what_had_no_room_is_found_by_going_over_the_rows_again() -> None:
    """Rows whose scores rise with the turn of their tile: made against the stride."""
    tiles, tile = 150, 64
    turn = np.empty(tiles, np.int64)
    turn[np.arange(tiles) * golden_stride(tiles) % tiles] = np.arange(tiles)
    given = np.zeros((tiles * tile, 16), np.float32)
    given[:, 0] = np.repeat(turn, tile)
    given[:, 1] = np.tile(np.arange(tile) / tile, tiles)
    on_device, kept = held(given, "float16", "dot")
    queries = np.ones((2, 16), np.float32)
    search = knn.Search(torch.from_numpy(queries), 16, SMALL, room_keys=512)
    search.feed(on_device)
    assert search.lost()
    while search.lost():
        search.again()
        search.feed(on_device)
    assert search.best()[1].tolist() == twin.nearest(twin.scores(kept, queries, "dot"), 16)[1].tolist()


def test_pieces_that_get_better_are_gone_over_twice_at_most() -> None:
    """Of the first ones nothing is past the threshold of the second time: it must not fall for that."""
    given = np.zeros((4_096, 16), np.float32)
    given[:, 0] = np.arange(4_096) // 2
    pieces = [
        rows.rows_of(given[begin : begin + 1_024], "float16", "dot", device="cpu") for begin in range(0, 4_096, 1_024)
    ]
    queries = np.ones((1, 16), np.float32)
    search = knn.Search(torch.from_numpy(queries), 16, SMALL, room_keys=512)
    for turn in range(2):
        for nth, piece in enumerate(pieces):
            search.feed(piece, base=1_024 * nth)
        assert search.lost() == (turn == 0)
        if turn == 0:
            search.again()
    assert search.best()[1].tolist() == twin.nearest(twin.scores(given, queries, "dot"), 16)[1].tolist()


def test_bits_become_rows() -> None:
    bits = np.random.default_rng(1).integers(0, 256, 3_000).astype(np.uint8)
    chosen = knn.chosen_rows(torch.from_numpy(bits), 8 * len(bits))
    assert sorted(chosen.tolist()) == rows_of(bits)


def test_the_best_keys_come_to_the_front_and_the_threshold_is_the_least_of_them() -> None:
    """Of a query with room to spare, one past its room, and one that has fewer keys than are wanted."""
    room, wanted = 512, 100
    keys = np.random.default_rng(1).integers(-(2**63) + 1, 2**63, (3, room), dtype=np.int64)
    keys[2, 7:wanted] = twin.EMPTY
    kept, filled = torch.from_numpy(keys.copy()), [300, room, wanted + 20]
    counts = torch.tensor([200, room - wanted + 1, 20], dtype=torch.int32)
    thresholds, lost = torch.full((3,), twin.EMPTY), torch.zeros(1, dtype=torch.int32)
    found = torch.zeros(1, dtype=torch.int32)
    kernels.settle[(3,)](kept, counts, thresholds, lost, found, wanted, 16, 1, ROOM=room)
    for query, many in enumerate(filled):
        expected = np.sort(keys[query, :many])[::-1][:wanted].tolist()
        assert sorted(kept[query, :wanted].tolist(), reverse=True) == expected
        past = np.sort(keys[query, :many])[::-1][wanted : wanted + 1]
        assert (past < int(thresholds[query])).all() or query == 2
        assert int(thresholds[query]) <= expected[-1]
    assert (expected[26], expected[27]) == (min(expected[:27]), twin.EMPTY)
    assert (counts.tolist(), lost.tolist()) == ([0, 0, 0], [1])


def test_rows_past_two_to_the_31_numbers_are_read_where_they_lie() -> None:
    """Memory that nobody writes takes no room: of 2.1 GB the last tile and one that is chosen are looked at."""
    count, size = 2_100_224, 1_024
    on_device: Any = rows.DeviceRows(torch.from_numpy(np.zeros((count, size), np.int8)), "int8", "dot", size)
    given = np.random.default_rng(1).integers(-99, 100, (64, size)).astype(np.int8)
    on_device.data[-64:] = torch.from_numpy(given)
    queries = numbers(1, size, 2)
    bits = bitset_of(range(count - 60, count, 2), count)
    _, places = found(on_device, queries, 10, bits=bits)
    _, at = twin.nearest(twin.scores(given.astype(np.float32), queries, "dot"), 10, bitset_of(range(4, 64, 2), 64))
    assert places.tolist() == (at + count - 64).tolist()
    asked = rows.ready(torch.from_numpy(queries), on_device, 16)
    kept, counts, tiles = torch.full((16, 64), twin.EMPTY), torch.zeros(16, dtype=torch.int32), count // 64
    course = torch.tensor([count, tiles, 1])
    kernels.scan[(1,)](
        on_device.data, counts, counts, counts, counts, asked.codes, asked.terms, asked.inverses, kept, kept, counts, course,
        counts, counts, tiles - 1, tiles, 0, 64, 0, 1, 1,
        SIZE=size, KIND=1, TERMED=False, SCALED=False, SHIFTED=False, CHOSEN=False, FILTERED=False, EVERY=True,
        ROWS=64, QUERIES=16, STEP=64, SIFT=False, SIFTED=False, HELD=False, AHEAD=1,
    )  # fmt: skip
    assert (0xFFFFFFFF - (kept[0] & 0xFFFFFFFF)).tolist() == list(range(count - 64, count))
    scores: Any = knn.scores_of(kept[0])
    scale: Any = asked.scales
    np.testing.assert_allclose(scores * scale[0], given.astype(np.float32) @ queries[0], atol=64)  # of scores of 1,800


def test_keys_hold_scores_and_rows() -> None:
    given = numbers(1, 1_000)[0]
    keys = torch.from_numpy(twin.keys_of(given, np.arange(1_000)))
    assert knn.scores_of(keys).tolist() == given.tolist()


def test_callers_who_know_numpy_alone_get_candidates_as_the_scan_ranks_them() -> None:
    given, queries = numbers(3_000, 32), numbers(2, 32, 2)
    bits = bitset_of(range(0, 3_000, 2), 3_000)
    held_there = device.KnnDevice.of(given, "float16", "dot", device="cpu")
    scores, places = held_there.search(queries, 40, bits)
    expected, at = twin.nearest(twin.scores(given, queries, "dot"), 40, bits)
    assert [len({*one} & {*other}) >= 39 for one, other in zip(places.tolist(), at.tolist(), strict=True)] == [True] * 2
    np.testing.assert_allclose(scores, expected, atol=0.02)
    assert (held_there.kind, held_there.bytes_size) == ("float16", 2 * given.size)
    coded = device.KnnDevice.of_codes(twin.signs_of(given), "l2", 32, device="cpu")
    assert coded.search(queries, 3)[1].shape == (2, 3)


class Told:
    """In a kernel's place: launches are told by their constants, and do nothing."""

    def __init__(self, name: str, launched: set[tuple[Any, ...]]) -> None:
        self.name, self.launched = name, launched

    def __getitem__(self, _: object) -> Any:  # noqa: ANN401
        return lambda *_, **constants: self.launched.add((self.name, *sorted(constants.items())))


@pytest.mark.parametrize("kind", ["float16", "binary"])
@pytest.mark.parametrize("count", [900, 12_003, 30_000])
def test_no_search_launches_what_was_not_compiled_when_rows_were_made_ready(
    kind: Any,  # noqa: ANN401
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launched: set[tuple[Any, ...]] = set()
    for name in ("scan", "settle", "set_course"):
        monkeypatch.setattr(kernels, name, Told(name, launched))
    monkeypatch.setattr(device, "_prove", lambda _: None)  # which such kernels would not pass
    given = device.KnnDevice.of(numbers(count, 64), kind, "l2", device="cpu")
    given.warm()
    ready = set(launched)
    launched.clear()
    for many, share in ((2, 1.0), (16, 0.43), (20, 0.7), (40, 0.18), (33, 0.03), (9, 0.99)):
        bits = bitset_of(np.flatnonzero(np.random.default_rng(many).random(count) < share).tolist(), count)
        given.search(numbers(many, 64), 10 + many, None if share == 1 else bits)
    given.search(numbers(1, 64), 2_000)
    assert len(launched) > 5
    assert launched <= ready


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (torch.OutOfMemoryError("out of memory"), MemoryError),
        (torch.AcceleratorError("CUDA error: out of memory"), MemoryError),
        (RuntimeError("Triton Error [CUDA]: out of memory"), MemoryError),
        (torch.AcceleratorError("an illegal memory access"), DeviceLost),
        (RuntimeError("CUDA error: unspecified launch failure"), DeviceLost),
        (OutOfResources(300_000, 232_448, "shared memory"), DeviceLost),
        (RuntimeError("a mistake of ours"), RuntimeError),
    ],
)
def test_what_a_device_raises_is_told_as_want_of_room_or_as_its_loss(raised: Exception, told: type[Exception]) -> None:
    with pytest.raises(told) as caught, knn.translated():
        raise raised
    assert type(caught.value) is told
