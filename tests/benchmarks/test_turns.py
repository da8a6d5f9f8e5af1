"""Servers take turns: who is loaded when, and who is left out."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from benchmarks.harness import Measured
from benchmarks.turns import one_round


@dataclass(frozen=True, slots=True)
class Named:
    name: str


def test_odd_rounds_go_the_other_way_round_and_who_does_not_meet_so_many_is_left_out() -> None:
    load: Any = SimpleNamespace()
    asked = list[tuple[str, int]]()

    def measured(server: Named, callers: int) -> Measured | None:
        asked.append((server.name, callers))
        return None if (server.name, callers) == ("b", 8) else Measured(load, None, 1.0)

    for number in range(2):
        asked.clear()
        turns = one_round(number, [Named("a"), Named("b")], (1, 8), measured)
        order = "ab" if number == 0 else "ba"
        assert asked == [(server, callers) for callers in (1, 8) for server in order]
        assert [(each.server, each.callers) for each in turns] == [each for each in asked if each != ("b", 8)]
        assert {each.round for each in turns} == {number}
