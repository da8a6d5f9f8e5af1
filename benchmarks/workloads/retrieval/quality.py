"""NDCG@10 on WordNet's labelled sentences: by vectors, by words, by both fused, and fused then read again by the cross-encoder.

A sentence has one right answer, so NDCG is 1 / log2(1 + its place), 0 past the tenth (Järvelin and Kekäläinen, TOIS 2002).
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.vectors.collections import settle
from benchmarks.vectors.drive_hybrid import batches, documents, sorts
from benchmarks.workloads.retrieval.embedding import Floats
from benchmarks.workloads.retrieval.vectors import Glosses
from engine import Collection, CollectionSpec, DenseLeg, FieldSpec, Query, TextLeg, VectorSpec

K = 10
DEPTH = 20
"""Hits of the fusion that are read again."""

Score = Callable[[Sequence[tuple[str, str]]], Floats]
"""Of (query, passage) pairs."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one sort of query, searched one way."""

    query: str
    by: str
    ndcg: float


def gain(found: Sequence[int], right: int) -> float:
    """NDCG@K of one query."""
    return 1 / math.log2(2 + found.index(right)) if right in found[:K] else 0.0


def read_again(query: str, rows: list[int], texts: Sequence[str], score: Score) -> list[int]:
    """`rows` in the order of their scores, the best first; `texts` by row."""
    if not rows:
        return rows
    order = np.argsort(-score([(query, texts[row]) for row in rows]), kind="stable")
    return [rows[at] for at in order.tolist()]


def judged(data: Glosses, score: Score, *, points: int, queries: int, seed: int) -> list[Quality]:
    """Each way on each sort of query, among `points` synsets."""
    labels = list(range(min(queries, len(data.labels))))
    rows, texts = documents(data, points, labels, seed), [each.text for each in data.synsets]
    spec = CollectionSpec({"v": VectorSpec(data.vectors.shape[1])}, fields={"text": FieldSpec("text")})
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection("quality", Path(folder) / "collection", spec) as collection,
    ):
        for batch in batches(data, rows):
            collection.upsert(batch)
        settle(collection)
        for sort, vectors, asked in sorts(data, labels):
            gains: dict[str, list[float]] = {}
            for at, label in enumerate(labels):
                right = data.labels[label].row
                for by, hits in _ways(collection, vectors[at], asked[at], texts, score).items():
                    gains.setdefault(by, []).append(gain(hits, right))
            found += [Quality(sort, by, float(np.mean(each))) for by, each in gains.items()]
    return found


def _ways(
    collection: Collection, vector: Floats, text: str, texts: Sequence[str], score: Score
) -> dict[str, list[int]]:
    dense, words = DenseLeg("v", vector), TextLeg("text", text)

    def hits(query: Query) -> list[int]:
        return [int(each.id) for each in collection.search(query).hits]

    fused = hits(Query((dense, words), DEPTH))
    return {
        "vectors": hits(Query((dense,), K)),
        "words": hits(Query((words,), K)),
        "hybrid": fused[:K],
        "hybrid, reranked": read_again(text, fused, texts, score),
    }
