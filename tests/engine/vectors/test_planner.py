"""What a part's search is planned to be, by the facts alone."""

from __future__ import annotations

import random

import pytest

from engine.vectors.planner import Plan, default_candidates, plan

ROWS = 117_000


def planned(
    *, rows: int = ROWS, tail: int = 0, survivors: int = ROWS, alive: int = ROWS, total: int = ROWS, k: int = 10,
    candidates: int | None = None, size: int = 384, filtered: bool = False, indexed: bool = True,
    on_gpu: bool = False,
) -> Plan:  # fmt: skip
    """Of the collection that was measured, unless it is said otherwise."""
    return plan(
        rows=rows, tail=tail, survivors=survivors, alive=alive, total=total, k=k, candidates=candidates, size=size,
        filtered=filtered, indexed=indexed, on_gpu=on_gpu,
    )  # fmt: skip


def test_without_an_index_all_that_may_be_found_are_scored() -> None:
    found = planned(indexed=False)
    assert found.scan
    assert "no index" in found.told("growing", ROWS, ROWS)


@pytest.mark.parametrize(("survivors", "scan"), [(0, True), (10, True), (117, True), (1_170, True), (11_700, False)])
def test_few_survivors_are_scored_and_many_are_left_to_an_index_that_is_told_which(survivors: int, scan: bool) -> None:
    found = planned(survivors=survivors, filtered=True)
    assert found.scan is scan
    assert found.selects is not scan


def test_a_filter_that_most_pass_tells_the_index_only_where_too_few_of_all_pass() -> None:
    found = planned(survivors=9 * ROWS // 10, filtered=True)
    assert (found.scan, found.selects, found.candidates) == (False, True, 160)
    assert 160 / 0.9 < found.tried < 1.3 * 160 / 0.9
    assert f"if too few of {found.tried} of all are" in found.told("segment 3", ROWS, 9 * ROWS // 10)


@pytest.mark.parametrize(
    "found",
    [
        planned(survivors=ROWS // 3, filtered=True),
        planned(),
        planned(survivors=ROWS // 5, alive=ROWS // 5),
        planned(survivors=9 * ROWS // 10, filtered=True, on_gpu=True),
    ],
)
def test_no_other_index_is_asked_twice(found: Plan) -> None:
    assert not found.scan
    assert not found.tried


def test_without_a_filter_the_dead_are_fetched_too_and_dropped() -> None:
    assert planned().candidates == 80
    found = planned(survivors=ROWS * 8 // 10, alive=ROWS * 8 // 10, total=ROWS * 8 // 10)
    assert not found.selects
    assert 100 <= found.candidates <= 106


def test_where_most_are_dead_the_index_is_told_who_lives() -> None:
    found = planned(survivors=ROWS // 5, alive=ROWS // 5, total=ROWS // 5)
    assert (found.scan, found.selects, found.candidates) == (False, True, 80)


def test_a_smaller_part_of_many_gives_fewer_candidates_though_enough() -> None:
    found = planned(rows=8_192, survivors=8_192, alive=8_192, total=ROWS)
    assert 20 <= found.candidates < 80


def test_what_is_asked_for_is_given_and_k_at_least() -> None:
    assert planned(candidates=200).candidates == 200
    assert planned(candidates=3).candidates == 10


def test_rows_past_the_index_do_not_cost_it_candidates() -> None:
    whole = planned(rows=4_096, survivors=4_096, alive=4_096, total=4_096)
    for tail in (1, 904, 8_000):
        rows = 4_096 + tail
        found = planned(rows=4_096, tail=tail, survivors=rows, alive=rows, total=rows)
        assert (found.scan, found.candidates) == (False, whole.candidates)
        assert found.scan_us == pytest.approx(rows * 0.023)
        assert found.index_us == pytest.approx(9 + 4_096 * 0.00075 + 80 * 0.075 + tail * 0.023)


@pytest.mark.parametrize("seed", range(3))
def test_an_index_is_always_asked_for_k_and_for_as_many_living_rows_as_are_wanted(seed: int) -> None:
    source = random.Random(seed)
    asked = 0
    for _ in range(3_000):
        rows, tail = source.randrange(1, 300_000), source.choice([0, 0, source.randrange(20_000)])
        alive = source.randrange(rows + tail + 1)
        filtered = source.random() < 0.5 and alive > 0
        survivors = source.randrange(alive) if filtered else alive
        k = source.choice([1, 10, 100, 5_000])
        candidates = source.choice([None, 5, 40, 1_000])
        total = max(1, alive) * source.choice([1, 3, 50])
        found = planned(
            rows=rows, tail=tail, survivors=survivors, alive=alive, total=total, k=k, candidates=candidates,
            size=source.choice([8, 384, 1536]), filtered=filtered,
        )  # fmt: skip
        if found.scan:
            continue
        asked += 1
        assert k <= found.candidates <= rows, f"seed {seed}"
        assert found.tried <= rows
        living = found.candidates if found.selects else found.candidates * survivors / (rows + tail)
        assert living >= k or found.candidates == rows, f"seed {seed}: {found}"
    assert asked > 300


def test_default_candidates_grow_with_k_and_ever_slower() -> None:
    found = [default_candidates(each) for each in (1, 10, 100, 1_000, 10_000)]
    assert found == [80, 80, 800, 4_000, 31_000]
    assert all(default_candidates(k) >= k for k in range(1, 10_001, 37))


def test_a_plan_tells_what_it_is_about_and_why() -> None:
    line = planned(survivors=11_700, filtered=True).told("segment 3", ROWS, 11_700)
    assert line.startswith("segment 3: 160 candidates from the index of those that may be found (11700 of 117000 rows)")
    assert "a scan takes some 878 µs, the index 232" in line
    few = planned(survivors=4, filtered=True).told("segment 3", ROWS, 4)
    assert few == "segment 3: all 4 of 117000 rows that may be found are scored; no more are asked for"
