"""Vectors on a GPU for callers that know numpy alone: candidates by what is kept, which the caller may score exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kernels.gpu.knn import found_gpu, gathered, translated
from kernels.gpu.replay import Replayed
from kernels.gpu.rounds import gathers
from kernels.gpu.rows import DeviceRows, Kind, Metric, rows_of, rows_of_codes, scores_as_scanned

Singles = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_QUERIES_WARMED = (1, 17, 33)
_COUNTS_WARMED = (17, 33, 65, 257, 513)
"""One of each number of queries, and of rows to find, from which on kernels differ."""
_SHARE_LISTED, _SHARE_LISTED_NARROW = 7, 3
"""Of 16 rows so many are just few enough to be listed first: see `gathers`."""

__all__ = ["KnnDevice", "found_gpu"]


_PROVED: set[tuple[str, str, int, str]] = set()
_PROVED_ROWS, _PROVED_K, _PROVED_ERROR = 20_000, 10, 1e-3


class KnnDevice:
    """Rows on one GPU. Never changed; one thread at a time. Methods raise MemoryError where there is no room, DeviceLost once the
    device fails, ValueError for numbers that are not finite."""

    def __init__(self, rows: DeviceRows) -> None:
        """For `of` and `of_codes`."""
        self._rows = rows
        self._searches = Replayed(rows)

    @classmethod
    def of(cls, vectors: Any, kind: Kind, metric: Metric, *, device: str = "cuda") -> KnnDevice:
        """`vectors`: see `kernels.gpu.rows.rows_of`."""
        with translated():
            return cls(rows_of(vectors, kind, metric, device=device))

    @classmethod
    def of_codes(
        cls, codes: Any, metric: Metric, size: int, *, weights: Singles | None = None, device: str = "cuda"
    ) -> KnnDevice:
        """Codes: see `kernels.gpu.rows.rows_of_codes`."""
        with translated():
            return cls(rows_of_codes(codes, metric, size, weights=weights, device=device))

    @property
    def kind(self) -> str:
        """What the rows are kept as."""
        return self._rows.kind

    @property
    def bytes_size(self) -> int:
        """What they take on the device."""
        return self._rows.bytes_size

    def warm(self) -> None:
        """Compiles whatever searches of these rows may launch, some twenty kernels of a second or two each, or loads what an
        earlier process compiled, before anybody waits for it. Raises as `search`, and RuntimeError where they do not find what
        torch finds, by which a driver or a compiler that errs is known in time."""
        rows = len(self._rows)
        few = _SHARE_LISTED if gathers(_SHARE_LISTED * rows // 16, rows, gathered(self._rows)) else _SHARE_LISTED_NARROW
        for many in _QUERIES_WARMED:
            asked = np.zeros((many, self._rows.size), np.float32)
            for share in (None, few, 16):
                bits = None if share is None else np.packbits(np.arange(rows) % 16 < share, bitorder="little")
                self.search(asked, 1, bits)
        for count in _COUNTS_WARMED:
            self.search(asked[:1], count)
        with translated(), torch.inference_mode():
            _prove(self._rows)

    def search(self, queries: Singles, count: int, bits: Bytes | None = None) -> tuple[Singles, Longs]:
        """The `count` best rows of each query, 1 to 2,048, by what is kept (of `l2` a query's constant is left out): scores
        float32 and rows int64 [q, count], rows -1 where there are no more. `queries` float32 [q, d]; `bits` uint8
        [ceil(n / 8)]: only rows whose bit is set are found."""
        with translated(), torch.inference_mode():
            scores, rows = self._searches.search(torch.from_numpy(np.array(queries)), count, bits=bits, exact=False)
            return scores.numpy(), rows.numpy()


def _prove(rows: DeviceRows) -> None:
    """That searches find what is best among some rows, once a process for each kind of them. Raises RuntimeError."""
    key = (rows.kind, rows.metric, rows.data.shape[1], str(rows.data.device))
    if key in _PROVED:
        return
    some = rows.first(_PROVED_ROWS)
    searches, k = Replayed(some), min(_PROVED_K, len(some))
    for many in _QUERIES_WARMED:
        normal = np.random.default_rng(many).standard_normal((many, rows.size))
        asked = torch.from_numpy(normal.astype(np.float32)).to(rows.data.device)
        expected = scores_as_scanned(some, asked).topk(k, dim=1).values.float()
        found = searches.search(asked, k, exact=False)[0]
        if not torch.allclose(found, expected, rtol=_PROVED_ERROR, atol=_PROVED_ERROR * float(expected.abs().amax())):
            worst = float((found - expected).abs().amax())
            raise RuntimeError(
                f"kernels for rows of {rows.kind} under '{rows.metric}' err on this GPU: of {many} queries scores of the {k} "
                f"nearest are up to {worst:g} off"
            )
    _PROVED.add(key)
