"""From the log to the state and back after a restart: nothing twice, nothing lost, whatever is damaged or gone."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import Appended, Chunk, DeadLetter, FailedPrecondition, Unavailable, parse_spec
from engine.features.compilation import compile_view
from engine.features.fold import Fold
from engine.features.state import FeatureState
from engine.log.schema import arrow_schema
from tests.engine.features.running import LOG, SPEC, START_US, VIEW, Running, row, running

MANY = [row(number, f"c{number % 7}") for number in range(500)]


def _snapshots(folder: Path) -> list[Path]:
    return sorted((folder / "snapshots").glob("*.snapshot"))


def _all(engine: Running) -> list[float | None]:
    return engine.counts(*(f"c{number}" for number in range(7)))


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, list[float | None]]:
    """A folder with two snapshots, the second of all MANY events; and the counts as they were."""
    for part in (MANY[:300], MANY[300:]):
        with running(tmp_path) as engine:
            engine.push(*part)
            counts = _all(engine)
    return tmp_path, counts


def test_a_pushed_event_is_seen_by_whoever_waited_for_it(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        for number in range(50):
            engine.push(row(number))
            assert engine.counts("a") == [number + 1]


def test_a_restart_reads_the_snapshot_and_only_what_came_after(
    filled: tuple[Path, list[float | None]], caplog: pytest.LogCaptureFixture
) -> None:
    folder, counts = filled
    with running(folder) as engine:
        assert _all(engine) == counts
        statistics = engine.view().statistics()
        assert (statistics.applied, statistics.offsets, statistics.lag_rows) == (500, {0: 500}, 0)
        engine.push(row(500, "c0"))
        assert engine.counts("c0") == [(counts[0] or 0) + 1]


def test_without_any_snapshot_the_log_is_read_from_its_start(filled: tuple[Path, list[float | None]]) -> None:
    folder, counts = filled
    for path in _snapshots(folder):
        path.unlink()
    with running(folder) as engine:
        assert _all(engine) == counts


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_snapshots_are_passed_over(filled: tuple[Path, list[float | None]], damaged: int) -> None:
    folder, counts = filled
    for path in _snapshots(folder)[-damaged:]:
        path.write_bytes(path.read_bytes()[:-40])
    with running(folder) as engine:
        assert _all(engine) == counts
        assert engine.view().statistics().applied == 500


def test_a_view_declared_otherwise_is_built_anew_from_the_log(filled: tuple[Path, list[float | None]]) -> None:
    folder, counts = filled
    with running(folder, SPEC.replace("column: amount, window: 1h", "column: amount, window: 2h")) as engine:
        assert _all(engine) == counts
        assert engine.view().statistics().applied == 500


def _small_segments(spec: str) -> str:
    return spec.replace("durability: os", "durability: os, segment_bytes: 4096")


def _truncated(folder: Path, before: int) -> None:
    spec = _small_segments(LOG)
    with running(folder, spec) as engine:
        engine.engine.features._logs["tx"].log.truncate({0: before})
        assert engine.engine.features._logs["tx"].log.earliest()[0] > 0


def _written(folder: Path, rows: int = 500) -> None:
    with running(folder, _small_segments(SPEC)) as engine:
        for start in range(0, rows, 20):
            engine.push(*MANY[start : start + 20])


def test_what_the_log_no_longer_keeps_cannot_be_built_anew_and_that_is_said(tmp_path: Path) -> None:
    _written(tmp_path)
    _truncated(tmp_path, 400)
    spec = _small_segments(SPEC).replace("column: amount, window: 1h", "column: amount, window: 2h")
    with running(tmp_path, spec) as engine:
        problem = engine.engine.problems()["spending"]
        assert "declared otherwise" in problem
        assert "bootstrap" in problem
        with pytest.raises(FailedPrecondition, match="no longer keeps"):
            engine.view()
        engine.engine.features.push("tx", pa.RecordBatch.from_pylist([row(1)], engine.engine.features.schema("tx")))


def test_a_snapshot_older_than_the_log_is_an_error_never_a_gap(tmp_path: Path) -> None:
    _written(tmp_path, 100)
    old = _snapshots(tmp_path)[-1]
    kept = old.read_bytes()
    _written(tmp_path)
    _truncated(tmp_path, 400)
    for path in _snapshots(tmp_path):
        path.unlink()
    old.write_bytes(kept)
    with running(tmp_path, _small_segments(SPEC)) as engine:
        problem = engine.engine.problems()["spending"]
        assert "up to 100" in problem
        assert "empty snapshot folder" in problem


def test_dead_letters_are_counted_and_told_with_their_place(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        engine.push(row(1000), row(1), row(2, None), row(3, at_s=-1e4), row(1001, id=None), row(1002), row(1002))
        statistics = engine.view().statistics()
        assert (statistics.applied, statistics.duplicates, statistics.late, statistics.dead) == (2, 1, 2, 4)
    letters = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    assert [each["offset"] for each in letters] == [1, 2, 3, 4]
    assert letters[1]["payload"]["id"] == "e2"
    assert "null" in letters[1]["reason"]


def test_snapshots_are_written_while_it_runs(tmp_path: Path) -> None:
    with running(tmp_path, SPEC.replace("every: 1h", "every: 1s")) as engine:
        engine.push(row(1))
        written = threading.Event()
        for _ in range(200):
            if _snapshots(tmp_path) or written.wait(0.05):
                break
        assert _snapshots(tmp_path)


def test_snapshots_that_cannot_be_written_stop_nothing_and_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path, SPEC.replace("every: 1h", "every: 1s")) as engine:
        (tmp_path / "snapshots").rmdir()
        (tmp_path / "snapshots").write_text("as good as a full disk")
        engine.push(row(1))
        for _ in range(200):
            if engine.view().statistics().error:
                break
            threading.Event().wait(0.05)
        assert "cannot be written" in engine.view().statistics().error
        engine.push(row(2))
        assert engine.counts("a") == [2]
        (tmp_path / "snapshots").unlink()
        (tmp_path / "snapshots").mkdir()
    assert len(_snapshots(tmp_path)) == 1
    assert "the last ones stay" in caplog.text


def test_a_log_that_loses_its_tail_makes_its_newest_snapshot_useless(
    filled: tuple[Path, list[float | None]], caplog: pytest.LogCaptureFixture
) -> None:
    """After a power cut with `durability: os`: what comes next gets offsets that the lost events had."""
    folder, _ = filled
    for path in (folder / "log").iterdir():
        path.unlink()
    with running(folder) as engine, caplog.at_level(logging.WARNING):
        engine.push(row(1, "c1"))
        assert engine.counts("c1", "c2") == [1, None]


def test_waiting_for_what_never_comes_ends(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        assert not engine.view().wait(Appended(0, 5, 6), 0.02)
        assert not engine.view().wait(Appended(7, 0, 1), 0.02)


def test_closing_while_events_arrive_loses_none_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    with running(tmp_path) as engine:
        features = engine.engine.features
        schema = features.schema("tx")

        def push() -> None:
            for number in range(100_000):
                try:
                    features.push("tx", pa.RecordBatch.from_pylist([row(number)], schema))
                except Unavailable:
                    return
                acknowledged.append(number)

        threads = [threading.Thread(target=push) for _ in range(2)]
        for each in threads:
            each.start()
        while len(acknowledged) < 200:
            threading.Event().wait(0.01)
        engine.engine.close()
        for each in threads:
            each.join()
    with running(tmp_path) as engine:
        statistics = engine.view().statistics()
        assert statistics.offsets[0] >= len(acknowledged)
        assert statistics.offsets[0] == statistics.applied + statistics.duplicates + statistics.dead


def test_two_views_fold_one_log_each_in_its_own_way(tmp_path: Path) -> None:
    other = (
        VIEW.replace("spending:", "shops:")
        .replace("entity: card", "entity: shop")
        .replace("column: shop", "column: card")
    )
    other = other.replace("snapshots", "others").replace("dead.jsonl", "others.jsonl")
    with running(tmp_path, SPEC + other) as engine:
        engine.push(*(row(number, f"c{number % 2}") for number in range(9)))
        assert engine.counts("c0", "c1") == [5, 4]
        assert engine.counts("s0", "s1", "s2", view="shops") == [3, 3, 3]
    assert (tmp_path / "others").is_dir()


def test_a_read_from_long_ago_is_answered_as_of_the_newest_event(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        engine.push(row(1), row(10))
        assert engine.counts("a", as_of_us=START_US - 10**9) == [2]


def test_rows_from_the_middle_of_a_batch_are_folded_as_they_are(tmp_path: Path) -> None:
    """A read that ends inside a batch goes on with a slice of it, whose Arrow arrays begin at an offset."""
    spec = parse_spec(SPEC, folder=tmp_path)
    schema = arrow_schema(spec.logs["tx"].schema)
    whole = pa.RecordBatch.from_pylist([*MANY[:90], row(90, None), *MANY[91:200]], schema)
    states = []
    for cuts in ((0, 200), (0, 37, 101, 200)):
        state = FeatureState(compile_view("v", spec.feature_views["spending"], schema))
        for start, stop in pairwise(cuts):
            arrived = np.full(stop - start, START_US + 10**9, np.int64)
            state.ingest(Chunk(0, start, stop, whole.slice(start, stop - start), arrived))
        states.append(
            (state.counts, state.entities, state.lookup(pa.array(["c0", "c6"]), START_US).values[:, 0].tolist())
        )
    assert states[0] == states[1]
    assert states[0][1] == 7


def test_entries_deleted_before_they_were_read_are_a_standing_error_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.features.pipeline.FEATURE_READ_ROWS_MAX", 20)
    reading, held, fold = threading.Event(), threading.Event(), Fold.ingest

    def ingest(self: Fold, chunk: Chunk) -> list[DeadLetter]:
        reading.set()
        held.wait(30)
        return fold(self, chunk)

    with running(tmp_path, _small_segments(SPEC)) as engine:
        features = engine.engine.features
        monkeypatch.setattr(Fold, "ingest", ingest)
        for start in range(0, 500, 20):
            features.push("tx", pa.RecordBatch.from_pylist(MANY[start : start + 20], features.schema("tx")))
        assert reading.wait(30)
        features._logs["tx"].log.truncate({0: 450})
        held.set()
        _until(lambda: engine.view().statistics().error != "")
        statistics = engine.view().statistics()
        assert "no longer" in statistics.error or "kept" in statistics.error
        assert statistics.applied == statistics.offsets[0] < 450
        assert statistics.lag_rows == 500 - statistics.offsets[0]
        assert engine.counts("c0") != [None]


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not come to be")
