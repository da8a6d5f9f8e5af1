"""An array that grows at its end by one thread, while others read what was there when they looked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Doubling:
    """`array` [room, ...] has `rows` rows so far. Rows are never changed: what has no room is copied into a new array, twice as
    long, and whoever has the old one keeps it."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        """`array`: the first room, empty or not."""
        self.array = array
        self.rows = 0

    def append(self, more: npt.NDArray[Any]) -> None:
        """Rows of the same shape, after those there are."""
        end = self.rows + len(more)
        if end > len(self.array):
            wider = np.empty((max(2 * len(self.array), end), *self.array.shape[1:]), self.array.dtype)
            wider[: self.rows] = self.array[: self.rows]
            self.array = wider
        self.array[self.rows : end] = more
        self.rows = end
