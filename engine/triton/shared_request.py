"""A request whose tensors lie in memory that the server shares, where it shares any, and where those of its answer are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.tensor import Tensor
from engine.triton.shared_memory import NAME_BYTES, Region

NAME = "?" * NAME_BYTES
"""Stands in a request's head where the name of the region belongs."""
_ALIGNED_BYTES = 64


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tensors of requests that have the same shapes lie in a region: (start, stop) by name. `size` bytes in all."""

    inputs: dict[str, tuple[int, int]]
    outputs: dict[str, tuple[int, int]]
    size: int

    @staticmethod
    def of(inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> Places:
        """Of tensors of so many bytes."""
        found: list[dict[str, tuple[int, int]]] = []
        at = 0
        for tensors in (inputs, outputs):
            found.append({})
            for name, size in tensors:
                found[-1][name] = (at, at + size)
                at += -(-size // _ALIGNED_BYTES) * _ALIGNED_BYTES
        return Places(found[0], found[1], at)


class SharedRequest:
    """`head`: the message up to its tensors, with NAME for the region's; `rest`: what follows. `whole` makes the framed request
    that has all tensors in it."""

    __slots__ = ("_head", "_inputs", "_rest", "_whole", "places", "region", "shares")

    def __init__(
        self, places: Places, inputs: Sequence[Tensor], head: bytes, rest: bytes, whole: Callable[[], bytes]
    ) -> None:
        self.places, self._inputs, self._head, self._rest, self._whole = places, inputs, head, rest, whole
        self.shares = True
        """Whether it may lie in a region: a server has not lost one meanwhile."""
        self.region: Region | None = None
        """Where the answer lies, if in one."""

    def body(self, region: Region | None) -> bytes:
        """The framed request, the tensors in `region`; in itself where that is None."""
        if region is None:
            return self._whole()
        for each, (start, stop) in zip(self._inputs, self.places.inputs.values(), strict=True):
            region.contents[start:stop] = np.frombuffer(each.to_raw(), np.uint8)
        head = self._head.replace(NAME.encode(), region.name.encode())
        return b"\0" + (len(head) + len(self._rest)).to_bytes(4, "big") + head + self._rest
