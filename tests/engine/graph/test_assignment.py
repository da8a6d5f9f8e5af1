"""Keys fall to variants by their shares, stay there, and move as little as the weights do."""

from __future__ import annotations

import math
import random
from collections import Counter
from hashlib import blake2b

import numpy as np
import pytest

from engine.graph.assignment import Assignment, keys_of

KEYS = [b"user-%d" % each for each in range(100_000)]
SIGMAS = 5.0
"""How far a share may lie from its weight: by chance it does so once in two million."""


def near(count: int, of: int, share: float) -> bool:
    """Whether a binomial count is where it should be."""
    return abs(count - of * share) <= SIGMAS * math.sqrt(of * share * (1 - share)) + 1e-9


@pytest.mark.parametrize("weights", [(95, 5), (1, 1, 1), (0.2, 0.0, 0.3, 0.5), (0, 1e-3, 1), (1e300, 1e300), (0, 7, 0)])
def test_shares_are_the_weights(weights: tuple[float, ...]) -> None:
    drawn = random.Random(1)
    assignment = Assignment("scoring", weights)
    exact = [each / max(weights) for each in weights]
    for got in (map(assignment.of_key, KEYS), (assignment.by_chance(drawn) for _ in KEYS)):
        counts = Counter(got)
        for index, weight in enumerate(exact):
            assert near(counts[index], len(KEYS), weight / sum(exact)), (weights, index, counts)


def test_variant_without_weight_gets_no_key_wherever_it_stands() -> None:
    for weights in ((0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 5, 0, 0)):
        found = set(map(Assignment("s", weights).of_key, KEYS[:5_000]))
        assert found == {index for index, weight in enumerate(weights) if weight}


def test_between_two_variants_exactly_the_difference_moves_and_to_the_one_that_grew() -> None:
    rng = random.Random(2)
    for _ in range(20):
        before, after = rng.random(), rng.random()
        one, other = Assignment("s", (before, 1 - before)), Assignment("s", (after, 1 - after))
        moved = [(a, b) for a, b in ((one.of_key(key), other.of_key(key)) for key in KEYS[:20_000]) if a != b]
        assert len(set(moved)) <= 1
        assert set(moved) <= {(1, 0)} if after > before else set(moved) <= {(0, 1)}
        assert near(len(moved), 20_000, abs(after - before))


def test_keys_move_by_no_more_than_the_bounds_of_their_intervals_do() -> None:
    rng = random.Random(3)
    for _ in range(20):
        weights = [[rng.random() for _ in range(4)] for _ in range(2)]
        shares = [[each / sum(given) for each in given] for given in weights]
        shifts = [abs(sum(shares[0][:each]) - sum(shares[1][:each])) for each in range(1, 4)]
        one, other = (Assignment("s", given) for given in weights)
        moved = sum(one.of_key(key) != other.of_key(key) for key in KEYS[:20_000])
        assert moved / 20_000 <= sum(shifts) + 0.02


def test_weights_of_the_same_shares_are_the_same_split() -> None:
    one, other = Assignment("s", (0.95, 0.05)), Assignment("s", (95, 5))
    assert sum(one.of_key(key) != other.of_key(key) for key in KEYS) == 0


def test_two_experiments_are_independent_of_each_other() -> None:
    one, other = Assignment("colour", (1, 1)), Assignment("ranking", (3, 1))
    both = Counter((one.of_key(key), other.of_key(key)) for key in KEYS)
    for first in (0, 1):
        for second, share in ((0, 0.375), (1, 0.125)):
            assert near(both[first, second], len(KEYS), share), both


def test_assignment_is_the_documented_hash_in_every_process() -> None:
    assignment = Assignment("scoring", (1, 1, 2))
    for key in KEYS[:100]:
        digest = blake2b(b"\x07\0\0\0scoring" + key, digest_size=8).digest()
        point = int.from_bytes(digest, "little") / 2**64
        assert assignment.of_key(key) == (0 if point < 0.25 else 1 if point < 0.5 else 2)
    assert [Assignment("scoring", (1, 1)).of_key(key) for key in KEYS[:16]] == PINNED


PINNED = [0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1, 1]


def test_key_is_the_same_as_a_number_of_any_width_and_as_text() -> None:
    text = np.array([b"42", b"-7"], object)
    assert keys_of(text) == keys_of(np.array([42, -7], np.int8)) == keys_of(np.array([[42], [-7]], np.int64))
    assert keys_of(np.array([2**64 - 1], np.uint64)) == [b"18446744073709551615"]
