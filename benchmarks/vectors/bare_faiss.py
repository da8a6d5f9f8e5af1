"""FAISS with nothing around it, each way as quick as its Python interface lets it be: one query a call, outputs used again.

What is built once cannot be written to: these hold the points as they are in the end.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

faiss: Any = import_module("faiss")  # its types are wrong about what Python adds
Floats = npt.NDArray[np.float32]
Search = Callable[[Floats], npt.NDArray[np.int64]]
"""Of one query, [1, d]: rows [1, k], which the next call overwrites."""

TRAIN_ROWS_A_CENTRE = 4_096
"""Of product quantisation, 16 times the default: its codebooks are then as good as they get."""


def pq_refine(vectors: Floats, *, refine: str) -> Any:  # noqa: ANN401 - an index of FAISS
    """Product quantisation of 4 bits for each 4 dimensions, scanned whole, then `refine`: "f32" or "sq8"."""
    size = vectors.shape[1]
    base = faiss.IndexPQFastScan(size, size // 4, 4, faiss.METRIC_INNER_PRODUCT)
    base.pq.cp.max_points_per_centroid = TRAIN_ROWS_A_CENTRE
    if refine == "f32":
        index = faiss.IndexRefineFlat(base)
    else:
        exact = faiss.IndexScalarQuantizer(size, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        index = faiss.IndexRefine(base, exact)
    index.train(vectors)
    index.add(vectors)
    return index


def ivf_refine(vectors: Floats, lists: int) -> Any:  # noqa: ANN401
    """Inverted lists of product quantisation of 4 bits for each 2 dimensions, then exact."""
    index = faiss.index_factory(
        vectors.shape[1], f"IVF{lists},PQ{vectors.shape[1] // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT
    )
    index.train(vectors)
    index.add(vectors)
    return index


def pq_filtered(vectors: Floats) -> Any:  # noqa: ANN401
    """One inverted list of product quantisation, which takes selectors as plain fast scan does not."""
    index = faiss.index_factory(vectors.shape[1], f"IVF1,PQ{vectors.shape[1] // 4}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


def refined_search(index: Any, candidates: int, k: int, probed: int | None = None) -> Search:  # noqa: ANN401
    """Of an index that refines: `candidates` are scored exactly, of so many inverted lists where it has some."""
    index.k_factor = candidates / k
    if probed is not None:
        faiss.extract_index_ivf(index).nprobe = probed
    scores, rows = np.empty((1, k), np.float32), np.empty((1, k), np.int64)

    def search(query: Floats) -> npt.NDArray[np.int64]:
        index.search(query, k, D=scores, I=rows)
        return rows

    return search


def filtered_search(index: Any, vectors: Floats, candidates: int, k: int) -> Callable[[Floats, Any], list[int]]:  # noqa: ANN401
    """Of `pq_filtered`, with a selector of `bitmap_of`: candidates that pass, then exact scores by numpy."""

    def search(query: Floats, selector: Any) -> list[int]:  # noqa: ANN401
        _, found = index.search(query, candidates, params=faiss.IVFSearchParameters(sel=selector, nprobe=1))
        rows = found[0][found[0] >= 0]
        scores = vectors[rows] @ query[0]
        best: list[int] = rows[np.argsort(-scores)[:k]].tolist()
        return best

    return search


def bitmap_of(passing: npt.NDArray[np.bool_]) -> Any:  # noqa: ANN401
    """A selector of the rows that pass."""
    return faiss.IDSelectorBitmap(np.packbits(passing, bitorder="little"))


def exact_among(vectors: Floats, query: Floats, rows: npt.NDArray[np.int64], k: int) -> list[int]:
    """The best of few rows, gathered and scored."""
    scores = vectors[rows] @ query[0]
    best: list[int] = rows[np.argsort(-scores)[:k]].tolist()
    return best
