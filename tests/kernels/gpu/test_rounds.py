"""The order in which a GPU goes over rows, and the twin of what it does in it. Runs everywhere."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

import numpy as np
import pytest

from kernels.gpu.rounds import K_MAX, ROOM_KEYS, ROOM_KEYS_MAX, Room, gathers, golden_stride, rounds, wanted_for
from kernels.reference_gpu import keys_of, searched_in_rounds


@pytest.mark.parametrize("tiles", [1, 2, 3, 4, 5, 8, 13, 100, 78_125, 2**20])
def test_steps_of_the_stride_come_to_every_tile_and_are_spread_from_the_start(tiles: int) -> None:
    stride = golden_stride(tiles)
    assert gcd(stride, tiles) == 1
    first = np.sort(np.arange(min(tiles, 64), dtype=np.int64) * stride % tiles)
    assert len(np.unique(first)) == len(first)
    gaps = np.diff(np.concatenate([first, [first[0] + tiles]]))
    assert gaps.max() <= 4 * tiles / len(first) + 1


@pytest.mark.parametrize("wanted", [1, 16, 17, 42, 262, 1_056, 2 * K_MAX])
@pytest.mark.parametrize("rows", [1, 127, 4_000, 10_000_000])
def test_rounds_cover_all_rows_once_and_fit_the_room(wanted: int, rows: int) -> None:
    room = Room.of(wanted)
    assert wanted == room.wanted < room.keys
    assert ROOM_KEYS <= room.keys <= ROOM_KEYS_MAX
    assert room.keys.bit_count() == 1
    seen = at = 0
    for begin, end, every in rounds(rows, 128, 0, room):
        assert begin == at < end
        assert every == (begin == 0)
        expected = (end - begin) * 128 if every else wanted * (end - begin) * 128 / seen
        assert expected <= (1 if every else 0.67) * (room.keys - room.wanted) + 128
        at, seen = end, end * 128
    assert at == -(-rows // 128)


def test_rounds_that_go_on_after_other_rows_keep_only_what_is_past_the_threshold() -> None:
    assert not any(every for _, _, every in rounds(10_000, 128, 5_000, Room.of(16)))


def test_a_row_that_is_found_needs_the_lesser_of_equal_rows_and_minus_zero_is_zero() -> None:
    scores = np.array([-np.inf, -2, -0.0, 0.0, 0.0, 1e-40, 3, np.inf], np.float32)
    keys = keys_of(scores, np.arange(8))
    assert np.argsort(-keys).tolist() == [7, 6, 5, 2, 3, 4, 1, 0]


ORDERS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "random": lambda rng, n: rng.standard_normal(n),
    "ascending": lambda rng, n: np.sort(rng.standard_normal(n)),
    "descending": lambda rng, n: -np.sort(rng.standard_normal(n)),
    "all equal": lambda rng, n: np.zeros(n),
    "few values": lambda rng, n: rng.integers(0, 3, n),
    "one cluster": lambda rng, n: np.where(np.arange(n) // 1_000 == 17, 5, 0) + rng.standard_normal(n),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("wanted", [1, 16, 200])
def test_rounds_find_the_best_of_any_order_in_one_pass(order: str, wanted: int) -> None:
    scores = ORDERS[order](np.random.default_rng(1), 200_000).astype(np.float32)
    found, passes = searched_in_rounds(scores, Room.of(wanted), 128)
    expected = np.sort(keys_of(scores, np.arange(len(scores))))[::-1][:wanted]
    assert found.tolist() == expected.tolist()
    assert passes == 1


def test_an_order_made_against_the_stride_costs_a_second_pass_and_no_row() -> None:
    """The later a tile's turn, the better its rows."""
    tiles, tile = 1_000, 128
    turn = np.empty(tiles, np.int64)
    turn[np.arange(tiles) * golden_stride(tiles) % tiles] = np.arange(tiles)
    scores = np.repeat(turn, tile).astype(np.float32) + np.tile(np.arange(tile, dtype=np.float32) / tile, tiles)
    found, passes = searched_in_rounds(scores, Room.of(16), tile)
    assert found.tolist() == np.sort(keys_of(scores, np.arange(len(scores))))[::-1][:16].tolist()
    assert passes > 1


def test_few_rows_are_listed_and_narrow_ones_sooner_read_than_listed() -> None:
    assert gathers(100, 10_000, 768)
    assert not gathers(8_000, 10_000, 768)
    assert gathers(3_000, 10_000, 768)
    assert not gathers(3_000, 10_000, 48)


def test_more_is_found_than_asked_for() -> None:
    assert (wanted_for(1), wanted_for(10), wanted_for(K_MAX)) == (7, 16, 1_056)
