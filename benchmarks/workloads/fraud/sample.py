"""Test rows with what LightGBM itself says of them, for those who want to compare; needs numpy only."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = "sample.npz"


@dataclass(frozen=True, slots=True)
class Sample:
    """One row a transaction. `scores` has a column for each of `versions`: LightGBM's own fraud probability."""

    rows: NDArray[np.float32]
    amounts: NDArray[np.float64]
    labels: NDArray[np.bool_]
    versions: NDArray[np.int64]
    scores: NDArray[np.float64]

    def scores_of(self, version: int) -> NDArray[np.float64]:
        """The scores of one model version. Raises ValueError for a version that is not here."""
        found = np.flatnonzero(self.versions == version)
        if not found.size:
            raise ValueError(f"no scores of version {version}, only of {self.versions.tolist()}")
        scores: NDArray[np.float64] = self.scores[:, found[0]]
        return scores


def pick_rows(rows: NDArray[np.int64], labels: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    """At most `count` of `rows`, mixed, half of them frauds where there are so many; `labels` has one for each row."""
    rng = np.random.default_rng(seed)
    frauds = rng.permutation(rows[labels])[: count // 2]
    genuine = rng.permutation(rows[~labels])[: count - len(frauds)]
    return rng.permutation(np.concatenate([frauds, genuine]))


def write_sample(sample: Sample, folder: Path) -> None:
    """Write the sample into `folder`."""
    columns = {field.name: getattr(sample, field.name) for field in fields(sample)}
    np.savez_compressed(folder / FILE, allow_pickle=False, **columns)


def read_sample(folder: Path) -> Sample:
    """The sample in `folder`."""
    with np.load(folder / FILE) as stored:
        return Sample(**stored)
