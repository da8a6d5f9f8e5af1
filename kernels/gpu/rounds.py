"""How a search goes over rows: in what order, in which rounds, with how much room. Pure: knows neither torch nor Triton.

The `wanted` best of the rows seen so far bound from below what the best of all must reach. Of a round of r times as many rows,
taken as a fair sample, some `wanted` * r are past that, give or take sqrt(wanted) * r, whatever the scores are: ranks alone
matter. Room for half as many again is never short but for an order of rows made to defeat the stride.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

K_MAX = 1_024
QUERIES_MAX = 256
"""Searched at once; more are split."""
MARGIN = 6
"""So many more than k, and k / 32, are scored exactly: queries in 11 bits change places of ranks that are nearer than that."""
ROOM_KEYS, ROOM_KEYS_MAX = 4_096, 16_384
"""Room for the keys of each query, the more the more are wanted: one program chooses among them."""
GROWTH_MAX, GROWTH_MAX_OF_MANY = 64, 14
"""A round's rows by those before it. Longer rounds are fewer, and let more through: which a tile of many queries has to look at
in every place, so that is dearer than a round."""
GATHER_SHARE = 0.75
"""Below this share of rows that may be found these are listed first, and no tile has others."""
GATHER_SHARE_NARROW = 0.2
NARROW_BYTES = 128
"""Rows below that share a line of memory with others: reading all costs little more than some."""


@dataclass(frozen=True, slots=True)
class Room:
    """Of each query: the `wanted` best keys in front; `keys` in all, a power of two, of which the others are a round's; a round
    may be `growth` times as long as all before it."""

    wanted: int
    keys: int
    growth: int

    @classmethod
    def of(cls, wanted: int, least: int = ROOM_KEYS, *, many: bool = False) -> Room:
        """For the `wanted` best, 1 to 2 K_MAX; `least`: a power of two, not below 512; `many`: of queries in a tile."""
        keys = max(least, min(ROOM_KEYS_MAX, 16 << (wanted - 1).bit_length()))
        bound = GROWTH_MAX_OF_MANY if many else GROWTH_MAX
        return cls(wanted, keys, max(1, min(bound, (keys - wanted) * 2 // (3 * wanted))))


def rounds(rows: int, tile: int, seen: int, room: Room) -> Iterator[tuple[int, int, bool]]:
    """Turns from, to, and whether every row is kept, of each round over `rows` in tiles of `tile`, after `seen` rows."""
    tiles, begin = -(-rows // tile), 0
    while begin < tiles:
        every = seen == 0
        turns = (room.keys - room.wanted) // tile if every else seen * room.growth // tile
        end = min(tiles, begin + max(1, turns))
        yield begin, end, every
        seen += (end - begin) * tile
        begin = end


def golden_stride(tiles: int) -> int:
    """The number nearest to `tiles` over the golden ratio, from there upwards, that is coprime to it: its multiples come to every
    tile once, and any number of the first ones are spread evenly. As the kernel `set_course` has it."""
    stride = max(1, (tiles * 2654435769 + (1 << 31)) >> 32)
    while gcd(stride, tiles) != 1:
        stride += 1
    return stride


def wanted_for(k: int) -> int:
    """How many the scan finds so that the k best are among them."""
    return k + max(MARGIN, k // 32)


def scanned_for(k: int, wanted: int | None, exact: bool) -> int:
    """How many a search for the k best, `exact` or as scanned, has the scan find, where `wanted` are asked for. Raises
    ValueError."""
    bound = K_MAX if exact else 2 * K_MAX
    if not 1 <= k <= bound:
        raise ValueError(f"k is from 1 to {bound}, not {k}")
    return min(2 * K_MAX, max(k, wanted or (wanted_for(k) if exact else k)))


def gathers(passing: int, rows: int, row_bytes: int) -> bool:
    """Whether the `passing` rows are listed first."""
    return passing < (GATHER_SHARE_NARROW if row_bytes < NARROW_BYTES else GATHER_SHARE) * rows
