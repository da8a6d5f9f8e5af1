"""Sealed segments on a GPU through faiss-gpu: flat in float16, or inverted lists in float32, answered in batches by one thread.

A GPU index takes no second caller while it searches, gains by batches, and has no filter that can be relied on: so one thread
owns it and takes what waits at once (never waiting for more), and filters are kept by fetching more rows than were asked for.

**`FaissDevice` has not been run on a GPU**: neither how quick it is nor how much it holds was measured. It is written against the
API of faiss-gpu 1.15 as its tutorials use it. All else here is tested with its twin, FAISS on the CPU, in the device's place.
"""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from engine.errors import Internal, ResourceExhausted, Unavailable
from engine.vectors.declaration import Metric
from engine.vectors.index import Bits, Floats, IndexChoice, IndexKind, Rows
from engine.vectors.places import among

BATCH_QUERIES_MAX: Final = 256
WAITING_MAX: Final = 4_096
COUNT_MAX: Final = 2_048
"""The most that faiss-gpu finds for a query."""
OVERFETCH: Final = 1.5
"""How many times the rows expected to hold enough that pass a filter are fetched at first."""
SCRATCH_BYTES: Final = 64 << 20
"""What each index sets aside on the device to search with; 1.5 GiB if it is not told, and each segment has an index."""
_SLICE_BYTES: Final = 32 << 20
_LIST_SAMPLES: Final = 64
"""Rows that an inverted list is placed by, at most, and at random."""
_SEED: Final = 11

Answer = tuple[Floats, Rows]
log = logging.getLogger("vireo.vectors")


class Device(Protocol):
    """What holds the vectors: faiss-gpu, or its twin in tests. Called by one thread at a time."""

    def search(self, queries: Floats, count: int) -> Answer:
        """As VectorIndex's, without a filter; `count` is at most COUNT_MAX. Raises RuntimeError."""

    def save(self, path: Path) -> None:
        """Write the index in the CPU's format. Raises OSError."""


def supports_gpu() -> bool:
    """Whether the faiss installed here was built for GPUs and sees one."""
    import faiss

    try:
        return hasattr(faiss, "StandardGpuResources") and bool(faiss.get_num_gpus())
    except RuntimeError:  # a driver that does not fit
        return False


class FaissDevice:
    """The index of `vectors` on GPU `number`, as `host_index` makes it on the CPU; they go there slice by slice.

    Raises Unavailable where there is no GPU, ResourceExhausted where it does not take the index, most likely for want of memory.
    """

    def __init__(self, vectors: Any, choice: IndexChoice, metric: Metric, *, number: int = 0) -> None:  # noqa: ANN401
        import faiss

        if not supports_gpu():
            raise Unavailable("the index asks for a GPU, but the faiss installed here sees none")
        try:
            options = faiss.GpuClonerOptions()
            options.useFloat16 = True
            self._resources = faiss.StandardGpuResources()  # must outlive the index
            self._resources.setTempMemory(SCRATCH_BYTES)
            empty = _empty(vectors.shape[1], choice, metric)
            self._index = faiss.index_cpu_to_gpu(self._resources, number, empty, options)
            _fill(self._index, vectors, choice)
        except RuntimeError as error:
            raise ResourceExhausted(f"GPU {number} does not take the index: {str(error)[-300:]}") from error
        self._lower_is_better = metric == "l2"

    def search(self, queries: Floats, count: int) -> Answer:
        """See Device."""
        scores, rows = self._index.search(queries, count)
        return (np.negative(scores) if self._lower_is_better else scores), rows

    def save(self, path: Path) -> None:
        """See Device."""
        import faiss

        try:
            faiss.write_index(faiss.index_gpu_to_cpu(self._index), str(path))
        except RuntimeError as error:
            raise OSError(f"index file '{path}' cannot be written: {error}") from error


def host_index(vectors: Any, choice: IndexChoice, metric: Metric) -> Any:  # noqa: ANN401
    """The same index on the CPU. Of `vectors`, float32 [n, d] or what reads as that: lists for `ivf_pq`, else flat. Not
    compressed: a GPU scans vectors faster than it decodes 4-bit codes, for which faiss-gpu has no kernel."""
    index = _empty(vectors.shape[1], choice, metric)
    _fill(index, vectors, choice)
    return index


def _empty(size: int, choice: IndexChoice, metric: Metric) -> Any:  # noqa: ANN401
    import faiss

    measure = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    coarse: Any = faiss.IndexFlat(size, measure)
    if choice.kind != "ivf_pq":
        return coarse
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


def placed(vectors: Any, choice: IndexChoice, metric: Metric, what: str) -> GpuIndex | None:  # noqa: ANN401
    """The index of `vectors`, as `host_index` takes them, on a GPU. None where there is none, which is told once a process, or
    where it has no room, as a warning tells of `what`: then the CPU's index serves."""
    if not supports_gpu():
        _tell_of_none()
        return None
    try:
        device = FaissDevice(vectors, choice, metric)
    except ResourceExhausted as error:
        log.warning("%s is searched on the CPU: %s", what, error.message)
        return None
    log.info("%s is searched on a GPU", what)
    rows, size = vectors.shape
    return GpuIndex(device, choice.kind, rows, size)


@cache
def _tell_of_none() -> None:
    log.warning(
        "vectors ask for a GPU (index.gpu), and the faiss installed here sees none: they are searched on the CPU"
    )


@dataclass(slots=True)
class _Waiting:
    queries: Floats
    count: int
    answer: Future[Answer] = field(default_factory=Future)


class GpuIndex:
    """A `VectorIndex` on a device; whoever made it closes it. Any thread may search; searches wait for those before them."""

    def __init__(self, device: Device, kind: IndexKind, rows: int, size: int) -> None:
        self._kind = "gpu_ivf_flat" if kind == "ivf_pq" else "gpu_flat"
        self._device, self._rows, self._size = device, rows, size
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(WAITING_MAX)
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="gpu-index", daemon=True)
        self._thread.start()

    @property
    def kind(self) -> str:
        """See VectorIndex: "gpu_flat" or "gpu_ivf_flat"."""
        return self._kind

    @property
    def rows(self) -> int:
        """See VectorIndex."""
        return self._rows

    @property
    def bytes_size(self) -> int:
        """Of the vectors, on the device."""
        return (4 if self._kind == "gpu_ivf_flat" else 2) * self._rows * self._size

    def search(self, queries: Floats, count: int, bits: Bits | None = None, *, effort: float = 1.0) -> Answer:
        """See VectorIndex; `effort` has no meaning here. A filter that few rows pass may leave fewer than there are: the last
        rows are -1 then, and the rest is for the caller to find. Raises ResourceExhausted where too many wait, Unavailable
        once closed, Internal where the device fails."""
        del effort
        wanted = min(count, self._rows, COUNT_MAX)
        if bits is None:
            return _filled(*self._ask(queries, wanted), count)
        passing = int(np.bitwise_count(bits).sum())
        fetched = min(COUNT_MAX, self._rows, int(OVERFETCH * count * self._rows / max(1, passing)) + 1)
        while True:
            scores, rows = _passing(*self._ask(queries, fetched), bits, count)
            enough = min(count, passing)
            if fetched >= min(COUNT_MAX, self._rows) or (rows[:, :enough] >= 0).all():
                return scores, rows
            fetched = min(COUNT_MAX, self._rows, 2 * fetched)

    def save(self, path: Path) -> None:
        """See VectorIndex. Not while others search."""
        self._device.save(path)

    def close(self) -> None:
        """What waits is answered, then the thread ends, and the device's memory is free again with this object."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        if threading.current_thread() is not self._thread:  # Python may collect what owns this on any thread
            self._thread.join()

    def _ask(self, queries: Floats, count: int) -> Answer:
        if count == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        asked = _Waiting(queries, count)
        with self._closing:  # nothing may be put behind the end
            if self._closed:
                raise Unavailable("the index on the GPU is closed")
            try:
                self._waiting.put_nowait(asked)
            except queue.Full:
                raise ResourceExhausted(f"{WAITING_MAX} searches wait for the GPU already") from None
        return asked.answer.result()

    def _serve(self) -> None:
        ended = False
        while not ended:
            first = self._waiting.get()
            if first is None:
                return
            batch, queries = [first], len(first.queries)
            while queries < BATCH_QUERIES_MAX:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ended = True
                    break
                batch.append(more)
                queries += len(more.queries)
            self._answer(batch)

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            queries = np.concatenate([each.queries for each in batch])
            scores, rows = self._device.search(queries, max(each.count for each in batch))
        except Exception as error:  # whatever befalls the device, callers must not wait for ever
            for each in batch:
                each.answer.set_exception(Internal(f"the search on the GPU failed: {str(error)[-300:]}"))
            return
        start = 0
        for each in batch:
            end = start + len(each.queries)
            each.answer.set_result((scores[start:end, : each.count].copy(), rows[start:end, : each.count].copy()))
            start = end


def _filled(scores: Floats, rows: Rows, count: int) -> Answer:
    """With -1 rows appended to `count`."""
    short = ((0, 0), (0, count - rows.shape[1]))
    return np.pad(scores, short, constant_values=-np.inf), np.pad(rows, short, constant_values=-1)


def _passing(scores: Floats, rows: Rows, bits: Bits, count: int) -> Answer:
    """The first `count` rows whose bit is 1, in order."""
    passes = (rows >= 0) & among(bits, np.maximum(rows, 0))
    first = np.argsort(~passes, axis=1, kind="stable")[:, :count]
    kept = np.take_along_axis(passes, first, 1)
    found = np.where(kept, np.take_along_axis(rows, first, 1), -1)
    return _filled(np.where(kept, np.take_along_axis(scores, first, 1), np.float32(-np.inf)), found, count)
