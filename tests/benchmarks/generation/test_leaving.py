"""What is concluded from callers who left."""

from dataclasses import replace

from benchmarks.generation.freed import Freed, judgement_of
from benchmarks.generation.freed import table_of as freed_table
from benchmarks.generation.leaving import EMPTY, GROWN_BYTES_MAX, Left, judgements_of

KEPT = Left({"gRPC": 3}, dict.fromkeys(EMPTY, 0.0), 1 << 30, (1 << 30) + GROWN_BYTES_MAX - 1)


def test_a_place_is_free_once_the_next_computes_not_once_it_has_computed() -> None:
    turns = [Freed("deadline", 95.0, 40.0, 21.0)] * 5 + [Freed("gRPC cancel", 139.0, 40.0, 21.0)] * 5
    assert judgement_of(turns).kept
    assert "takes 21 ms" in judgement_of(turns).said
    assert judgement_of([*turns, Freed("gRPC cancel", 190.0, 40.0, 21.0)]).kept is False
    assert [row[:3] for row in freed_table(turns).rows] == [
        ["deadline", 5, 95.0],
        ["gRPC cancel", 5, 139.0],
        ["(a call alone)", 10, 40.0],
        ["(a step of the engine)", 10, 21.0],
    ]


def test_anything_left_behind_or_not_told_breaks_the_promise() -> None:
    assert [each.kept for each in judgements_of(KEPT)] == [True, True]
    for name in EMPTY:
        told = judgements_of(replace(KEPT, gauges={**KEPT.gauges, name: 0.5}))
        assert [each.kept for each in told] == [False, True]
        untold = {each: 0.0 for each in EMPTY if each != name}
        assert judgements_of(replace(KEPT, gauges=untold))[0].kept is False
    assert judgements_of(replace(KEPT, after_bytes=KEPT.after_bytes + 1))[1].kept is False
