"""Vectors on a GPU for callers that know numpy alone: candidates by what is kept, which the caller may score exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kernels.gpu.knn import found_gpu, nearest, translated
from kernels.gpu.rows import DeviceRows, Kind, Metric, rows_of, rows_of_codes

Singles = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

__all__ = ["KnnDevice", "found_gpu"]


class KnnDevice:
    """Rows on one GPU. Never changed; one thread at a time. Methods raise MemoryError where there is no room, DeviceLost once the
    device fails, ValueError for numbers that are not finite."""

    def __init__(self, rows: DeviceRows) -> None:
        """For `of` and `of_codes`."""
        self._rows = rows

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

    def search(self, queries: Singles, count: int, bits: Bytes | None = None) -> tuple[Singles, Longs]:
        """The `count` best rows of each query, 1 to 2,048, by what is kept (of `l2` a query's constant is left out): scores
        float32 and rows int64 [q, count], rows -1 where there are no more. `queries` float32 [q, d]; `bits` uint8
        [ceil(n / 8)]: only rows whose bit is set are found."""
        with translated(), torch.inference_mode():
            asked = torch.from_numpy(np.array(queries)).to(self._rows.data.device)
            scores, rows = nearest(self._rows, asked, count, bits=bits, exact=False)
            return scores.cpu().numpy(), rows.cpu().numpy()
