"""Reserved address space for records of one size: it grows without moving, because memory comes when it is touched."""

from __future__ import annotations

import mmap
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.errors import ResourceExhausted

_NO_RESERVE: Final = 0x4000
"""Linux's MAP_NORESERVE: address space alone, memory when it is touched."""


class Pool:
    """Address space for `records` of `size` bytes, zeros at first. Raises ResourceExhausted where there is not so much."""

    def __init__(self, size: int, records: int) -> None:
        self.size = max(size, 8)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        try:
            self._map = mmap.mmap(-1, self.size * records, flags=flags)
        except (OSError, ValueError, OverflowError) as error:
            raise ResourceExhausted(
                f"cannot reserve {self.size * records >> 20} MiB of addresses for {records} entities: {error}"
            ) from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.bytes = np.frombuffer(self._map, np.uint8)
        self.address = int(self.bytes.ctypes.data)

    def give_back(self, records: int, until: int) -> None:
        """Returns the memory of records `records` to `until` - 1 to the operating system, in whole pages; they read as zeros."""
        start, end = -(-records * self.size // mmap.PAGESIZE) * mmap.PAGESIZE, until * self.size
        if end > start and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)

    def used(self, records: int) -> npt.NDArray[np.uint8]:
        """The bytes of the first records."""
        return self.bytes[: records * self.size]
