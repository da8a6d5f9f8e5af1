"""What a collection's background work does next: facts in, an action out.

Segments count by their living rows. Under load they are merged in tiers: as soon as FAN_OUT of about one size are there, they
and all smaller ones become one (O'Neil et al., "The log-structured merge-tree", 1996; Lucene's TieredMergePolicy). An idle
collection settles: whatever is at least SETTLED_SHARE of the segment before it is merged into it, so that sizes fall at least so
steeply, most rows are in one segment, and few segments are left. A row is rewritten O(log n) times by either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FAN_OUT: Final = 4
SETTLED_SHARE: Final = 0.25
LONG_SETTLED_SHARE: Final = 0.01
"""After a long time without writes: a segment costs a search 10 µs or more, however small it is."""
DEAD_SHARE: Final = 0.3
MERGE_ROWS_MAX: Final = 4_000_000
"""Living rows of a merge's result: what is built at once, in memory and time."""
MERGE_COLUMN_BYTES_MAX: Final = 7 << 28
"""Of the largest column of what is merged: Arrow's text ends at 2 GiB, which 4 million passages of a book are past."""


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """A sealed segment. `stale`: its index is not of the kind, or its vectors not of the precision, that is wanted by now;
    `column_bytes`: of the largest column of its payload, dead rows too."""

    number: int
    rows: int
    alive: int
    stale: bool = False
    column_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """`growing`: rows not sealed yet; `seal_rows`: how many are to be. `idle`: nothing was written lately; `long`: for long."""

    segments: Sequence[SegmentFacts]
    growing: int
    seal_rows: int
    idle: bool = False
    merge_rows_max: int = MERGE_ROWS_MAX
    merge_column_bytes_max: int = MERGE_COLUMN_BYTES_MAX
    long: bool = False


@dataclass(frozen=True, slots=True)
class Seal:
    """Make a segment of the growing rows."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget segments without a living row."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Merge:
    """Make one segment of the living rows of several, or (compaction, a rebuilt index) of one."""

    numbers: tuple[int, ...]


Action = Seal | Drop | Merge


def next_action(facts: Facts) -> Action | None:
    """The most urgent thing to do, or None. Without writes it comes to rest, if a segment made anew is no longer stale."""
    if facts.growing >= facts.seal_rows:
        return Seal()
    if empty := tuple(each.number for each in facts.segments if not each.alive):
        return Drop(empty)
    smallest_first = sorted(facts.segments, key=lambda each: (each.alive, each.number))
    merged = _tier(smallest_first, facts)
    if merged is None and facts.idle:
        merged = _settled(smallest_first, facts)
    if merged is None:
        merged = _compacted(smallest_first, facts)
    return None if merged is None else Merge(tuple(sorted(each.number for each in merged)))


def _tier(smallest_first: Sequence[SegmentFacts], facts: Facts) -> Sequence[SegmentFacts] | None:
    """The smallest segments up to the lowest tier that is full; fewer where the result would be too large."""
    tiers = [_tier_of(each.alive, facts.seal_rows) for each in smallest_first]
    for at in range(FAN_OUT - 1, len(tiers)):
        last_of_tier = at + 1 == len(tiers) or tiers[at + 1] > tiers[at]
        if last_of_tier and tiers[at - FAN_OUT + 1] == tiers[at]:
            fitting = _fitting(smallest_first[: at + 1], facts)
            return fitting if len(fitting) > 1 else None
    return None


def _tier_of(alive: int, seal_rows: int) -> int:
    """0 up to twice a sealed growing segment, then one more for each factor of FAN_OUT."""
    tier, bound = 0, 2 * seal_rows
    while alive > bound:
        tier, bound = tier + 1, bound * FAN_OUT
    return tier


def _fitting(smallest_first: Sequence[SegmentFacts], facts: Facts) -> Sequence[SegmentFacts]:
    """As many of them as may be merged into one."""
    rows, size = 0, 0
    for at, each in enumerate(smallest_first):
        rows, size = rows + each.alive, size + each.column_bytes
        if rows > facts.merge_rows_max or size > facts.merge_column_bytes_max:
            return smallest_first[:at]
    return smallest_first


def _settled(smallest_first: Sequence[SegmentFacts], facts: Facts) -> Sequence[SegmentFacts] | None:
    """The longest run of smallest segments whose last is not much larger than the others together."""
    best, smaller = 0, 0
    for at, each in enumerate(_fitting(smallest_first, facts)):
        if at and smaller >= (LONG_SETTLED_SHARE if facts.long else SETTLED_SHARE) * each.alive:
            best = at + 1
        smaller += each.alive
    return smallest_first[:best] if best else None


def _compacted(smallest_first: Sequence[SegmentFacts], facts: Facts) -> Sequence[SegmentFacts] | None:
    """The segment with the most dead rows, if they are many; in idle times one that is stale."""
    dead = [each for each in smallest_first if each.rows - each.alive >= DEAD_SHARE * each.rows]
    if dead:
        return [max(dead, key=lambda each: each.rows - each.alive)]
    stale = [each for each in smallest_first if each.stale and facts.idle]
    return stale[:1] or None
