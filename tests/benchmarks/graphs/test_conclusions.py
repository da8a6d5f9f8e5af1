"""What is concluded from figures, and when nothing is."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import bench_fraud
from benchmarks.bench_graphs import PARTS
from benchmarks.command import SkippedError
from benchmarks.features.part import Setting
from benchmarks.fraud_report import FraudData, judgements_of, report_of
from benchmarks.graphs import overhead, overload, shadow
from benchmarks.graphs.contenders import FULL, LIKE, STACKS
from benchmarks.graphs.empty import CHAIN, FAN, GRAPH, NODE
from benchmarks.graphs.exposition import counters_of, grown
from benchmarks.harness import Measured
from benchmarks.load.latency import Percentiles
from benchmarks.load.order import Engine, LoadOrder
from benchmarks.load.result import GeneratorFigures, LoadResult
from benchmarks.load.verdict import Verdict
from benchmarks.options import Options
from benchmarks.peers.environments import NotInstalledError
from benchmarks.report import Judgement
from benchmarks.sustained import SHARES, Found
from benchmarks.sweep import SweepResult, met_although_late
from benchmarks.turns import Turn

PAGE = """
# TYPE vireo_requests_late_total counter
vireo_requests_late_total{model="score",version="1"} 3.0
vireo_requests_late_total{model="score",version="2"} 4.0
vireo_requests_late_total{model="row",version="1"} 0.0
vireo_ready 1.0
"""


def verdicts(judged: list[Judgement]) -> list[bool | None]:
    return [each.kept for each in judged]


def measured(rate: float, p50: float = 1.0, p99: float | None = 2.0, goodput: float | None = None) -> Measured:
    order = LoadOrder(port=1, frames="none", rate_per_s=rate, deadline_ms=100.0)
    latency = Percentiles(1000, p50, p50, p50, p99, p99, p99)
    figures = GeneratorFigures(0.1, 1.0, 0.01, 0.1, 0, [])
    return Measured(
        LoadResult(
            order=order, requests=1000, ok=1000, errors={}, offered_per_s=rate, throughput_per_s=rate,
            goodput_per_s=rate if goodput is None else goodput, goodput_share=1.0, latency_ms=latency,
            latency_curve=[(25.0, p50 / 2), (50.0, p50)],
            generator=figures, verdict=Verdict.MET.value, reason="", begin_ns=0, end_ns=1, engine=Engine.NATIVE, fallback=None,
        ),
        30.0,
        0.5,
    )  # fmt: skip


def late(p99_ms: float, *, lateness_ms: float = 2.0, goodput_share: float = 1.0, cpu_share: float = 0.1) -> LoadResult:
    load = measured(1000.0, p99=p99_ms).load
    figures = replace(load.generator, lateness_p99_ms=lateness_ms, cpu_share=cpu_share)
    order = replace(load.order, target_ms=100.0)
    return replace(load, order=order, generator=figures, verdict=Verdict.LATE.value, goodput_share=goodput_share)


def test_what_a_late_generator_found_in_time_is_taken_and_nothing_else_of_it() -> None:
    assert met_although_late(late(99.0))
    assert not met_although_late(late(101.0))
    assert not met_although_late(late(50.0, lateness_ms=11.0))
    assert not met_although_late(late(50.0, goodput_share=0.99))
    assert not met_although_late(late(50.0, cpu_share=0.95))
    assert not met_although_late(replace(late(50.0), verdict=Verdict.FEW.value))


def overheads(chain_us: float, fan_us: float) -> overhead.OverheadRun:
    costs = {NODE: 10.0, GRAPH: 15.0, CHAIN: 10.0 + chain_us, FAN: 10.0 + fan_us}
    inside = [
        overhead.InProcess(number, way, graph, cost * (number + 1))
        for number in range(3)
        for way in overhead.WAYS
        for graph, cost in costs.items()
    ]
    turns = [Turn(0, graph, callers, measured(1.0)) for graph in costs for callers in overhead.CALLERS]
    return overhead.OverheadRun(inside, turns)


def test_overhead_is_what_a_graph_costs_over_one_node_in_the_same_round() -> None:
    assert verdicts(overhead.judgements_of(overheads(20.0, 30.0))) == [True, True, True, True, True]
    assert verdicts(overhead.judgements_of(overheads(26.0, 41.0))) == [False, False, False, False, True]
    assert len(overhead.inside_table(overheads(1.0, 1.0)).rows) == 8
    assert len(overhead.grpc_table(overheads(1.0, 1.0)).rows) == 8


def test_a_shadow_is_judged_by_the_callers_p50_under_every_load() -> None:
    def load(shadowed: float, callers: int) -> shadow.Loaded:
        p50 = {shadow.SHADOWED: shadowed}
        return shadow.Loaded([Turn(0, way, callers, measured(1.0, p50.get(way, 1.0))) for way in shadow.WAYS])

    found = shadow.ShadowRun(1000.0, {shadow.ONE_CALLER: load(1.04, 1), "30%": load(1.06, 0)})
    assert verdicts(shadow.judgements_of(found)) == [True, False, True]
    assert len(shadow.table_of(found).rows) == 8


@pytest.mark.parametrize(
    ("p99", "goodput", "late", "kept"),
    [
        (99.0, 950.0, 9.0, [True, True, True]),
        (101.0, 800.0, 10.0, [False, False, False]),
        (None, 950.0, None, [None, True, True]),
    ],
)
def test_overload_is_judged_at_the_highest_rate(
    p99: float | None, goodput: float, late: float | None, kept: list[bool | None]
) -> None:
    points = [overload.Point(factor, measured(1000.0 * factor), 0.0, 1.0) for factor in overload.FACTORS[:-1]]
    worst = overload.Point(2.0, measured(2000.0, p99=p99, goodput=goodput), late, None if late is None else 1000.0)
    classes = overload.Classes(measured(1.0), measured(1.0, p99=4.0), measured(1.0, p99=None), 500.0)
    found = overload.OverloadRun("ours", 1000.0, 1000.0, [*points, worst], classes)
    assert verdicts(overload.judgements_of(found)) == kept
    (table,) = overload.classes_tables(found)
    assert [row[5] for row in table.rows] == [1.0, 2.0, None]


def test_counters_are_summed_over_versions_and_compared_over_servables() -> None:
    after = counters_of(PAGE)
    assert grown({}, after, overload.LATE) == 7.0
    assert grown({(overload.LATE, "score"): 5.0}, after, overload.LATE) == 2.0
    assert grown({}, after, overload.LATE, but="score") == 0.0


def found_of(name: str, rate: float | None, p99: float = 5.0) -> Found:
    fixed = [] if rate is None else [measured(rate * share, p99=p99) for share in SHARES]
    return Found(name, SweepResult(rate, False, [], fixed), fixed, {})


def test_ours_is_set_beside_the_best_of_the_stacks() -> None:
    rivals = [found_of(STACKS[0], 900.0), found_of(STACKS[1], 1000.0), found_of(STACKS[2], None)]
    data = FraudData([found_of(FULL, 9_000.0, p99=11.0), found_of(LIKE, 10_000.0), *rivals], None, [])
    assert verdicts(judgements_of(data, quick=False)) == [True, True, False, True, False, True]
    alone = FraudData([found_of(LIKE, 10_000.0)], None, ["no Redis"])
    assert verdicts(judgements_of(alone, quick=False)) == [True, True, None]
    report = report_of(1, data, quick=False)
    assert report.tables[0].rows[1][2] == 10.0
    assert report_of(1, alone, quick=False).notes[-1] == "no Redis"


def test_a_quick_run_says_the_highest_of_its_rates_and_judges_no_ratio() -> None:
    quick = Found(LIKE, None, [measured(100.0), measured(200.0)], {})
    missed = replace(quick, fixed=[])
    assert quick.rate_per_s == 200.0
    assert verdicts(judgements_of(FraudData([quick], None, []), quick=True)) == [True]
    assert verdicts(judgements_of(FraudData([missed], None, []), quick=True)) == [False]


def test_a_part_that_breaks_down_is_told_and_one_that_is_not_known_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Setting) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(overhead, "run", broken)
    part = PARTS.run_part(PARTS.names[0], Setting(tmp_path, tmp_path, tmp_path, True, 1))
    assert verdicts(part.judgements) == [False]
    assert "no such thing" in part.judgements[0].said
    with pytest.raises(SkippedError, match="no part speed"):
        PARTS.run(Options(only=("speed",)))


def test_a_service_that_is_not_installed_is_told_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise NotInstalledError("Redis is not installed")

    monkeypatch.setattr(bench_fraud, "fraud_inputs", lambda _: None)
    monkeypatch.setattr(bench_fraud, "contenders", lambda *_: {"redis": absent})
    report = bench_fraud.run(Options(out=tmp_path))
    assert report.judgements == []
    assert report.notes[-1] == "redis was not run: Redis is not installed"
