"""What the benchmark of two cores concludes: ratios as they are, what the generator left, and when nothing is decided."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.bare_model import BareCost
from benchmarks.bench_cores import CORES, workloads
from benchmarks.cores_report import ONE, TWO, CoresRun, judgements_of, notes_of, table_of
from benchmarks.fraud_inputs import FraudInputs
from benchmarks.harness import Measured, on_cores
from benchmarks.options import Options
from benchmarks.turns import Turn


def turn(
    server: str,
    per_s: float,
    *,
    round_number: int = 0,
    callers: int = 32,
    generator: float = 0.1,
    others: float = 0.0,
    failed: int = 0,
) -> Turn:
    load: Any = SimpleNamespace(
        requests=100 + failed,
        ok=100,
        throughput_per_s=per_s,
        latency_ms=SimpleNamespace(p50=1.0, p99=2.0),
        generator=SimpleNamespace(cpu_share=generator, cpu_us_per_request=3.0),
    )
    return Turn(round_number, server, callers, Measured(load, 80.0, 1.0, others))


def run_of(*turns: Turn, judged: bool = True) -> CoresRun:
    alone, pair = BareCost(64.0, 71.0), (BareCost(64.0, 71.0), BareCost(128.0, 72.0))
    return CoresRun("ranker", judged, [alone], [pair], list(turns))


def verdict(run: CoresRun) -> tuple[bool | None, str]:
    gain, failure = judgements_of(run)
    assert failure.kept is True
    return gain.kept, gain.said


def test_a_ratio_that_keeps_the_promise_is_told_with_what_was_possible() -> None:
    run = run_of(turn(ONE, 1000.0), turn(TWO, 1710.0))
    assert verdict(run) == (
        True,
        "1.71, 90% of what was possible with the generator on 10% of the second core (1.80 of 2)",
    )


def test_a_ratio_that_only_the_generator_holds_down_decides_nothing() -> None:
    assert verdict(run_of(turn(ONE, 1000.0), turn(TWO, 1620.0, generator=0.2)))[0] is None  # 1.8 of 2
    assert verdict(run_of(turn(ONE, 1000.0), turn(TWO, 1500.0, generator=0.2)))[0] is False  # 1.67 of 2


@pytest.mark.parametrize("busy", [ONE, TWO])
def test_others_on_the_cores_speak_for_nobody(busy: str) -> None:
    run = run_of(turn(ONE, 1000.0, others=0.3 * (busy == ONE)), turn(TWO, 1500.0, others=0.3 * (busy == TWO)))
    kept, said = verdict(run)
    assert kept is None
    assert said.endswith("but others had 30% of a core")


def test_ratios_and_what_was_possible_are_taken_within_rounds() -> None:
    met = [(1000.0, 1700.0, 0.0), (100.0, 180.0, 0.2), (10.0, 16.0, 0.0)]
    turns = [
        turn(server, per_s, round_number=number, generator=share)
        for number, (one, two, share) in enumerate(met)
        for server, per_s in ((ONE, one), (TWO, two))
    ]
    run = run_of(*turns[::-1])
    assert run.gain(32) == pytest.approx(1.7)
    assert run.share_of_possible(32) == pytest.approx(0.85)  # of 0.85, 1.0 and 0.8


def test_every_number_of_callers_is_judged_and_a_small_model_only_told_of() -> None:
    turns = [turn(name, per_s, callers=callers) for callers in (64, 32) for name, per_s in ((ONE, 10.0), (TWO, 18.0))]
    run = run_of(*turns)
    assert [each.promise.split(":")[0] for each in judgements_of(run)] == [
        "ranker, 32 callers",
        "ranker, 64 callers",
        "ranker",
    ]
    assert notes_of(run) == ["ranker: the bare model on both cores does 1.50 x what it does on one"]
    small = replace(run, judged=False)
    assert [each.kept for each in judgements_of(small)] == [True]
    assert [note.split(":")[0] for note in notes_of(small)] == ["ranker", "ranker, 32 callers", "ranker, 64 callers"]


def test_requests_that_fail_break_a_promise_of_their_own() -> None:
    run = run_of(turn(ONE, 10.0), turn(TWO, 18.0, failed=2))
    assert [(each.kept, each.said) for each in judgements_of(run)][-1] == (False, "2 failed")


def test_a_server_that_answered_nothing_leaves_the_ratio_unknown() -> None:
    assert verdict(run_of(turn(ONE, 0.0), turn(TWO, 18.0))) == (None, "not known")


def test_table_has_the_bare_model_and_both_servers() -> None:
    table = table_of(run_of(turn(ONE, 1000.0), turn(TWO, 1800.0, others=math.nan)))
    assert {len(row) for row in table.rows} == {len(table.columns)}
    bare, pair, one, two = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (bare["requests/s ratio"], pair["requests/s ratio"]) == (1.0, 1.5)
    assert (one["requests/s ratio"], one["of what was possible"]) == (1.0, None)
    assert (two["requests/s ratio"], two["of what was possible"], two["others' cores"]) == (1.8, "95%", None)


def test_servers_are_pinned_to_one_core_and_to_two() -> None:
    assert on_cores(CORES[ONE], ["a", "b"]) == on_cores(0, ["a", "b"]) == ["taskset", "-c", "0", "a", "b"]
    assert on_cores(CORES[TWO], ["a"]) == ["taskset", "-c", "0,1", "a"]


def test_only_the_rankers_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "benchmarks.bench_cores.fraud_inputs", lambda root: FraudInputs(root / "models", root / "frames")
    )
    found = workloads(Options(inputs=tmp_path))
    assert [(each.model, each.judged) for each in found] == [("ranker", True), ("wide_ranker", True), ("fraud", False)]
    assert all(each.model_file.exists() for each in found if each.judged)
