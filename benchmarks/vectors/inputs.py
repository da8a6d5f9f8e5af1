"""What contenders are given as files: vectors, queries, what must be found. Made once for each size, kept in the cache."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.features.part import Setting
from benchmarks.vectors.touched import touched
from benchmarks.workloads.retrieval.vectors import clustered, exact, glosses

Floats = npt.NDArray[np.float32]
K = 10
QUICK_ROWS = 20_000
QUICK_QUERIES = 300
RETRIEVAL = "retrieval"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files of one set. `final` holds the points that are left when the others were touched, `truth` their rows [q, K]."""

    vectors: Path
    queries: Path
    final: Path
    truth: Path

    def order(self) -> dict[str, str]:
        """For a driver of ours."""
        return {"vectors": str(self.vectors), "queries": str(self.queries), "truth": str(self.truth)}


def gloss_vectors(setting: Setting) -> tuple[Floats, Floats]:
    """WordNet's glosses, and sentences that ask for them; some at random where it is to be quick."""
    found = glosses(setting.inputs.parent / RETRIEVAL)
    vectors, queries = found.vectors, found.sentences
    if setting.quick:
        chosen = np.sort(np.random.default_rng(setting.seed).choice(len(vectors), QUICK_ROWS, replace=False))
        return vectors[chosen], queries[:QUICK_QUERIES]
    return vectors, queries


def clustered_vectors(setting: Setting) -> tuple[Floats, Floats]:
    """A million of 128 dimensions."""
    return clustered(220_000, 128, QUICK_QUERIES) if setting.quick else clustered()


def prepared(setting: Setting, name: str, make: Callable[[Setting], tuple[Floats, Floats]], *, share: float) -> Inputs:
    """The files of one set of which `share` of the points is to be touched."""
    folder = setting.cache / f"{name}{'-quick' if setting.quick else ''}-{share:g}-{setting.seed}"
    names = ("vectors", "queries", "final" if share else "vectors", "truth")
    inputs = Inputs(*(folder / f"{each}.npy" for each in names))
    if not inputs.truth.exists():
        folder.mkdir(parents=True, exist_ok=True)
        vectors, queries = make(setting)
        final = touched(vectors, share, setting.seed).final
        np.save(inputs.vectors, vectors)
        np.save(inputs.queries, queries)
        if share:
            np.save(inputs.final, final)
        np.save(inputs.truth, exact(final, queries, K))
    return inputs
