"""How the soak counts what happens to its callers."""

from benchmarks.soak.outcome import EXAMPLES_MAX, WRONG, LoadOutcome, Outcome, Tally, rows_of


def test_outcomes_are_counted_by_caller_and_kind() -> None:
    tally = Tally()
    for _ in range(3):
        tally.count("a", Outcome("OK", True))
    tally.count("b", Outcome("OK", True))
    tally.count("a", Outcome("CANCELLED", True, "never told"))
    rows = rows_of(tally)
    assert [(each.caller, each.kind, each.count, each.fine) for each in rows] == [
        ("a", "CANCELLED", 1, True), ("a", "OK", 3, True), ("b", "OK", 1, True),
    ]  # fmt: skip
    assert all(not each.examples for each in rows)


def test_same_status_may_be_fine_in_one_act_and_a_failure_in_another() -> None:
    tally = Tally()
    tally.count("a", Outcome("UNAVAILABLE", True))
    tally.count("a", Outcome("UNAVAILABLE", False, "but why"))
    load = LoadOutcome(rows_of(tally), [])
    assert [(each.fine, each.count) for each in load.rows] == [(True, 1), (False, 1)]
    assert [each.examples for each in load.failures] == [["but why"]]
    assert load.answered == 1


def test_sum_of_tallies_keeps_counts_and_few_examples() -> None:
    total = Tally()
    for number in range(4):
        one = Tally()
        for index in range(EXAMPLES_MAX + 2):
            one.count("a", Outcome(WRONG, False, f"{number}.{index}"))
        total.add(one)
    (row,) = rows_of(total)
    assert (row.count, row.fine) == (4 * (EXAMPLES_MAX + 2), False)
    assert row.examples == ["0.0", "0.1", "0.2"]
