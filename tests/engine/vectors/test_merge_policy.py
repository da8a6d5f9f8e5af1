"""What is sealed, merged and compacted when, and what that costs: simulated, without a disk or a clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from engine.vectors.merge_policy import (
    DEAD_SHARE,
    FAN_OUT,
    MERGE_COLUMN_BYTES_MAX,
    Drop,
    Facts,
    Merge,
    Seal,
    SegmentFacts,
    next_action,
)

SEAL_ROWS = 8_192


def facts(*alive: int, **other: object) -> Facts:
    """Segments numbered from 1, no row dead."""
    segments = [SegmentFacts(at, each, each) for at, each in enumerate(alive, 1)]
    return replace(Facts(segments, growing=0, seal_rows=SEAL_ROWS), **other)  # type: ignore[arg-type]


def test_growing_rows_are_sealed_before_anything_else() -> None:
    assert next_action(facts(0, *[10] * 9, growing=SEAL_ROWS)) == Seal()
    assert next_action(facts(growing=SEAL_ROWS - 1)) is None


def test_segments_without_a_living_row_are_dropped_unmerged() -> None:
    assert next_action(facts(0, *[10] * 9, 0)) == Drop((1, 11))


def test_a_full_tier_is_merged_with_all_that_is_smaller() -> None:
    small = [SEAL_ROWS] * FAN_OUT
    assert next_action(facts(*small[1:])) is None
    assert next_action(facts(1_000_000, *small)) == Merge((2, 3, 4, 5))
    assert next_action(facts(9 * SEAL_ROWS, *[4 * SEAL_ROWS] * FAN_OUT, 10)) == Merge((2, 3, 4, 5, 6))


def test_a_merge_is_never_larger_than_its_bound() -> None:
    assert next_action(facts(*[SEAL_ROWS] * 4, merge_rows_max=3 * SEAL_ROWS)) == Merge((1, 2, 3))
    assert next_action(facts(*[SEAL_ROWS] * 9, merge_rows_max=2 * SEAL_ROWS - 1, idle=True)) is None


def test_a_merge_has_no_column_larger_than_its_bound() -> None:
    half = MERGE_COLUMN_BYTES_MAX // 2
    texts = [SegmentFacts(at, SEAL_ROWS, SEAL_ROWS, column_bytes=half) for at in range(1, 6)]
    assert next_action(Facts(texts, growing=0, seal_rows=SEAL_ROWS)) == Merge((1, 2))
    merged = [replace(each, column_bytes=2 * half) for each in texts]
    assert next_action(Facts(merged, growing=0, seal_rows=SEAL_ROWS, idle=True, long=True)) is None


def test_a_third_dead_is_compacted_even_past_the_bound() -> None:
    segments = [SegmentFacts(1, 1000, 701), SegmentFacts(2, 900_000, 600_000), SegmentFacts(3, 100_000, 60_000)]
    asked = Facts(segments, growing=0, seal_rows=SEAL_ROWS, merge_rows_max=50_000)
    assert next_action(asked) == Merge((2,))
    assert next_action(replace(asked, segments=segments[:1])) is None


def test_a_stale_index_is_rebuilt_when_there_is_time() -> None:
    one = Facts([SegmentFacts(1, 1000, 1000, stale=True)], growing=0, seal_rows=SEAL_ROWS)
    assert next_action(one) is None
    assert next_action(replace(one, idle=True)) == Merge((1,))


def test_an_idle_collection_settles_with_most_rows_in_one_segment() -> None:
    assert next_action(facts(100_000, 30_000, idle=True)) == Merge((1, 2))
    assert next_action(facts(100_000, 10_000, idle=True)) is None
    assert next_action(facts(1_000_000, 60_000, 50_000, 1, idle=True)) == Merge((2, 3, 4))


@dataclass
class Simulation:
    """A collection of row counts: `where` says in which segment a point lives; 0: it is growing, -1: nowhere."""

    points: int
    merge_rows_max: int
    where: np.ndarray = field(init=False)
    rows: dict[int, int] = field(default_factory=dict)
    growing: int = 0
    sealed: int = 0
    inserted: int = 0
    rewritten: int = 0
    segments_most: int = 0

    def __post_init__(self) -> None:
        self.where = np.full(self.points, -1, np.int32)

    def upsert(self, ids: np.ndarray) -> None:
        self.where[ids] = 0
        self.growing += len(ids)
        self.inserted += len(ids)

    def facts(self, *, idle: bool) -> Facts:
        alive = np.bincount(self.where[self.where > 0], minlength=max(self.rows, default=0) + 1)
        segments = [SegmentFacts(number, rows, int(alive[number])) for number, rows in self.rows.items()]
        return Facts(segments, self.growing, SEAL_ROWS, idle, self.merge_rows_max)

    def rest(self, *, idle: bool) -> int:
        """Acts until nothing is left to do; how often."""
        for actions in range(1000):
            action = next_action(self.facts(idle=idle))
            if action is None:
                return actions
            self.act(action)
            self.segments_most = max(self.segments_most, len(self.rows))
        raise AssertionError("it never rests")

    def act(self, action: Seal | Drop | Merge) -> None:
        if isinstance(action, Drop):
            for each in action.numbers:
                del self.rows[each]
            return
        self.sealed += 1
        if isinstance(action, Seal):
            moved = self.where == 0
            self.growing = 0
        else:
            moved = np.isin(self.where, action.numbers)
            for each in action.numbers:
                del self.rows[each]
            self.rewritten += int(moved.sum())
            assert len(action.numbers) == 1 or moved.sum() <= self.merge_rows_max
        self.where[moved] = self.sealed
        self.rows[self.sealed] = int(moved.sum())

    def run(self, overwritten: float, *, idle: bool, seed: int) -> None:
        """Inserts all points, in batches, in which some are upserts of what is there."""
        chance = np.random.default_rng(seed)
        new = 0
        while new < self.points:
            batch = min(int(SEAL_ROWS * (1 - overwritten)) or 1, self.points - new)
            old = np.unique(chance.integers(0, new, int(SEAL_ROWS * overwritten))) if new else np.empty(0, np.int64)
            self.upsert(np.concatenate([old, np.arange(new, new + batch)]))
            new += batch
            self.rest(idle=idle)


@pytest.mark.parametrize("idle", [False, True], ids=["busy", "idle"])
@pytest.mark.parametrize("overwritten", [0.0, 0.3, 0.6])
def test_a_million_rows_are_rewritten_a_few_times_and_settle_in_few_segments(overwritten: float, *, idle: bool) -> None:
    simulation = Simulation(1_000_000, 4_000_000)
    simulation.run(overwritten, idle=idle, seed=3)
    most, loaded = simulation.segments_most, simulation.rewritten / simulation.inserted
    simulation.rest(idle=True)
    settled = simulation.rewritten / simulation.inserted
    rows = sorted(simulation.rows.values(), reverse=True)
    told = f"{loaded:.2f} rewritten for each inserted, {settled:.2f} when settled; at most {most} segments, then {rows}"
    assert loaded < (9 if idle else 3.5), told
    assert settled < (9 if idle else 4.5), told
    assert most <= (6 if idle else 12), told
    assert len(rows) <= 4, told
    assert rows[0] > 0.75 * sum(rows), told


@pytest.mark.parametrize("idle", [False, True], ids=["busy", "idle"])
def test_a_small_bound_on_merges_leaves_full_segments_and_rests(*, idle: bool) -> None:
    simulation = Simulation(1_000_000, 100_000)
    simulation.run(0.2, idle=idle, seed=4)
    simulation.rest(idle=True)
    assert simulation.rewritten < 9 * simulation.inserted
    assert len(simulation.rows) <= 2 * 10 + 6, simulation.rows


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_deleted_it_comes_to_rest_without_mostly_dead_segments(seed: int) -> None:
    chance = np.random.default_rng(seed)
    simulation = Simulation(200_000, 100_000)
    for _ in range(30):
        simulation.upsert(np.unique(chance.integers(0, 200_000, chance.integers(1, 20_000))))
        simulation.where[chance.random(200_000) < chance.choice([0.0, 0.1, 0.9])] = -1
        simulation.rest(idle=bool(chance.random() < 0.3))
        found = simulation.facts(idle=False)
        assert all(each.alive > (1 - DEAD_SHARE) * each.rows for each in found.segments)
        assert sum(each.alive for each in found.segments) == (simulation.where > 0).sum()
