"""Sealed segments on a GPU: one interface over what holds the vectors there, callers answered in batches by one thread.

A GPU takes no second caller while it searches, and one query costs it nearly what 64 do: so one thread owns the device's rows and
takes together what waits when it is free, never waiting for a clock. Before it takes, it lets whoever can run put down what they
ask for: callers just answered come back at once, and a batch of those who were quickest would leave the rest for the next.

Where the device has no room for a search the CPU answers it; once the device fails, the CPU answers all, and says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from engine.errors import Internal, ResourceExhausted, Unavailable, VireoError
from engine.vectors.index import Bits, Floats, Rows, VectorIndex
from engine.vectors.places import among

BATCH_QUERIES_MAX: Final = 256
WAITING_MAX: Final = 4_096
COUNT_MAX: Final = 2_048
"""The most that a device finds for a query."""
OVERFETCH: Final = 1.5
"""How many times the rows expected to hold enough that pass a filter are fetched at first, where the device takes none."""

Answer = tuple[Floats, Rows]
log = logging.getLogger("vireo.vectors")


class Device(Protocol):
    """What holds the vectors: our kernels, faiss-gpu, or their twins in tests. Called by one thread at a time."""

    @property
    def kind(self) -> str:
        """What it is there, told as the kind of the index."""

    @property
    def bytes_size(self) -> int:
        """What its vectors take on the device."""

    @property
    def filters(self) -> bool:
        """Whether `search` takes bits."""

    def search(self, queries: Floats, count: int, bits: Bits | None = None) -> Answer:
        """As VectorIndex's; `count` is at most COUNT_MAX. Raises MemoryError where there is no room just now, ValueError for
        queries that it does not take; whatever else it raises means that the device is lost."""

    def save(self, path: Path) -> None:
        """Write the index in the CPU's format. Raises OSError."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """One caller. `done` is released once `answer` or `error` is there."""

    queries: Floats
    count: int
    bits: Bits | None
    done: threading.Lock = field(default_factory=threading.Lock)
    answer: Answer | None = None
    error: VireoError | None = None


class GpuIndex:
    """A `VectorIndex` on a device; whoever made it closes it. Any thread may search; searches wait for those before them."""

    def __init__(self, device: Device, rows: int, what: str, on_cpu: Callable[[], VectorIndex | None]) -> None:
        """`what` it is of, for the log; `on_cpu`: the same index on the CPU, None where there is none to be had (then nothing
        is found, and who asks scans). Called when it is needed, once."""
        self._device: Device | None = device
        self._rows, self._what, self._on_cpu = rows, what, on_cpu
        self._cpu: VectorIndex | None = None
        self._cpu_asked = False
        self._lost: str | None = None
        self._waiting: deque[_Waiting] = deque()
        self._ready = threading.Condition()
        self._loading = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="gpu-index", daemon=True)
        self._thread.start()

    @property
    def kind(self) -> str:
        """See VectorIndex: the device's; once it is lost the CPU's, and why."""
        device = self._device
        if device is not None:
            return device.kind
        return f"{'flat' if self._cpu is None else self._cpu.kind}, the GPU was lost: {self._lost}"

    @property
    def rows(self) -> int:
        """See VectorIndex."""
        return self._rows

    @property
    def bytes_size(self) -> int:
        """Of the vectors, on the device; of the CPU's index once that is lost."""
        on = self._device or self._cpu
        return 0 if on is None else on.bytes_size

    def search(self, queries: Floats, count: int, bits: Bits | None = None, *, effort: float = 1.0) -> Answer:
        """See VectorIndex; `effort` has no meaning on a GPU. Where the device takes no filter one that few rows pass may leave
        fewer than there are: the last rows are -1 then, and the rest is for the caller to find. Raises ResourceExhausted
        where too many wait, Unavailable once closed."""
        device = self._device
        if device is None:
            return self._searched_on_cpu(queries, count, bits, effort)
        wanted = min(count, self._rows, COUNT_MAX)
        if bits is None or device.filters:
            return _filled(*self._ask(queries, wanted, bits), count)
        passing = int(np.bitwise_count(bits).sum())
        fetched = min(COUNT_MAX, self._rows, int(OVERFETCH * count * self._rows / max(1, passing)) + 1)
        while True:
            scores, rows = _passing(*self._ask(queries, fetched, None), bits, count)
            enough = min(count, passing)
            if fetched >= min(COUNT_MAX, self._rows) or (rows[:, :enough] >= 0).all():
                return scores, rows
            fetched = min(COUNT_MAX, self._rows, 2 * fetched)

    def save(self, path: Path) -> None:
        """See VectorIndex. Not while others search."""
        if self._device is None:
            raise OSError(f"index file '{path}' cannot be written: the GPU was lost")
        self._device.save(path)

    def close(self) -> None:
        """What waits is answered, then the thread ends, and the device's memory is free again with this object."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        if threading.current_thread() is not self._thread:  # Python may collect what owns this on any thread
            self._thread.join()

    def _ask(self, queries: Floats, count: int, bits: Bits | None) -> Answer:
        if count == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        asked = _Waiting(queries, count, bits)
        asked.done.acquire()
        with self._ready:  # nothing may be put behind the end
            if self._closed:
                raise Unavailable("the index on the GPU is closed")
            if len(self._waiting) >= WAITING_MAX:
                raise ResourceExhausted(f"{WAITING_MAX} searches wait for the GPU already")
            self._waiting.append(asked)
            self._ready.notify()
        asked.done.acquire()
        if asked.error is not None:
            raise asked.error
        assert asked.answer is not None
        return asked.answer

    def _serve(self) -> None:
        while True:
            with self._ready:
                while not self._waiting and not self._closed:
                    self._ready.wait()
                if not self._waiting:
                    return
            self._let_others_ask()
            self._answer(self._taken())

    def _let_others_ask(self) -> None:
        """Threads that can run do, for as long as that brings more."""
        many = 0
        while many < len(self._waiting) < BATCH_QUERIES_MAX:
            many = len(self._waiting)
            time.sleep(0)

    def _taken(self) -> list[_Waiting]:
        """The first that waits and all with the same filter, in order, up to BATCH_QUERIES_MAX queries or one that has more."""
        batch, queries, left = [], 0, []
        with self._ready:
            bits = self._waiting[0].bits
            while self._waiting and queries < BATCH_QUERIES_MAX:
                each = self._waiting.popleft()
                if each.bits is bits:
                    batch.append(each)
                    queries += len(each.queries)
                else:
                    left.append(each)
            self._waiting.extendleft(reversed(left))
        return batch

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            queries = np.concatenate([each.queries for each in batch]) if len(batch) > 1 else batch[0].queries
            scores, rows = self._searched(queries, max(each.count for each in batch), batch[0].bits)
            start = 0
            for each in batch:
                end = start + len(each.queries)
                each.answer = scores[start:end, : each.count], rows[start:end, : each.count]
                start = end
        except Exception as error:  # whatever befalls, callers must not wait for ever
            log.exception("%s: a search failed on the GPU and on the CPU", self._what)
            for each in batch:
                each.error = Internal(f"the search failed on the GPU and on the CPU: {str(error)[-300:]}")
        for each in batch:
            each.done.release()

    def _searched(self, queries: Floats, count: int, bits: Bits | None) -> Answer:
        device = self._device
        if device is not None:
            try:
                return device.search(queries, count, bits)
            except (MemoryError, ValueError) as error:  # no query, whatever is in it, may cost the device
                log.warning("%s: searched on the CPU this time: %s", self._what, error)
            except Exception as error:
                self._lose(error)
        return self._searched_on_cpu(queries, count, bits, 1.0)

    def _lose(self, error: Exception) -> None:
        log.error("%s is searched on the CPU from now on, the GPU was lost: %s", self._what, error)
        self._lost, self._device = str(error)[:300], None

    def _searched_on_cpu(self, queries: Floats, count: int, bits: Bits | None, effort: float) -> Answer:
        with self._loading:
            if not self._cpu_asked:
                try:
                    self._cpu = self._on_cpu()
                except VireoError as error:  # its file went with a merge, say
                    log.warning("%s: there is no index on the CPU, its rows are scanned: %s", self._what, error.message)
                self._cpu_asked = True
        if self._cpu is None:
            return np.full((len(queries), count), -np.inf, np.float32), np.full((len(queries), count), -1, np.int64)
        return self._cpu.search(queries, count, bits, effort=effort)


def _filled(scores: Floats, rows: Rows, count: int) -> Answer:
    """With -1 rows appended to `count`."""
    if rows.shape[1] == count:  # to pad by nothing takes 30 µs, which 64 callers have of a batch all together
        return scores, rows
    short = ((0, 0), (0, count - rows.shape[1]))
    return np.pad(scores, short, constant_values=-np.inf), np.pad(rows, short, constant_values=-1)


def _passing(scores: Floats, rows: Rows, bits: Bits, count: int) -> Answer:
    """The first `count` rows whose bit is 1, in order."""
    passes = (rows >= 0) & among(bits, np.maximum(rows, 0))
    first = np.argsort(~passes, axis=1, kind="stable")[:, :count]
    kept = np.take_along_axis(passes, first, 1)
    found = np.where(kept, np.take_along_axis(rows, first, 1), -1)
    return _filled(np.where(kept, np.take_along_axis(scores, first, 1), np.float32(-np.inf)), found, count)
