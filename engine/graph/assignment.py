"""Which variant of a split a request gets. Pure.

A key's variant is a function of the split's name, the weights and the key alone: the same in every process, on every machine and
after every restart. The key is hashed to a point in [0, 2**64), which the variants divide among them in their declared order,
each an interval as wide as its share. When weights change a key stays where its point still lies in the same variant's interval:
between two variants exactly the difference moves, and only to the one that grew; of several, those that lie between the one that
grew and the one that shrank hand on as much, so put what you mean to trade weight side by side. One of weight 0 has no interval.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

    import numpy.typing as npt

_POINTS = 1 << 64


class Assignment:
    """The variants of one split by their weights (0 or more each, not all 0). Any thread."""

    __slots__ = ("_bounds", "_seeded")

    def __init__(self, experiment: str, weights: Sequence[float]) -> None:
        """`experiment` is the split's name: keys fall in different splits independently of each other."""
        exact = [Fraction(each) for each in weights]  # floats' sums would differ with their order
        total = sum(exact)
        assert total > 0
        assert min(exact) >= 0
        self._bounds = [int(each * _POINTS / total) for each in accumulate(exact)]
        name = experiment.encode("utf-8", "surrogatepass")
        self._seeded = blake2b(len(name).to_bytes(4, "little") + name, digest_size=8)

    def of_key(self, key: bytes) -> int:
        """The index of the key's variant."""
        hashed = self._seeded.copy()
        hashed.update(key)
        return bisect_right(self._bounds, int.from_bytes(hashed.digest(), "little"))

    def by_chance(self, random: Random) -> int:
        """The index of a variant drawn by the weights."""
        return bisect_right(self._bounds, random.getrandbits(64))


def keys_of(array: npt.NDArray[Any]) -> list[bytes]:
    """The elements of a key tensor, BYTES or whole numbers, as keys: 42 is the same key as the text "42", in any datatype."""
    elements: list[Any] = array.ravel().tolist()
    return elements if array.dtype.hasobject else [b"%d" % each for each in elements]
