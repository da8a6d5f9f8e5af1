"""The stages that a run's entries are told as."""

from __future__ import annotations

from engine import Ledger, Stage
from engine.clock import NEVER_NS
from engine.graph.ledger import Entry, StagesOf, stages, way_of
from tests.engine.graph.circuits import Drawn, build


def test_a_node_waits_since_the_last_that_it_waits_for_had_ended_whichever_was_heard_of_last() -> None:
    drawn = [Drawn("slow", (0,), 1.0), Drawn("quick", (0,), 1.0), Drawn("both", (1, 2), 1.0)]
    circuit = build(drawn, lambda *_: None, inline=lambda _: True)
    ledger = Ledger(0)
    # `slow` ended at 100 on a thread that was then held up, so `both` was ready when that was heard, after `quick`.
    entries: list[Entry] = [(0, 10, 100, ledger, ""), (0, 110, 400, ledger, ""), (100, 450, 460, ledger, "")]
    found = stages(circuit.runner.plan, entries, NEVER_NS, 0)
    assert [(each.name, each.ready_ns) for each in found] == [("slow", 0), ("quick", 0), ("both", 400)]
    assert sum(each.ended_ns - each.ready_ns for each in found if each.critical) == 460
    circuit.close()


def test_critical_stages_follow_one_on_the_other_whatever_the_order_in_which_their_ends_were_heard() -> None:
    drawn = [
        Drawn("first", (0,), 1.0),
        Drawn("aside", (0,), 1.0),
        Drawn("second", (1,), 1.0),
        Drawn("both", (2, 3), 1.0),
    ]
    circuit = build(drawn, lambda *_: None, inline=lambda _: True)
    ledger = Ledger(0)
    # `aside` ended first, at 50, and was heard of last: `second`, ready at 100, had run meanwhile.
    entries: list[Entry] = [
        (0, 10, 100, ledger, ""), (0, 20, 50, ledger, ""), (100, 110, 300, ledger, ""), (50, 350, 360, ledger, ""),
    ]  # fmt: skip
    found = [each for each in stages(circuit.runner.plan, entries, NEVER_NS, 0) if each.critical]
    assert [(each.name, each.ready_ns) for each in found] == [("first", 0), ("second", 100), ("both", 300)]
    circuit.close()


def test_way_tells_runs_apart_whose_stages_have_other_marks_also_inside() -> None:
    drawn = [Drawn("first", (0,), 1.0), Drawn("second", (1,), 1.0)]
    circuit = build(drawn, lambda *_: None, inline=lambda _: True)
    plan = circuit.runner.plan

    def run(mark: str, inner: str | None, undecided: bool = False) -> StagesOf:
        inside = Ledger(0)
        if inner is not None:
            entry: Entry = (0, 1, 2, Ledger(0), inner)
            inside.stages_of = StagesOf(plan, [entry, None], NEVER_NS, 0)
        return StagesOf(plan, [(0, 10, 20, inside, mark), None if undecided else (20, 21, 22, None, "")], NEVER_NS, 0)

    ways = [run("", None), run("late: default", None), run("", ""), run("", "skipped"), run("", None, undecided=True)]
    assert len({each.way() for each in ways}) == len(ways)
    assert run("", "skipped").way() == run("", "skipped").way()
    stage = Stage("far", 1, 2, 3, 4, 5, mark="skipped")
    assert way_of(Ledger(0, stages_of=lambda: (stage,))) == (("far", "skipped"),)
    circuit.close()
