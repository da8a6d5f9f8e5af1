"""kill -9 while records are written: what was answered durably is there. And an alert can be read soon after its answer."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine import Engine, Job, parse_spec
from engine.log.schema import arrow_schema
from tests.engine.graph.record_child import SPEC, request
from tests.engine.graph.recording import kept, open_log
from tests.engine.graph.splits import until

ROUNDS = int(os.environ.get("VIREO_CRASH_ROUNDS", "3"))
DECISIONS = arrow_schema({"x": "float64", "y": "float64", "request": "string"})


def killed(folder: Path, first: int, lines: int) -> list[int]:
    """What a child told that was killed after so many lines."""
    command = [sys.executable, "-m", "tests.engine.graph.record_child", str(folder), str(first)]
    told: list[int] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.endswith("\n"):
                told.append(int(line))
            if len(told) == lines:
                os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    return told


def rows_in(folder: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """All that the log in this folder has, which nobody has open."""
    log = open_log(folder, schema)
    found = kept(log)
    log.close()
    return found


def test_every_request_that_was_answered_durably_is_in_the_log_after_kill(tmp_path: Path) -> None:
    rng, answered = random.Random(11), set[int]()
    for number in range(ROUNDS):
        answered |= set(killed(tmp_path, number * 1_000_000, rng.randint(20, 400)))
        rows = rows_in(tmp_path / "decisions.log", DECISIONS)
        assert all(each["y"] == 2 * each["x"] and each["request"] == str(int(each["x"])) for each in rows)
        found = [int(each["x"]) for each in rows]
        assert answered <= set(found), f"round {number} of seed 11"
        assert len(found) == len(set(found))


def test_alert_is_readable_soon_after_its_answer_without_anything_more(tmp_path: Path) -> None:
    engine = Engine(parse_spec(SPEC, folder=tmp_path))
    engine.start()
    try:
        alerts: Any = engine.features._named("alerts").log
        for count in range(1, 20):
            engine.infer(request(1.0, 2.0, 1_000.0 + count))
            until(lambda count=count: alerts.latest() == {0: count})  # type: ignore[misc]
        assert [each["x"] for each in kept(alerts)] == [1_000.0 + count for count in range(1, 20)]
    finally:
        engine.close()


def test_engine_that_ends_has_written_the_records_of_all_it_answered(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        engine = Engine(parse_spec(SPEC, folder=folder))
        engine.start()
        answered: list[Job] = []
        for each in range(50):
            engine.submit(request(1_000.0 + each), answered.append)
        engine.flush()
        engine.close()  # some may still wait for their durable records
        assert [each.error for each in answered] == [None] * 50
        assert len(rows_in(folder / "decisions.log", DECISIONS)) == 50
        assert len(rows_in(folder / "alerts.log", arrow_schema({"x": "float64", "at": "timestamp"}))) == 50
