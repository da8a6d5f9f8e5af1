"""Points that are loaded and then touched: some are upserted anew with another vector, some deleted, in random order.

A rival that is built once gets `final`: what is left, with its newest vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
WRITE_ROWS = 32


@dataclass(frozen=True, slots=True)
class Touched:
    """`vectors` [n, d], row i is the point of id i. `changed` were loaded with a stale vector, that of `stale`; `deleted`
    are gone in the end."""

    vectors: Floats
    changed: Rows
    stale: Rows
    deleted: Rows

    @property
    def alive(self) -> Rows:
        """The ids that are left, ascending; row j of `final` is alive[j]."""
        kept = np.ones(len(self.vectors), bool)
        kept[self.deleted] = False
        return np.flatnonzero(kept)

    @property
    def final(self) -> Floats:
        """What is left."""
        return self.vectors[self.alive]

    def loaded(self) -> Floats:
        """What is loaded first: a copy."""
        first = np.array(self.vectors)
        first[self.changed] = self.vectors[self.stale]
        return first

    def writes(self, seed: int) -> Iterator[tuple[bool, Rows]]:
        """Batches of at most WRITE_ROWS ids, in random order: True upserts their vectors, False deletes them."""
        batches = [(True, each) for each in _batches(self.changed)] + [(False, each) for each in _batches(self.deleted)]
        for at in np.random.default_rng(seed).permutation(len(batches)).tolist():
            yield batches[at]


def touched(vectors: Floats, share: float, seed: int) -> Touched:
    """`share` of the points: half of them changed, half deleted."""
    rng = np.random.default_rng(seed)
    count = round(len(vectors) * share)
    chosen = rng.choice(len(vectors), count, replace=False)
    changed = chosen[: count // 2]
    return Touched(vectors, changed, rng.integers(0, len(vectors), len(changed)), chosen[count // 2 :])


def _batches(ids: Rows) -> list[Rows]:
    return [ids[start : start + WRITE_ROWS] for start in range(0, len(ids), WRITE_ROWS)]
