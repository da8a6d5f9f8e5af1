"""What the parts conclude from figures, and when they conclude nothing."""

from pathlib import Path

import pytest

from benchmarks.bench_features import PARTS
from benchmarks.command import SkippedError
from benchmarks.features import contention, gather, ingest, kafka, reads
from benchmarks.features.latency import latency_of
from benchmarks.features.part import DriverError, Part, Setting
from benchmarks.options import Options, parse_options
from benchmarks.report import Judgement


def verdicts(judged: list[Judgement]) -> list[bool | None]:
    return [each.kept for each in judged]


def ingested(who: str, per_cpu_s: float, stream: str = "uniform", rows: int = ingest.BATCH_ROWS) -> ingest.Measured:
    return ingest.Measured(who, stream, rows, 1_000_000, 2e6 / per_cpu_s, 1e6 / per_cpu_s)


def test_ingest_is_judged_by_cpu_time_beside_the_faster_rival_with_batches_like_ours() -> None:
    polars, duckdb, large, _ = (rival.name for rival in ingest.RIVALS)
    ours = [ingested(ingest.OURS, 12e6), ingested(ingest.OURS, 9e6, "zipf")]
    rivals = [
        ingested(polars, 100e3, ingest.NEW),
        ingested(duckdb, 200e3, ingest.NEW),
        ingested(large, 900e3, ingest.NEW, ingest.LARGE_ROWS),
    ]
    judged = ingest.judgements_of([*ours, *rivals])
    assert verdicts(judged) == [True, False, True]
    assert judged[-1].said.startswith("60 x DuckDB")
    assert verdicts(ingest.judgements_of([*ours, rivals[0]])) == [True, False, None]


def test_reads_are_judged_by_the_median_round_at_the_depth_they_are_promised_for() -> None:
    def measured(who: str, shape: str, p99_us: float) -> reads.Measured:
        return reads.Measured(who, shape, latency_of([p99_us] * 100))

    found = [
        *(measured("kernel", "1 x 20", each) for each in (1.0, 4.0, 900.0)),
        measured("servable", "1 x 20", 26.0),
        measured("kernel", "100 x 50", 150.0),
        measured("view", "1 x 20", 10.0),
        measured("Feast SDK, sqlite", "1 x 20", 500.0),
    ]
    assert verdicts(reads.judgements_of(found)) == [True, False, True]
    assert reads.notes_of(found) == ["read 1 x 20: Feast SDK, sqlite takes 50 x the p50 of a view in process"]


def test_a_torn_read_or_a_writer_that_never_wrote_breaks_the_promise() -> None:
    quiet = latency_of([1.0] * 100)
    rounds = [contention.Round(quiet, latency_of([each] * 100), 1e6) for each in (1.5, 1.9, 9.0)]
    assert verdicts(contention.judgements_of(rounds, contention.Torn(1000, 0, 10, 5))) == [True, True]
    assert verdicts(contention.judgements_of(rounds, contention.Torn(1000, 1, 10, 5))) == [True, False]
    assert verdicts(contention.judgements_of(rounds, contention.Torn(1000, 0, 0, 0))) == [True, False]
    assert verdicts(contention.judgements_of(rounds[1:], contention.Torn(1000, 0, 10, 5))) == [False, True]


def test_kafka_without_its_rival_decides_nothing_beside_it() -> None:
    found = [
        kafka.Measured(kafka.JSON, 1000, 1.0, 1000 / 400e3, 0.0),
        kafka.Measured(kafka.ARROW, 1000, 1.0, 1000 / 4e6, 0.0),
    ]
    assert verdicts(kafka.judgements_of(found, "not there")) == [True, True, None]
    rival = kafka.Measured(kafka.RIVAL, 1000, 1.0, 1000 / 20e3, 0.0)
    assert verdicts(kafka.judgements_of([*found, rival], "")) == [True, True, True]


def test_a_part_that_breaks_down_is_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Setting) -> Part:
        raise DriverError("ingest broke down (1): Traceback\n  somewhere\nValueError: no such thing")

    monkeypatch.setattr(ingest, "run", broken)
    part = PARTS.run_part("ingest", Setting(tmp_path, tmp_path, tmp_path, True, 1))
    assert verdicts(part.judgements) == [False]
    assert "ValueError: no such thing" in part.judgements[0].said


def test_parts_are_chosen_by_name() -> None:
    assert parse_options(None, ["--only", "ingest,reads,ingest"]).only == ("ingest", "reads")
    assert parse_options(None, []).only == ()
    with pytest.raises(SkippedError, match="nosuch"):
        PARTS.run(Options(only=("nosuch",)))


@pytest.mark.parametrize("name", PARTS.names)
def test_every_part_is_a_module_with_its_own_run(name: str) -> None:
    module = __import__(f"benchmarks.features.{name}", fromlist=["run"])
    assert callable(module.run)
    assert (module.__doc__ or "").startswith(f"Part `{name}`")


def test_gathers_are_judged_by_the_median_round_of_ours() -> None:
    def measured(who: str, shape: str, p99_us: float) -> reads.Measured:
        return reads.Measured(who, shape, latency_of([p99_us] * 100))

    found = [
        *(measured(gather.OURS, "500 x 100", each) for each in (100.0, 299.0, 900.0)),
        measured(gather.OURS, "100 x 50", 101.0),
        measured("redis-py, a packed row a key, MGET", "500 x 100", 598.0),
    ]
    assert verdicts(gather.judgements_of(found)) == [True, False]
    assert gather.table_of(found).rows[-1][-1] == 2.0
