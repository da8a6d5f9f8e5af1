"""Rows that stay in the host's memory and come to the device piece by piece: any number of them can be searched.

While one piece is searched the next is copied, from pinned memory on a stream of its own; two pieces are on the device at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from kernels.gpu.rows import ALIGNED, DeviceRows, Metric, Tensor

PIECE_BYTES = 512 << 20


class Streamed:
    """Float16 rows [n, d] of the host, searched by `kernels.gpu.knn.nearest` as often as wanted, by one thread at a time."""

    def __init__(self, vectors: Any, metric: Metric, *, device: str = "cuda", piece_bytes: int = PIECE_BYTES) -> None:
        """`vectors`: a numpy array float16 [n, d], mapped from a file or not, that each search reads anew; the caller answers for
        its numbers being finite. d is a multiple of 16, and `metric` is `dot`: `cosine` of rows of length 1. Raises
        ValueError."""
        if vectors.dtype != np.float16 or vectors.shape[1] % ALIGNED["float16"] or metric != "dot":
            raise ValueError(
                f"rows that are streamed are float16, of a multiple of {ALIGNED['float16']} dimensions, under 'dot', "
                f"not {vectors.dtype} of {vectors.shape[1]} under {metric!r}"
            )
        self._vectors, self._device = vectors, torch.device(device)
        self._piece = min(len(vectors), max(8, piece_bytes // (2 * vectors.shape[1]) // 8 * 8))
        cuda = self._device.type == "cuda"
        shape = (self._piece, vectors.shape[1])
        self._pinned = [torch.empty(shape, dtype=torch.float16, pin_memory=cuda) for _ in range(2)]
        self._there = [torch.empty(shape, dtype=torch.float16, device=self._device) for _ in range(2)]
        self._stream = torch.cuda.Stream(self._device) if cuda else None
        self._copied = [torch.cuda.Event() for _ in range(2)] if cuda else []
        self._used = [torch.cuda.Event() for _ in range(2)] if cuda else []

    def __len__(self) -> int:
        """How many rows."""
        return len(self._vectors)

    def __iter__(self) -> Iterator[DeviceRows]:
        """Pieces in order; each is good until the one after the next is asked for."""
        begins = range(0, len(self._vectors), self._piece)
        coming = self._copy(0, 0) if len(begins) else None
        for nth, begin in enumerate(begins):
            here, coming = coming, None
            assert here is not None
            if self._stream is not None:
                torch.cuda.current_stream(self._device).wait_event(self._copied[nth % 2])
            if begin + self._piece < len(self._vectors):
                coming = self._copy(begin + self._piece, nth + 1)
            yield DeviceRows(here, "float16", "dot", here.shape[1])
            if self._stream is not None:
                self._used[nth % 2].record(torch.cuda.current_stream(self._device))

    def _copy(self, begin: int, nth: int) -> Tensor:
        """Begins to copy rows `begin` and on into place `nth` % 2, once what was searched there is."""
        some = self._vectors[begin : begin + self._piece]
        pinned, there = self._pinned[nth % 2], self._there[nth % 2][: len(some)]
        if self._stream is None:
            there.copy_(torch.from_numpy(np.array(some)))
            return there
        self._copied[nth % 2].synchronize()  # what was copied from this memory last is there
        pinned.numpy()[: len(some)] = some
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used[nth % 2])
            there.copy_(pinned[: len(some)], non_blocking=True)
            self._copied[nth % 2].record(self._stream)
        return there
