"""Windows over event time, by tiles. Pure.

A tile is the half-open span [t * tile_us, (t + 1) * tile_us) of event time. A window asked at instant `a` is a run of whole
tiles; every event in them is before `a`, because nobody asks before the newest event.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SECOND_US = 1_000_000
TILES_MAX = 63
"""Of one ring: which of its tiles are alive is one 64-bit word."""


class WindowKind(StrEnum):
    """How a window's ends move."""

    SAWTOOTH = "sawtooth"
    """From the tile in which `a` - length lies to `a`: up to one tile longer than `length` (Chronon's sawtooth)."""
    SLIDING = "sliding"
    """The last whole `length` / `tile` tiles that are complete at `a`: hops by a tile."""
    TUMBLING = "tumbling"
    """From the last multiple of `length` to `a`; its tile is its length."""


@dataclass(frozen=True, slots=True)
class Window:
    """`length_us` is a whole multiple of `tile_us`, which is whole seconds."""

    kind: WindowKind
    length_us: int
    tile_us: int

    @property
    def tiles(self) -> int:
        """Tiles that must be kept: one more than the length holds, but for tumbling windows."""
        return 1 if self.kind is WindowKind.TUMBLING else self.length_us // self.tile_us + 1

    def span(self, as_of_us: int) -> tuple[int, int]:
        """First and last tile of the window at `as_of_us`, both included."""
        head = as_of_us // self.tile_us
        if self.kind is WindowKind.TUMBLING:
            return head, head
        if self.kind is WindowKind.SLIDING:
            return head - self.length_us // self.tile_us, head - 1
        return (as_of_us - self.length_us) // self.tile_us, head
