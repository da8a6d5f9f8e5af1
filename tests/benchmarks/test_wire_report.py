"""What the benchmark beside Triton concludes from figures, and when it concludes nothing."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.bare_model import BareCost
from benchmarks.harness import Measured
from benchmarks.turns import Turn, cpu, p50, rate
from benchmarks.wire_report import Bars, ModelRun, Names, judgements_of, notes_of, table_of

OURS, RIVAL, PLAIN, FRONT = "vireo", "Triton", "plain Triton", "bare front"
NAMES = Names(OURS, RIVAL, PLAIN, FRONT)
BARS = Bars(cpu_us_max=44.0, cpu_of_bare_max=1.5, p99=True)


def turn(
    server: str,
    *,
    round_number: int = 0,
    callers: int = 32,
    per_s: float = 1000.0,
    p50_ms: float | None = 1.0,
    p99_ms: float | None = 2.0,
    cpu_us: float | None = 40.0,
    core: float = 1.0,
    failed: int = 0,
) -> Turn:
    load: Any = SimpleNamespace(
        requests=100 + failed,
        ok=100,
        throughput_per_s=per_s,
        latency_ms=SimpleNamespace(p50=p50_ms, p99=p99_ms),
        generator=SimpleNamespace(cpu_share=0.5, cpu_us_per_request=3.0),
    )
    return Turn(round_number, server, callers, Measured(load, cpu_us, core))


def run_of(*turns: Turn, differences: dict[str, float] | None = None) -> ModelRun:
    ones = [turn(OURS, callers=1), turn(RIVAL, callers=1), turn(FRONT, callers=1)]
    return ModelRun("fraud", BARS, [BareCost(30.0, 31.0)], differences or {OURS: 1e-7}, [*ones, *turns])


def verdicts(run: ModelRun, names: Names = NAMES) -> dict[str, tuple[bool | None, str]]:
    keys = ("requests/s", "p99", "µs of CPU", "bare model's", "one caller", "agree", "fails")
    judged = judgements_of(run, names)
    assert len(judged) == len(keys)
    return {
        key: (one.kept, one.said)
        for key in keys
        for one in judged
        if key in one.promise.replace("a bare library", "a library")
    }


def test_a_server_that_keeps_every_promise_is_told_so() -> None:
    run = run_of(turn(OURS, per_s=2000.0, p99_ms=1.9), turn(RIVAL, per_s=1000.0, p99_ms=2.0, cpu_us=90.0))
    found = verdicts(run)
    assert {kept for kept, _ in found.values()} == {True}
    assert found["requests/s"][1] == "2.00"
    assert found["p99"][1] == "0.95"
    assert found["µs of CPU"][1] == "40.00 µs"
    assert found["bare model's"][1] == "1.33"
    assert found["one caller"][1] == "1.00"


@pytest.mark.parametrize(
    ("ours", "broken"),
    [
        (turn(OURS, per_s=1990.0), "requests/s"),
        (turn(OURS, per_s=2000.0, p99_ms=2.1), "p99"),
        (turn(OURS, per_s=2000.0, cpu_us=44.1), "µs of CPU"),
        (turn(OURS, per_s=2000.0, failed=1), "fails"),
    ],
)
def test_each_promise_can_be_broken_alone(ours: Turn, broken: str) -> None:
    found = verdicts(run_of(ours, turn(RIVAL)))
    assert [key for key, (kept, _) in found.items() if kept is False] == [broken]


def test_cpu_beside_the_bare_model_is_judged_by_its_own_bar() -> None:
    run = replace(run_of(turn(OURS, per_s=2000.0), turn(RIVAL)), bare=[BareCost(26.0, 26.0)])
    assert verdicts(run)["bare model's"] == (False, "1.54")


def test_p50_at_one_caller_is_judged_beside_the_bare_front() -> None:
    run = run_of(turn(OURS, per_s=2000.0), turn(RIVAL))
    slow = replace(run, turns=[turn(OURS, callers=1, p50_ms=1.11), *run.turns[1:]])
    assert verdicts(slow)["one caller"] == (False, "1.11")
    assert verdicts(slow, replace(NAMES, front=None))["one caller"] == (None, "no such front was measured")


@pytest.mark.parametrize("difference", [2e-5, math.nan, math.inf])
def test_answers_that_differ_break_the_promise(difference: float) -> None:
    run = run_of(turn(OURS, per_s=2000.0), turn(RIVAL), differences={OURS: 0.0, FRONT: difference})
    kept, said = verdicts(run)["agree"]
    assert kept is False
    assert "vireo 0.0e+00" in said


def test_a_server_that_was_kept_from_its_core_is_not_blamed() -> None:
    found = verdicts(run_of(turn(OURS, per_s=1500.0, p99_ms=9.0, cpu_us=60.0, core=0.5), turn(RIVAL)))
    assert {found[key][0] for key in ("requests/s", "p99", "µs of CPU", "bare model's")} == {None}
    assert found["requests/s"][1] == "1.50, but vireo had 50% of its core"


def test_a_rival_that_was_kept_from_its_core_proves_nothing_for_us() -> None:
    found = verdicts(run_of(turn(OURS, per_s=4000.0), turn(RIVAL, core=0.3)))
    assert found["requests/s"] == (None, "4.00, but Triton had 30% of its core")
    assert found["µs of CPU"][0] is True


def test_being_slower_than_a_hampered_rival_is_a_broken_promise() -> None:
    assert verdicts(run_of(turn(OURS, per_s=900.0), turn(RIVAL, core=0.3)))["requests/s"][0] is False


def test_another_triton_is_told_of_but_not_judged_by() -> None:
    elsewhere = turn(RIVAL, cpu_us=None, core=math.nan)
    found = verdicts(run_of(turn(OURS, per_s=1200.0), elsewhere), replace(NAMES, rival_is_promised=False))
    assert found["requests/s"] == (None, "1.20, which another Triton cannot decide")
    assert found["µs of CPU"][0] is True


def test_too_few_samples_for_p99_decide_nothing() -> None:
    assert verdicts(run_of(turn(OURS, per_s=2000.0, p99_ms=None), turn(RIVAL)))["p99"] == (None, "not known")


def test_the_triton_that_a_promise_names_is_judged_by_and_the_other_told() -> None:
    run = run_of(turn(OURS, per_s=2500.0), turn(RIVAL, per_s=1250.0), turn(PLAIN, per_s=1300.0))
    assert verdicts(run)["requests/s"] == (True, "2.00")
    assert notes_of(run, NAMES) == ["fraud, 32 callers: 1.92 x the requests/s of plain Triton"]
    plainly = replace(run, bars=replace(BARS, beside_plain=True))
    assert verdicts(plainly)["requests/s"] == (False, "1.92")
    assert notes_of(plainly, NAMES) == ["fraud, 32 callers: 2.00 x the requests/s of Triton"]


def test_without_a_plain_triton_the_one_there_is_named_and_nothing_told() -> None:
    run = replace(run_of(turn(OURS, per_s=2500.0), turn(RIVAL)), bars=replace(BARS, beside_plain=True))
    elsewhere = replace(NAMES, plain=None, rival_is_promised=False)
    assert verdicts(run, elsewhere)["requests/s"] == (None, "2.50, which another Triton cannot decide")
    assert notes_of(run, elsewhere) == []


def test_ratios_are_taken_within_rounds() -> None:
    quiet = [turn(OURS, per_s=3000.0), turn(RIVAL)]
    rounds = [(2000.0, 1000.0), (200.0, 80.0)]  # the second one on a busy machine
    busy = [
        replace(turn(server, per_s=per_s), round=number)
        for number, pair in enumerate(rounds, 1)
        for server, per_s in zip((OURS, RIVAL), pair, strict=True)
    ]
    run = run_of(*busy[::-1], *quiet)
    assert run.ratio(rate, OURS, RIVAL, 32) == 2.5  # of 3, 2 and 2.5
    assert run.middle(rate, OURS, 32) == 2000.0


def test_a_figure_that_is_missing_in_one_round_is_missing() -> None:
    run = run_of(
        turn(OURS), turn(OURS, round_number=1, cpu_us=None), turn(RIVAL), turn(RIVAL, round_number=1, p50_ms=None)
    )
    assert math.isnan(run.middle(cpu, OURS, 32))
    assert math.isnan(run.ratio(p50, OURS, RIVAL, 32))
    assert run.ratio(rate, OURS, RIVAL, 32) == 1.0


def test_table_has_the_bare_model_and_every_server_under_every_number_of_callers() -> None:
    run = run_of(turn(OURS, per_s=2500.0, failed=3), turn(RIVAL, cpu_us=None, core=math.nan), turn(PLAIN, per_s=500.0))
    table = table_of(run, NAMES)
    assert [(row[0], row[1]) for row in table.rows] == [
        ("bare session.run", 1), (OURS, 1), (RIVAL, 1), (FRONT, 1), (OURS, 32), (RIVAL, 32), (PLAIN, 32),
    ]  # fmt: skip
    assert {len(row) for row in table.rows} == {len(table.columns)}
    alone, *_, ours, rival, _ = (dict(zip(table.columns, row, strict=True)) for row in table.rows[1:])
    assert (ours["requests/s"], ours["requests/s ratio"], ours["errors"]) == (2500.0, 2.5, 3)
    assert (ours["requests/s ratio to plain"], alone["requests/s ratio to plain"]) == (5.0, None)  # not measured alone
    assert (rival["CPU µs/request"], rival["server core"]) == (None, None)
