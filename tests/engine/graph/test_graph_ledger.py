"""The stages that a run's entries are told as."""

from __future__ import annotations

from engine import Ledger
from engine.clock import NEVER_NS
from engine.graph.ledger import Entry, stages
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
