"""What is concluded from two servers' turns, and when nothing is."""

from collections.abc import Sequence

from benchmarks.generation.beside_report import Turn, judgements_of, notes_of, table_of
from benchmarks.generation.served import OURS, RIVAL
from benchmarks.generation.streaming import Streamed


def turn(round_number: int, server: str, callers: int, *, first_ms: float, took_s: float, text: str = "so") -> Turn:
    stamps = [int(first_ms * 1e6), int(first_ms * 1e6) + 40_000_000]
    return Turn(round_number, server, callers, [Streamed(0, stamps, 3, text)] * callers, took_s, 0.001, 0.02, 0.0)


def turns(firsts: Sequence[tuple[float, float]], *, slower: float = 1.0, text: str = "so") -> list[Turn]:
    return [
        each
        for number, (ours, rival) in enumerate(firsts)
        for callers in (1, 4)
        for each in (
            turn(number, OURS, callers, first_ms=ours, took_s=slower, text=text),
            turn(number, RIVAL, callers, first_ms=rival, took_s=1.0),
        )
    ]


def verdicts(found: list[Turn]) -> dict[str, list[bool | None]]:
    judged = judgements_of(found)
    return {
        key: [one.kept for one in judged if key in one.promise] for key in ("first token", "tokens a second", "same")
    }


def test_a_server_that_keeps_every_promise_is_told_so() -> None:
    found = turns([(62.0, 60.0), (61.0, 60.0), (63.0, 60.0)], slower=1.02)
    assert verdicts(found) == {"first token": [True, True], "tokens a second": [True, True], "same": [True]}


def test_rounds_that_agree_break_a_promise_and_rounds_that_do_not_leave_it_undecided() -> None:
    late = turns([(70.0, 60.0), (71.0, 60.0), (70.5, 60.0)], slower=1.1)
    assert verdicts(late) == {"first token": [False, False], "tokens a second": [False, False], "same": [True]}
    unsure = turns([(70.0, 60.0), (40.0, 60.0), (72.0, 60.0)])
    assert verdicts(unsure)["first token"] == [None, None]
    alone = turns([(70.0, 60.0)], slower=1.1)
    assert verdicts(alone) == {"first token": [None, None], "tokens a second": [None, None], "same": [True]}


def test_another_greedy_answer_breaks_the_promise_and_is_counted() -> None:
    found = turns([(60.0, 60.0), (60.0, 60.0)], text="other")
    assert verdicts(found)["same"] == [False]
    assert "0 of 2 with 1, 0 of 8 with 4" in notes_of(found)[0]


def test_the_table_has_both_servers_under_every_number_of_callers() -> None:
    rows = table_of(turns([(62.0, 60.0), (61.0, 60.0)])).rows
    assert [row[:3] for row in rows] == [[OURS, 1, 2], [RIVAL, 1, 2], [OURS, 4, 8], [RIVAL, 4, 8]]
    assert rows[0][3:8] == [61.5, 61.99, 20.0, 20.0, 3.0]
