"""Vectors on a GPU through faiss-gpu: flat in float16, inverted lists or a CAGRA graph in float32. It has no filter that can be
relied on.

**It has not been run on a GPU**: neither how quick it is nor how much it holds was measured. It is written against the API of
faiss-gpu 1.15 as its tutorials use it, CAGRA against that of
faiss-gpu-cuvs 1.15; `host_index` is the twin of the others on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.errors import ResourceExhausted, Unavailable
from engine.vectors.declaration import Metric
from engine.vectors.faiss_index import measure_of, probe_by
from engine.vectors.gpu_index import Answer
from engine.vectors.index import Bits, Floats, IndexChoice

SCRATCH_BYTES: Final = 64 << 20
"""What each index sets aside on the device to search with; 1.5 GiB if it is not told, and each segment has an index."""
_SLICE_BYTES: Final = 32 << 20
_LIST_SAMPLES: Final = 64
"""Rows that an inverted list is placed by, at most, and at random."""
_SEED: Final = 11
_SEARCHED_MIN, _SEARCHED_MAX, _SEARCHED_STEP = 64, 512, 32
"""Nodes that a search of a graph keeps at once: at least FAISS's default, in cuVS's steps, no more than a thread block holds."""


def faiss_sees_gpu() -> bool:
    """Whether the faiss installed here was built for GPUs and sees one."""
    import faiss

    try:
        return hasattr(faiss, "StandardGpuResources") and bool(faiss.get_num_gpus())
    except RuntimeError:  # a driver that does not fit
        return False


class FaissDevice:
    """A Device: the index of `vectors` on GPU `number`, as `host_index` makes it on the CPU; they go there slice by slice,
    but lists of products at once.

    Raises Unavailable where there is no GPU, ResourceExhausted where it does not take the index, most likely for want of memory.
    """

    def __init__(self, vectors: Any, choice: IndexChoice, metric: Metric, *, number: int = 0) -> None:  # noqa: ANN401
        faiss = _faiss_with_gpu()
        try:
            options = faiss.GpuClonerOptions()
            options.useFloat16 = True
            self._resources = faiss.StandardGpuResources()  # must outlive the index
            self._resources.setTempMemory(SCRATCH_BYTES)
            if (
                choice.kind == "ivf_pq" and metric != "l2"
            ):  # what fills lists and what probes them changes on the CPU alone
                self._index = faiss.index_cpu_to_gpu(
                    self._resources, number, host_index(vectors, choice, metric), options
                )
            else:
                empty = _empty(vectors.shape[1], choice, metric)
                self._index = faiss.index_cpu_to_gpu(self._resources, number, empty, options)
                _fill(self._index, vectors, choice)
        except RuntimeError as error:
            raise ResourceExhausted(f"GPU {number} does not take the index: {str(error)[-300:]}") from error
        self._lower_is_better = metric == "l2"
        self.filters = False
        self.kind = "gpu_ivf_flat" if choice.kind == "ivf_pq" else "gpu_flat"
        self.bytes_size = (4 if choice.kind == "ivf_pq" else 2) * vectors.shape[0] * vectors.shape[1]

    def search(self, queries: Floats, count: int, bits: Bits | None = None) -> Answer:
        """See Device."""
        assert bits is None
        with _told_of_room():
            scores, rows = self._index.search(queries, count)
        return (np.negative(scores) if self._lower_is_better else scores), rows

    def save(self, path: Path) -> None:
        """See Device."""
        import faiss

        try:
            faiss.write_index(faiss.index_gpu_to_cpu(self._index), str(path))
        except RuntimeError as error:
            raise OSError(f"index file '{path}' cannot be written: {error}") from error


class GraphDevice:
    """A Device: a CAGRA graph (Ootomo et al. 2023) over `vectors`, built by cuVS on GPU `number`, with twice `choice.links` edges
    a node, as HNSW's lowest level has. The vectors are copied whole, on both sides.

    Raises Unavailable where there is no GPU, or the faiss here was built without cuVS, ResourceExhausted as FaissDevice.
    """

    kind = "gpu_cagra"
    filters = False

    def __init__(self, vectors: Any, choice: IndexChoice, metric: Metric, *, number: int = 0) -> None:  # noqa: ANN401
        self._faiss = faiss = _faiss_with_cuvs()
        rows, size = vectors.shape
        config = faiss.GpuIndexCagraConfig()
        config.device = number
        config.graph_degree, config.intermediate_graph_degree = 2 * choice.links, 4 * choice.links
        try:
            self._resources = faiss.StandardGpuResources()  # must outlive the index
            self._resources.setTempMemory(SCRATCH_BYTES)
            self._index = faiss.GpuIndexCagra(self._resources, size, measure_of(metric), config)
            self._index.train(np.ascontiguousarray(vectors[:rows], np.float32))  # which adds them
        except RuntimeError as error:
            raise ResourceExhausted(f"GPU {number} does not take the graph: {str(error)[-300:]}") from error
        self._lower_is_better = metric == "l2"
        self.bytes_size = 4 * rows * (size + 2 * choice.links)

    def search(self, queries: Floats, count: int, bits: Bits | None = None) -> Answer:
        """See Device."""
        assert bits is None
        params = self._faiss.SearchParametersCagra()
        params.itopk_size = nodes_searched(count)
        with _told_of_room():
            scores, rows = self._index.search(queries, count, params=params)
        return (np.negative(scores) if self._lower_is_better else scores), rows

    def save(self, path: Path) -> None:
        """See Device."""
        raise OSError(f"index file '{path}' cannot be written: a graph on the GPU is no index of the CPU's")


@contextmanager
def _told_of_room() -> Iterator[None]:
    """MemoryError where there is none for what is done within: `StandardGpuResources: alloc fail ... (cudaMalloc error out of
    memory [2])`, and of cuVS `std::bad_alloc: out_of_memory`. FAISS raises RuntimeError for all that befalls a GPU."""
    try:
        yield
    except RuntimeError as error:
        if any(each in str(error) for each in ("alloc fail", "out of memory", "out_of_memory")):
            raise MemoryError(f"the GPU has no room: {str(error)[-300:]}") from error
        raise


def _faiss_with_gpu() -> Any:  # noqa: ANN401  the module, whose types know no GPU
    import faiss

    if not faiss_sees_gpu():
        raise Unavailable("the index asks for a GPU, but the faiss installed here sees none")
    return faiss


def _faiss_with_cuvs() -> Any:  # noqa: ANN401
    faiss = _faiss_with_gpu()
    if not hasattr(faiss, "GpuIndexCagra"):
        raise Unavailable(
            "a graph on a GPU needs faiss built with cuVS (faiss-gpu-cuvs), but the faiss installed here was built without"
        )
    return faiss


def nodes_searched(count: int) -> int:
    """How many nodes a search of a graph keeps to find `count`: cuVS wants a multiple of 32, not below `count`. Raises
    MemoryError where they are too many: the CPU answers then."""
    if count > _SEARCHED_MAX:
        raise MemoryError(f"a graph on a GPU finds {_SEARCHED_MAX} at most, {count} were asked for")
    return max(_SEARCHED_MIN, -(-count // _SEARCHED_STEP) * _SEARCHED_STEP)


def host_index(vectors: Any, choice: IndexChoice, metric: Metric) -> Any:  # noqa: ANN401
    """The same index on the CPU. Of `vectors`, float32 [n, d] or what reads as that: lists for `ivf_pq`, else flat. Not
    compressed: a GPU scans vectors faster than it decodes 4-bit codes, for which faiss-gpu has no kernel."""
    index = _empty(vectors.shape[1], choice, metric)
    _fill(index, vectors, choice)
    if choice.kind == "ivf_pq":
        probe_by(index, measure_of(metric))
    return index


def _empty(size: int, choice: IndexChoice, metric: Metric) -> Any:  # noqa: ANN401
    import faiss

    measure = measure_of(metric)
    if choice.kind != "ivf_pq":
        return faiss.IndexFlat(size, measure)
    coarse: Any = faiss.IndexFlat(size, faiss.METRIC_L2)
    index: Any = faiss.IndexIVFFlat(coarse, size, choice.lists, measure)
    index.referenced_objects = [coarse]
    index.nprobe = min(choice.lists, choice.probed or max(8, choice.lists // 16))
    return index


def _fill(index: Any, vectors: Any, choice: IndexChoice) -> None:  # noqa: ANN401
    """Trains an empty index, on either side, and adds `vectors`: no more than a slice of them is copied at once."""
    rows, size = vectors.shape
    if choice.kind == "ivf_pq":
        chosen = np.random.default_rng(_SEED).choice(rows, min(rows, _LIST_SAMPLES * choice.lists), replace=False)
        index.train(np.ascontiguousarray(vectors[np.sort(chosen)], np.float32))
    step = max(1, _SLICE_BYTES // (4 * size))
    for start in range(0, rows, step):
        index.add(np.ascontiguousarray(vectors[start : start + step], np.float32))
