"""A node's last good answers by the value of a key: what stands in where `cached` is its fallback."""

from __future__ import annotations

import threading
from collections import OrderedDict

from engine.tensor import Tensor

Answer = tuple[Tensor, ...]


class Remembered:
    """The `entries_max` answers used last, each at most `max_age_ns` old. Thread-safe."""

    def __init__(self, max_age_ns: int, entries_max: int) -> None:
        self._max_age_ns, self._entries_max = max_age_ns, entries_max
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, tuple[int, Answer]] = OrderedDict()

    def keep(self, key: bytes, answer: Answer, now_ns: int) -> None:
        """Remembers `answer`, copied: it may be a slice of a large batch."""
        copied = tuple(Tensor(each.datatype, each.array.copy()) for each in answer)
        with self._lock:
            self._answers[key] = (now_ns, copied)
            self._answers.move_to_end(key)
            if len(self._answers) > self._entries_max:
                self._answers.popitem(last=False)

    def find(self, key: bytes, now_ns: int) -> Answer | None:
        """The answer for `key`, or None where there is none young enough."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                return None
            if now_ns - found[0] > self._max_age_ns:
                del self._answers[key]
                return None
            self._answers.move_to_end(key)
            return found[1]
