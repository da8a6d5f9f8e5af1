"""Two sets of vectors with their queries and exact answers: real ones of WordNet's glosses, and clustered synthetic ones.

python -m benchmarks.workloads.retrieval.vectors [--threads 1] [--cache .cache/retrieval]   # computes what is not there yet
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads.retrieval.embedding import Floats, encoded_once
from benchmarks.workloads.retrieval.wordnet import Labelled, Synset, dictionary, labelled, synsets

CACHE = Path(".cache/retrieval")
QUERIES = 2_000
SEED = 6
SLICE = 16_384
WITHIN = 0.165
"""How far vectors of a cluster are apart. With .15 all neighbours are in one cluster, and 2 of 2,048 inverted lists find .99 of
them; with .2 half of them are elsewhere. With this FAISS needs about as long as on other such sets."""


@dataclass(frozen=True, slots=True)
class Glosses:
    """`vectors` [n, 384] of `synsets`, rows alike. `sentences`, `with_lemmas` [m, 384] of `labels`. All of length 1."""

    synsets: list[Synset]
    labels: list[Labelled]
    vectors: Floats
    sentences: Floats
    with_lemmas: Floats


def glosses(cache: Path = CACHE, *, rows: int | None = None, threads: int = 1) -> Glosses:
    """All of them, or `rows` at random; embedded once, then read from `cache`. Minutes of CPU the first time."""
    found = synsets(dictionary(cache))
    if rows is not None:
        chosen = np.sort(np.random.default_rng(SEED).choice(len(found), rows, replace=False))
        found = [found[row] for row in chosen]
    labels = labelled(found, QUERIES)
    vectors = encoded_once("glosses", [each.text for each in found], cache, threads=threads)
    sentences = encoded_once("sentences", [each.sentence for each in labels], cache, threads=threads)
    with_lemmas = encoded_once("with-lemmas", [each.with_lemma for each in labels], cache, threads=threads)
    return Glosses(found, labels, vectors, sentences, with_lemmas)


def clustered(
    rows: int = 1_000_000, size: int = 128, queries: int = 1_000, *, seed: int = SEED
) -> tuple[Floats, Floats]:
    """`rows` and `queries` vectors of length 1 about the same centres, one for some 500 rows; within a cluster they vary in a
    quarter as many directions as there are dimensions, as embeddings do, and a little in all."""
    rng = np.random.default_rng(seed)
    directions = max(1, size // 4)
    centres = rng.standard_normal((max(1, rows // 500), size), np.float32)
    spread = rng.standard_normal((directions, size), np.float32)
    found = np.empty((rows + queries, size), np.float32)
    for start in range(0, len(found), SLICE):
        part = found[start : start + SLICE]
        part[:] = centres[rng.integers(len(centres), size=len(part))]
        part += WITHIN * rng.standard_normal((len(part), directions), np.float32) @ spread
        part += 0.2 * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return found[:rows], found[rows:]


def exact(vectors: Floats, queries: Floats, k: int) -> NDArray[np.int64]:
    """Rows [q, k] of the greatest dot products, best first, by brute force in slices."""
    rows = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), SLICE):
        part = queries @ vectors[start : start + SLICE].T
        scores = np.hstack([scores, part])
        rows = np.hstack([rows, np.broadcast_to(np.arange(start, start + part.shape[1]), part.shape)])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k] if start + SLICE >= len(vectors) else _top(scores, k)
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows


def _top(scores: Floats, k: int) -> NDArray[np.int64]:
    if scores.shape[1] <= k:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    best: NDArray[np.int64] = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and compute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--rows", type=int, default=None, help="only so many glosses")
    given = parser.parse_args(arguments)
    found = glosses(given.cache, rows=given.rows, threads=given.threads)
    print(f"{len(found.vectors):,} glosses and {len(found.labels):,} labelled sentences are in {given.cache}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
