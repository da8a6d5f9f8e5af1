"""What is kept within a number of bytes: the longest unused goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BytesBound(Generic[Key, Value]):
    """Values by key, together of at most `bytes_max` as their keeper counts them. Not thread-safe, but for reading `bytes_size`
    and the length."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_size = 0
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Value | None:
        """Which is now the one used last."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Key, value: Value, size: int) -> None:
        """In the place of what `key` had. What alone is more than `bytes_max` is not kept: all would go for it."""
        self.drop(key)
        if size > self.bytes_max:
            return
        self._kept[key] = value, size
        self.bytes_size += size
        while self.bytes_size > self.bytes_max:
            self.bytes_size -= self._kept.popitem(last=False)[1][1]

    def drop(self, key: Key) -> None:
        """It is not kept any more."""
        found = self._kept.pop(key, None)
        if found is not None:
            self.bytes_size -= found[1]
