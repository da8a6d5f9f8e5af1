"""Bitsets are sets: every operation says what Python's own sets say."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import bitsets
from kernels.reference_vectors import bitset_of, rows_of

SIZES = [0, 1, 7, 8, 9, 63, 64, 65, 1000]
Bytes = NDArray[np.uint8]


def drawn(rng: np.random.Generator, size: int, share: float = 0.4) -> set[int]:
    """Some of the rows."""
    return set(np.flatnonzero(rng.random(size) < share).tolist())


def everything(bits: Bytes) -> list[int]:
    """Its rows, by the kernel."""
    rows = np.empty(bitsets.count(bits), np.int64)
    assert bitsets.next_rows(bits, 0, rows) == len(rows)
    return rows.tolist()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_the_algebra_is_that_of_sets(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = drawn(rng, size), drawn(rng, size, 0.7)
    left, right = bitset_of(one, size), bitset_of(other, size)
    left.flags.writeable = False
    out = np.full_like(left, 255)
    for kernel, expected in [
        (bitsets.intersect, one & other), (bitsets.unite, one | other), (bitsets.subtract, one - other),
    ]:  # fmt: skip
        kernel(left, right, out)
        assert set(rows_of(out)) == expected, f"seed {seed}, {kernel.__name__}"
        assert everything(out) == sorted(expected)
    bitsets.invert(left, size, out)
    assert everything(out) == sorted(set(range(size)) - one)
    assert bitsets.count(left) == len(one)
    assert bitsets.count_both(left, right) == len(one & other)


@pytest.mark.parametrize("size", SIZES)
def test_inverting_the_first_rows_leaves_the_others_out(size: int) -> None:
    bits = bitset_of(set(), size)
    for rows in {0, size // 2, max(size - 1, 0), size}:
        out = np.full_like(bits, 255)
        bitsets.invert(bits, rows, out)
        assert rows_of(out) == list(range(rows))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_rows_are_put_in_and_taken_out_and_changes_counted(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    bits = bitset_of(set(), size)
    held: set[int] = set()
    for _ in range(6):
        rows = rng.integers(0, size, rng.integers(0, size + 1)) if size else np.empty(0, np.int64)
        named = set(rows.tolist())
        if rng.random() < 0.5:
            assert bitsets.set_rows(bits, rows) == len(named - held)
            held |= named
        else:
            assert bitsets.clear_rows(bits, rows) == len(named & held)
            held -= named
        assert everything(bits) == sorted(held), f"seed {seed}"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_ranges_are_filled_and_cleared(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    held = drawn(rng, size)
    bits = bitset_of(held, size)
    for _ in range(20):
        begin, end = sorted(rng.integers(0, size + 1, 2).tolist())
        if rng.random() < 0.5:
            bitsets.fill_range(bits, begin, end)
            held |= set(range(begin, end))
        else:
            bitsets.clear_range(bits, begin, end)
            held -= set(range(begin, end))
        assert rows_of(bits) == sorted(held), f"seed {seed}, {begin} to {end}"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_the_next_rows_go_on_where_the_last_ended(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    held = sorted(drawn(rng, size, 0.2))
    bits, room, found, place = bitset_of(held, size), np.empty(3, np.int64), [], 0
    while number := bitsets.next_rows(bits, place, room):
        found += room[:number].tolist()
        place = found[-1] + 1
    assert found == held
    assert bitsets.next_rows(bits, size, room) == 0
    assert bitsets.next_rows(bits, size + 64, room) == 0
