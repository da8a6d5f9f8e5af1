"""FAISS behind `VectorIndex`: 4-bit product quantisation scanned by SIMD (André, Kermarrec, Le Scouarnec, "Cache locality is
not enough", VLDB 2015; Douze et al., "The Faiss library", 2024), inverted lists, HNSW (Malkov and Yashunin, 2018), signs.

The one file that knows faiss. A FAISS index may be searched by many threads, but not while something is added: here nothing is
ever added after `build_index`. A search runs on the calling thread alone, without the GIL.
"""

from __future__ import annotations

import logging
import struct
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.errors import DataLoss, quoted
from engine.vectors.codebook import CENTRES, Codebook, padded, quantisation_error, sample_of, width_for
from engine.vectors.declaration import Metric
from engine.vectors.index import Bits, Floats, IndexChoice, IndexKind, Rows

SLICE_BYTES: Final = 32 << 20
"""Of float32, added at once: more is never copied out of a memory-mapped array."""
LIST_SAMPLES: Final = 32
"""Rows an inverted list is placed by. At most, and at random: k-means takes half of the time that `ivf_pq` is built in."""
LISTS_ROUNDS: Final = 16
"""Of k-means: they tell more than rows do. Of 1M x 128 clustered 2 of 2,048 lists have .931 of the nearest after 8 rounds over 32
rows (3.5 s), .996 after 16 (7 s); .978, .979 and .976 after 10 over 64, 128 and 256 rows (8, 17 and 35 s)."""
SEED: Final = 11
PROBE_QUERIES: Final = 128
PROBE_COUNT: Final = 20
PROBE_RECALL: Final = 0.98
PROBED_LISTS_MIN: Final = 8
PROBED_SHARE_MAX: Final = 1 / 4
EFFORT_HNSW: Final = 64
EFFORT_BUILD_HNSW: Final = 200

_FOOTER: Final = struct.Struct("<8sBBxxIQQ")
_MAGIC: Final = b"VIREOFX1"
_KINDS: Final[tuple[IndexKind, ...]] = ("pq", "ivf_pq", "hnsw", "binary")
_METRICS: Final[tuple[Metric, ...]] = ("cosine", "dot", "l2")
_ROOMS_MAX: Final = 16
_SINGLE: Final = np.dtype(np.float32)


@cache
def _faiss() -> Any:  # noqa: ANN401
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells each variant it does not find
    import faiss

    return faiss


def measure_of(metric: Metric) -> int:
    """What FAISS calls it. `cosine` is the dot product of vectors of length 1."""
    found: int = _faiss().METRIC_L2 if metric == "l2" else _faiss().METRIC_INNER_PRODUCT
    return found


@dataclass(frozen=True, slots=True)
class _Shape:
    kind: IndexKind
    metric: Metric
    size: int
    rows: int


class _Room:
    """What one query's answer is put into; FAISS's wrapper makes a pointer in half a microsecond."""

    def __init__(self, count: int) -> None:
        self.scores, self.rows = np.empty((1, count), np.float32), np.empty((1, count), np.int64)
        self.scores_at, self.rows_at = _faiss().swig_ptr(self.scores), _faiss().swig_ptr(self.rows)


class _OfThread(threading.local):
    """Of each thread that searches: whether it was told to search alone, and rooms by the number of rows wanted."""

    def __init__(self) -> None:
        self.single = False
        self.rooms: dict[int, _Room] = {}


_thread = _OfThread()


class FaissIndex:
    """A `VectorIndex` over one FAISS index. Made by `build_index` and `load_index`."""

    def __init__(self, index: Any, shape: _Shape) -> None:  # noqa: ANN401
        self._index = index
        self._shape, self._kind, self._size = shape, shape.kind, shape.size
        self._width = int(index.d) if shape.kind != "binary" else shape.size
        self._known: dict[tuple[float, int], Any] = {}
        """Search parameters without a selector, by effort and, where it matters, the number of rows wanted."""
        self._lower_is_better = shape.metric == "l2" or shape.kind == "binary"

    @property
    def kind(self) -> IndexKind:
        """See VectorIndex."""
        return self._shape.kind

    @property
    def rows(self) -> int:
        """See VectorIndex."""
        return self._shape.rows

    @property
    def bytes_size(self) -> int:
        """See VectorIndex."""
        return _bytes_size(self._index, self._shape)

    def search(
        self, queries: Floats, count: int, bits: Bits | None = None, *, effort: float = 1.0
    ) -> tuple[Floats, Rows]:
        """See VectorIndex."""
        assert queries.shape[1:] == (self._size,), f"{queries.shape[1:]} dimensions instead of {self._size}"
        assert count > 0
        if self._kind == "binary":
            return self._search_signs(queries, count, bits)
        if self._width != self._size:
            queries = padded(queries, self._width)
        assert queries.dtype is _SINGLE or queries.dtype == _SINGLE
        assert queries.flags.c_contiguous
        if bits is None and len(queries) == 1:
            return self._search_one(queries, count, self._params(effort, count))
        scores = np.empty((len(queries), count), np.float32)
        rows = np.empty((len(queries), count), np.int64)
        params, kept = self._selecting(bits, effort, count)
        pointer = _faiss().swig_ptr
        self._run(len(queries), pointer(queries), count, pointer(scores), pointer(rows), params)
        del kept
        if self._shape.kind == "pq" and (rows[:, 0] < 0).any():
            self._fill_ties(scores, rows, bits)
        if self._lower_is_better:
            np.negative(scores, out=scores)
        return scores, rows

    def _search_one(self, query: Floats, count: int, params: Any) -> tuple[Floats, Rows]:  # noqa: ANN401
        """Every search's way: what FAISS is to fill, and pointers to that, are made once a thread and copied out."""
        if (found := _thread.rooms.get(count)) is None:
            if len(_thread.rooms) >= _ROOMS_MAX:
                _thread.rooms.clear()
            found = _thread.rooms[count] = _Room(count)
        self._run(1, _faiss().swig_ptr(query), count, found.scores_at, found.rows_at, params)
        scores, rows = found.scores.copy(), found.rows.copy()
        if self._kind == "pq" and rows.item(0) < 0:
            self._fill_ties(scores, rows, None)
        return (np.negative(scores, out=scores) if self._lower_is_better else scores), rows

    def _params(self, effort: float, count: int) -> Any:  # noqa: ANN401
        key = (effort, max(count, EFFORT_HNSW) if self._kind == "hnsw" else 0)
        if (found := self._known.get(key)) is None:
            if len(self._known) >= _ROOMS_MAX:
                self._known.clear()
            found = self._known[key] = _params(self._index, self._shape.kind, effort, count)
        return found

    def _fill_ties(self, scores: Floats, rows: Rows, bits: Bits | None) -> None:
        """Where all codes are as near to a query (zeros under dot), FAISS divides by no range and finds nothing: any will do."""
        passing = np.arange(self.rows) if bits is None else np.flatnonzero(np.unpackbits(bits, bitorder="little"))
        found = passing[: rows.shape[1]]
        for query in np.flatnonzero(rows[:, 0] < 0):
            rows[query, : len(found)] = found
            scores[query, : len(found)] = 0.0

    def _search_signs(self, queries: Floats, count: int, bits: Bits | None) -> tuple[Floats, Rows]:
        signs = signs_of(queries)
        distances = np.empty((len(queries), count), np.int32)
        rows = np.empty((len(queries), count), np.int64)
        params, kept = self._selecting(bits, 1.0, count)
        pointer = _faiss().swig_ptr
        self._run(len(queries), pointer(signs), count, pointer(distances), pointer(rows), params)
        del kept
        return np.negative(distances, dtype=np.float32), rows

    def _run(self, *arguments: object) -> None:
        if not _thread.single:  # OpenMP keeps the number of threads for each thread that asks
            _faiss().omp_set_num_threads(1)
            _thread.single = True
        self._index.search_c(*arguments)

    def _selecting(self, bits: Bits | None, effort: float, count: int) -> tuple[Any, Any]:
        """Search parameters, and what must live as long as they do."""
        if bits is None:
            return self._params(effort, count), None
        params = _params(self._index, self._shape.kind, effort, count)
        assert bits.dtype == np.uint8
        assert len(bits) == (self._shape.rows + 7) // 8, f"{len(bits)} bytes of bits for {self._shape.rows} rows"
        kept = np.ascontiguousarray(bits)
        selector = _faiss().IDSelectorBitmap(len(kept), _faiss().swig_ptr(kept))
        params.sel = selector
        return params, (kept, selector)

    def save(self, path: Path) -> None:
        """See VectorIndex. Raises OSError."""
        faiss = _faiss()
        try:
            write = faiss.write_index_binary if self._shape.kind == "binary" else faiss.write_index
            write(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"index file {quoted(str(path))} cannot be written: {error}") from error
        size, shape = path.stat().st_size, self._shape
        kind, metric = _KINDS.index(shape.kind), _METRICS.index(shape.metric)
        with path.open("ab") as file:
            file.write(_FOOTER.pack(_MAGIC, kind, metric, shape.size, shape.rows, size))


def signs_of(vectors: Floats) -> Bits:
    """One bit a dimension, 1 where it is above 0; uint8 [n, 8 ceil(d / 64)], whole words for FAISS's popcount."""
    bits = np.packbits(vectors > 0, axis=1, bitorder="little")
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))


def _params(index: Any, kind: IndexKind, effort: float, count: int = 0) -> Any:  # noqa: ANN401
    faiss = _faiss()
    if kind == "binary":
        return faiss.SearchParameters()
    if kind == "hnsw":
        found = faiss.SearchParametersHNSW()
        found.efSearch = max(count, round(EFFORT_HNSW * effort))
        return found
    found = faiss.SearchParametersIVF()
    found.nprobe = min(index.nlist, max(1, round(index.nprobe * effort)))
    return found


def _bytes_size(index: Any, shape: _Shape) -> int:  # noqa: ANN401
    rows = shape.rows
    if shape.kind == "binary":
        return rows * int(index.code_size)
    if shape.kind == "hnsw":
        return rows * 2 * shape.size + 4 * int(index.hnsw.neighbors.size()) + 8 * int(index.hnsw.offsets.size())
    return rows * (8 + (int(index.M2) + 1) // 2) + 4 * shape.size * int(index.nlist)


def train_codebook(vectors: Floats, *, seed: int = SEED, threads: int = 1) -> Codebook:
    """The codebook of a collection, from at most SAMPLE_ROWS of `vectors`, float32 [n, d]; the same for the same seed."""
    faiss, sample = _faiss(), sample_of(vectors, seed)
    size = sample.shape[1]
    width = width_for(size)
    parts = -(-size // width)
    quantizer = faiss.ProductQuantizer(parts * width, parts, 4)
    quantizer.cp.seed = seed
    quantizer.cp.min_points_per_centroid = 1
    quantizer.cp.max_points_per_centroid = len(sample) // CENTRES + 1
    few = -(-CENTRES // len(sample))  # k-means wants as many rows as centres: fewer are repeated
    faiss.omp_set_num_threads(threads)
    try:
        quantizer.train(padded(np.tile(sample, (few, 1)), parts * width))
    finally:
        faiss.omp_set_num_threads(1)
    centres = faiss.vector_to_array(quantizer.centroids).reshape(parts, CENTRES, width)
    found = Codebook(centres, size, 0.0, len(sample))
    return Codebook(centres, size, quantisation_error(found, sample), len(sample))


def build_index(
    vectors: Floats,
    choice: IndexChoice,
    metric: Metric,
    codebook: Codebook | None = None,
    *,
    threads: int = 1,
) -> FaissIndex:
    """The index of `vectors`, float32 [n, d], which may be memory-mapped: they are read in slices of SLICE_BYTES.

    `codebook`: of the collection, for `pq` and `ivf_pq`, of the same dimensions. `threads`: of this build. `flat` is not built.
    """
    assert choice.kind != "flat"
    rows, size = vectors.shape
    shape = _Shape(choice.kind, metric, size, rows)
    faiss = _faiss()
    faiss.omp_set_num_threads(threads)
    try:
        index, width = _empty(vectors, choice, metric, codebook)
        step = max(1, SLICE_BYTES // (4 * size))
        for start in range(0, rows, step):
            part = np.ascontiguousarray(vectors[start : start + step], np.float32)
            index.add(signs_of(part) if choice.kind == "binary" else padded(part, width))
        if choice.kind == "ivf_pq":
            probe_by(index, measure_of(metric))
            if choice.probed is None:
                _probe_for_recall(index, vectors, width)
    finally:
        faiss.omp_set_num_threads(1)
    return FaissIndex(index, shape)


def _empty(vectors: Floats, choice: IndexChoice, metric: Metric, codebook: Codebook | None) -> tuple[Any, int]:
    """A trained index without rows, and how many dimensions it takes."""
    faiss, size = _faiss(), vectors.shape[1]
    measure = measure_of(metric)
    if choice.kind == "binary":
        return faiss.IndexBinaryFlat((size + 63) // 64 * 64), size
    if choice.kind == "hnsw":
        graph = faiss.IndexHNSWSQ(size, faiss.ScalarQuantizer.QT_fp16, choice.links, measure)
        graph.hnsw.efConstruction = EFFORT_BUILD_HNSW
        graph.train(np.ascontiguousarray(vectors[:1], np.float32))
        return graph, size
    assert codebook is not None
    assert codebook.size == size, f"a codebook of {codebook.size} dimensions for vectors of {size}"
    width = codebook.width * codebook.parts
    coarse = faiss.IndexFlat(width, faiss.METRIC_L2)
    coarse.add(_centres(vectors, choice.lists, width, metric))
    index = faiss.IndexIVFPQFastScan(coarse, width, choice.lists, codebook.parts, 4, measure)
    index.referenced_objects = [coarse]
    index.by_residual = False  # so that one codebook serves every list of every segment
    faiss.copy_array_to_vector(codebook.centres.ravel(), index.pq.centroids)
    index.is_trained = True
    index.nprobe = choice.probed or choice.lists
    return index, width


def probe_by(index: Any, measure: int) -> None:  # noqa: ANN401
    """Once inverted lists are filled, which are searched is told by `measure` of their centres. A row's list is always that of
    the nearest: by dot product a few long centres would draw nearly all rows. Of a million items of a recommender (norms 1.4 to
    19) one list of 2,048 had 149,000, every other none; 500 were found as well among an eighth of the rows, four times as fast.
    """
    faiss = _faiss()
    if measure == faiss.METRIC_L2:
        return
    nearest = index.quantizer
    coarse = faiss.IndexFlat(index.d, measure)
    coarse.add(nearest.reconstruct_n(0, index.nlist))
    index.quantizer = coarse
    index.referenced_objects = [coarse]


def _centres(vectors: Floats, lists: int, width: int, metric: Metric) -> Floats:
    if lists == 1:
        return np.zeros((1, width), np.float32)
    chosen = min(len(vectors), LIST_SAMPLES * lists)
    rows = np.sort(np.random.default_rng(SEED).choice(len(vectors), chosen, replace=False))
    sample = padded(np.ascontiguousarray(vectors[rows], np.float32), width)
    means = _faiss().Kmeans(
        width, lists, niter=LISTS_ROUNDS, seed=SEED, spherical=metric == "cosine", min_points_per_centroid=1,
        max_points_per_centroid=LIST_SAMPLES,
    )  # fmt: skip
    means.train(sample)
    return np.ascontiguousarray(means.centroids, np.float32)


def _probe_for_recall(index: Any, vectors: Floats, width: int) -> None:  # noqa: ANN401
    """Set the fewest lists, by doubling, that find what all lists would: clusters need 8 of 2,048, sentences an eighth."""
    rows = np.sort(np.random.default_rng(SEED).choice(len(vectors), min(PROBE_QUERIES, len(vectors)), replace=False))
    queries = padded(np.ascontiguousarray(vectors[rows], np.float32), width)
    count = min(PROBE_COUNT, len(vectors))
    index.nprobe = index.nlist
    _, best = index.search(queries, count)
    probed = min(PROBED_LISTS_MIN, index.nlist)
    while probed < index.nlist * PROBED_SHARE_MAX:
        index.nprobe = probed
        _, found = index.search(queries, count)
        hits = sum(len(np.intersect1d(one, other)) for one, other in zip(found, best, strict=True))
        if hits >= PROBE_RECALL * best.size:
            break
        probed *= 2
    index.nprobe = min(probed, index.nlist)


def load_index(path: Path) -> FaissIndex:
    """What `FaissIndex.save` wrote, read into memory.

    Raises DataLoss for a file that is missing, cut short or of something else. Damage inside it is for whoever keeps its
    checksum to find: FAISS does not.
    """
    shape = _read_footer(path)
    faiss = _faiss()
    try:
        read = faiss.read_index_binary if shape.kind == "binary" else faiss.read_index
        index = read(str(path))
    except RuntimeError as error:
        raise DataLoss(f"index file {quoted(str(path))} is damaged: {str(error)[-200:]}") from error
    if index.ntotal != shape.rows:
        raise DataLoss(f"index file {quoted(str(path))} has {index.ntotal} rows, its end says {shape.rows}")
    return FaissIndex(index, shape)


def _read_footer(path: Path) -> _Shape:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _FOOTER.size))
            tail = file.read()
    except OSError as error:
        raise DataLoss(f"index file {quoted(str(path))} cannot be read: {error}") from error
    if len(tail) != _FOOTER.size:
        raise DataLoss(f"index file {quoted(str(path))} is too short: {len(tail)} bytes")
    magic, kind, metric, dimensions, rows, length = _FOOTER.unpack(tail)
    if magic != _MAGIC or length != size - _FOOTER.size or kind >= len(_KINDS) or metric >= len(_METRICS):
        raise DataLoss(f"index file {quoted(str(path))} is cut short or was not written here")
    return _Shape(_KINDS[kind], _METRICS[metric], dimensions, rows)
