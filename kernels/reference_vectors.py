"""The readable twins of the kernels of vector collections: the same answers by plain numpy, sets and dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.scoring import HAMMING, L2

Longs = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


def bitset_of(rows: Iterable[int], size: int) -> Bytes:
    """The bitset of `size` rows in which these are."""
    chosen = np.zeros(size, bool)
    chosen[list(rows)] = True
    return np.packbits(chosen, bitorder="little")


def rows_of(bits: Bytes) -> list[int]:
    """The rows of a bitset, ascending."""
    found: list[int] = np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()
    return found


def decoded(data: npt.NDArray[Any], dimensions: int, scales: Singles) -> Floats:
    """Stored vectors as float64 [n, d]."""
    if data.dtype == np.uint16:
        return data.view(np.float16).astype(np.float64)
    if data.dtype == np.int8:
        return data * scales.astype(np.float64)
    if data.dtype == np.uint8:
        return np.unpackbits(data, axis=1, count=dimensions, bitorder="little") * 2.0 - 1
    return data.astype(np.float64)


def scores_of(vectors: Floats, query: Singles, metric: int) -> Floats:
    """The score of every row of decoded vectors."""
    if metric == L2:
        return -((vectors - query) ** 2).sum(axis=1)
    if metric == HAMMING:
        return -((vectors > 0) != (query >= 0)).sum(axis=1).astype(np.float64)
    found: Floats = vectors @ query.astype(np.float64)
    return found


def best(pairs: Iterable[tuple[float, int]], k: int) -> list[tuple[float, int]]:
    """The k best of (score, place), the best first, of equals the lower place."""
    return sorted(pairs, key=lambda each: (-each[0], each[1]))[:k]


def fused_ranks(legs: Sequence[Sequence[int]], weights: Sequence[float], constant: float) -> dict[int, float]:
    """Reciprocal rank fusion of legs of different keys, the best first."""
    sums: dict[int, float] = {}
    for leg, weight in zip(legs, weights, strict=True):
        for rank, key in enumerate(leg, 1):
            sums[key] = sums.get(key, 0.0) + weight / (constant + rank)
    return sums


def fused_scores(legs: Sequence[Sequence[tuple[int, float]]], weights: Sequence[float]) -> dict[int, float]:
    """The weighted sum of scores scaled to [0, 1]; legs are (key, score)."""
    sums: dict[int, float] = {}
    for leg, weight in zip(legs, weights, strict=True):
        scores = [score for _, score in leg]
        for key, score in leg:
            span = max(scores) - min(scores)
            sums[key] = sums.get(key, 0.0) + weight * ((score - min(scores)) / span if span > 0 else 1.0)
    return sums


def diverse(vectors: Singles, relevance: Singles, weight: float, k: int) -> list[int]:
    """Maximal marginal relevance, greedily."""
    return diverse_within(vectors, relevance, weight, np.empty((len(vectors), 0), np.int64), (), k)


def diverse_within(
    vectors: Singles, relevance: Singles, weight: float, groups: Longs, caps: Sequence[int], k: int
) -> list[int]:
    """The same among those that no cap forbids."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)[:, None]
    chosen: list[int] = []

    def allowed(row: int) -> bool:
        same = [(groups[chosen, at] == value).sum() for at, value in enumerate(groups[row])]
        return row not in chosen and all(
            value < 0 or count < cap for value, count, cap in zip(groups[row], same, caps, strict=True)
        )

    while len(chosen) < k and (left := [row for row in range(len(vectors)) if allowed(row)]):
        nearest = {row: max((float(unit[row] @ unit[other]) for other in chosen), default=0.0) for row in left}
        gains = {row: weight * float(relevance[row]) - (1 - weight) * nearest[row] for row in left}
        chosen.append(max(left, key=lambda row: (gains[row] if chosen else float(relevance[row]), -row)))
    return chosen


def maxsim(vectors: Floats, query: Singles, offsets: Longs) -> Floats:
    """The late-interaction score of every row of decoded vectors."""
    found = np.full(len(offsets) - 1, -np.inf)
    for row, (begin, end) in enumerate(pairwise(offsets.tolist())):
        if end > begin:
            found[row] = (vectors[begin:end] @ query.astype(np.float64).T).max(axis=0).sum()
    return found


def inverted(hashes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], Longs, Longs]:
    """Terms, offsets and order of triples, by a stable sort."""
    order = np.argsort(hashes, kind="stable")
    terms, counts = np.unique(hashes, return_counts=True)
    return terms, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), order


def bm25(
    documents: Sequence[dict[int, int]],
    lengths: Sequence[int],
    idf: dict[int, float],
    mean_length: float,
    k1: float,
    b: float,
) -> dict[int, float]:
    """The score of each row that has one of the terms of `idf`; a document is the frequency of each of its terms."""
    found: dict[int, float] = {}
    for row, document in enumerate(documents):
        norm = k1 * (1 - b + b * lengths[row] / mean_length)
        gains = [idf[term] * often * (k1 + 1) / (often + norm) for term, often in document.items() if term in idf]
        if gains:
            found[row] = sum(gains)
    return found


def sparse_dot(documents: Sequence[dict[int, float]], query: dict[int, float]) -> dict[int, float]:
    """The dot product of each row that shares an index with the query."""
    found: dict[int, float] = {}
    for row, document in enumerate(documents):
        shared = document.keys() & query.keys()
        if shared:
            found[row] = sum(document[index] * query[index] for index in shared)
    return found


def normalised(rows: Singles) -> tuple[Singles, Floats]:
    """Rows [n, d] of length 1, and their squared lengths before; those of length 1 but for rounding, of no direction or not
    finite stay as they are."""
    with np.errstate(all="ignore"):
        squares = (rows.astype(np.float64) ** 2).sum(axis=1)
        kept = (
            (np.abs(squares - 1) <= 1.2e-7) | ~np.isfinite(squares) | (squares < float(np.finfo(np.float32).tiny) ** 2)
        )
        scales = np.where(kept, 1.0, 1 / np.sqrt(squares))
        return (rows * scales[:, np.newaxis]).astype(np.float32), squares
