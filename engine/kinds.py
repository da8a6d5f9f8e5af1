"""Types that msgspec may read from several threads at once."""

from __future__ import annotations

import threading
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

_known: Final[set[object]] = set()
_learning: Final = threading.Lock()


def decodable(kind: type[T]) -> type[T]:
    """`kind`, for the `type` of msgspec's decode and convert. Any thread.

    msgspec notes what it learns of a Struct, dataclass or TypedDict at its first use on the class itself, before all of it is
    there: a second thread that meets the half of it crashes the process. So each kind is learnt once here, by one thread.
    """
    if kind not in _known:
        with _learning:
            msgspec.json.Decoder(kind)
            _known.add(kind)
    return kind
