"""A view that begins with a table and goes on with the log: the same as one that read the log alone; no gap, no overlap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engine.features.running import LOG, SECOND, SPEC, START_US, Row, Running, row, running

UNTIL_S = 100.0
UNTIL = datetime.fromtimestamp(START_US / SECOND + UNTIL_S, UTC).isoformat()
WITH_TABLE = SPEC.replace("dead_letters", f"bootstrap: {{table: table, until: '{UNTIL}'}}\n    dead_letters")
CARDS = tuple(f"c{number}" for number in range(5))
EVENTS = [row(number, CARDS[number % 5]) for number in range(200)]


def _schema(tmp_path: Path) -> pa.Schema:
    with running(tmp_path / "schema", LOG) as engine:
        return engine.engine.features.schema("tx")


def _parquet(tmp_path: Path, rows: Sequence[Row]) -> None:
    (tmp_path / "table").mkdir(exist_ok=True)
    table = pa.Table.from_pylist([dict(each) for each in rows], schema=_schema(tmp_path))
    pq.write_table(table, tmp_path / "table" / "part.parquet")


def _answers(engine: Running) -> list[object]:
    found = engine.view().lookup(pa.array(CARDS), as_of_us=START_US)
    return [
        np.nan_to_num(found.values, nan=-1.0).round(9).tolist(),
        found.texts,
        found.event_time_us.tolist(),
        found.status.tolist(),
    ]


def _of_log_alone(tmp_path: Path, events: Sequence[Row]) -> list[object]:
    with running(tmp_path / "alone") as engine:
        engine.push(*events)
        return _answers(engine)


@pytest.mark.parametrize("first_in_log", [0, 50, 100])
def test_table_and_log_together_are_as_the_log_alone(tmp_path: Path, first_in_log: int) -> None:
    """Whether the log repeats all the table, a part or none of it; the table has rows that lie after `until` too."""
    _parquet(tmp_path, [*reversed(EVENTS[:130])])
    with running(tmp_path, LOG) as engine:
        engine.push(*EVENTS[first_in_log:])
    with running(tmp_path, WITH_TABLE) as engine:
        assert _answers(engine) == _of_log_alone(tmp_path, EVENTS)
        statistics = engine.view().statistics()
        assert (statistics.table_rows, statistics.covered, statistics.applied) == (100, 100 - first_in_log, 200)
        assert statistics.table == str(tmp_path / "table")


def test_events_around_the_instant_are_taken_once_whatever_their_order(tmp_path: Path) -> None:
    mixed = [EVENTS[number ^ 3] for number in range(80, 120)]
    _parquet(tmp_path, EVENTS[:100])
    with running(tmp_path, WITH_TABLE) as engine:
        engine.push(*mixed, row(300, None, at_s=110), *EVENTS[120:])
        assert _answers(engine) == _of_log_alone(tmp_path, EVENTS)
        statistics = engine.view().statistics()
        assert (statistics.covered, statistics.dead, statistics.offsets) == (20, 1, {0: 121})
    assert '"offset":40' in (tmp_path / "dead.jsonl").read_text()


def test_after_a_restart_the_snapshot_goes_on_and_the_table_is_not_read(tmp_path: Path) -> None:
    _parquet(tmp_path, EVENTS[:100])
    with running(tmp_path, WITH_TABLE) as engine:
        engine.push(*EVENTS[90:150])
    (tmp_path / "table" / "part.parquet").unlink()
    with running(tmp_path, WITH_TABLE) as engine:
        engine.push(*EVENTS[150:], EVENTS[3])
        assert _answers(engine) == _of_log_alone(tmp_path, EVENTS)
        assert (engine.view().statistics().covered, engine.view().statistics().table_rows) == (11, 100)


def test_another_table_or_instant_begins_anew(tmp_path: Path) -> None:
    _parquet(tmp_path, EVENTS[:100])
    with running(tmp_path, WITH_TABLE) as engine:
        engine.push(*EVENTS)
    earlier = datetime.fromtimestamp(START_US / SECOND + 50, UTC).isoformat()
    with running(tmp_path, WITH_TABLE.replace(UNTIL, earlier)) as engine:
        assert engine.view().statistics().table_rows == 50
        assert _answers(engine) == _of_log_alone(tmp_path, EVENTS)


def test_a_table_that_is_not_there_is_a_problem_told_and_tried_again_on_apply(tmp_path: Path) -> None:
    with running(tmp_path, WITH_TABLE) as engine:
        assert "no table at" in engine.engine.problems()["spending"]
        engine.engine.apply(engine.engine.spec)


def test_the_version_of_a_delta_table_is_recorded(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    schema = _schema(tmp_path)
    for part in (EVENTS[:40], EVENTS[40:80], EVENTS[80:100]):
        table = pa.Table.from_pylist([dict(each) for each in part], schema=schema)
        deltalake.write_deltalake(str(tmp_path / "table"), table, mode="append")
    with running(tmp_path, WITH_TABLE) as engine:
        assert (engine.view().statistics().table_version, engine.view().statistics().table_rows) == (2, 100)
    pinned = WITH_TABLE.replace("table: table,", "table: table, version: 1,")
    with running(tmp_path, pinned) as engine:
        assert (engine.view().statistics().table_version, engine.view().statistics().table_rows) == (1, 80)
