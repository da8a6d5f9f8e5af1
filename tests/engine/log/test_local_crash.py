"""kill -9 at random moments: what was acknowledged is there, in order, once. VIREO_CRASH_ROUNDS asks for more than 25."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from engine.log.local import LocalLog
from tests.engine.log.contract import Collector, read_rows
from tests.engine.log.crash_child import SCHEMA, THREADS, spec, text

ROUNDS = int(os.environ.get("VIREO_CRASH_ROUNDS", "25"))
Row = tuple[int, int]
"""Thread and number."""


@pytest.fixture
def forker() -> Iterator[subprocess.Popen[str]]:
    """crash_child, running."""
    command = [sys.executable, "-m", "tests.engine.log.crash_child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield child
        child.terminate()


def pipes(forker: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    """Its input and output."""
    assert forker.stdin is not None
    assert forker.stdout is not None
    return forker.stdin, forker.stdout


def crash(forker: subprocess.Popen[str], line: str, lines_until: int) -> list[str]:
    """Runs a child, kills it after so many acknowledgements, and gives all that it told."""
    told, answers = pipes(forker)
    told.write(line + "\n")
    told.flush()
    pid = 0
    acknowledged: list[str] = []
    for answer in answers:
        if answer.startswith("dead"):
            return acknowledged
        if answer.startswith("pid"):
            pid = int(answer.split()[1])
        else:
            acknowledged.append(answer)
        if pid and len(acknowledged) >= lines_until:
            os.kill(pid, signal.SIGKILL)
            lines_until = 1 << 60
    raise AssertionError("the forking process ended")


def stored(folder: Path) -> list[Row]:
    """Every row of the log, each of whose texts is as it was appended."""
    log = LocalLog(spec(folder), SCHEMA, folder)
    reader = log.reader(Collector())
    chunks = read_rows(reader, log.latest()[0]) if log.latest()[0] else []
    reader.close()
    log.close()
    rows = [tuple(row.values()) for chunk in chunks for row in chunk.batch.to_pylist()]
    assert all(each == text(thread, number) for thread, number, each in rows)
    return [(thread, number) for thread, number, _ in rows]


def test_acknowledged_rows_outlive_kill_9_at_any_moment(tmp_path: Path, forker: subprocess.Popen[str]) -> None:
    chance = random.Random(11)
    folder = tmp_path / "log"
    rows: list[Row] = []
    for number in range(ROUNDS):
        starts = [sum(thread == each for thread, _ in rows) for each in range(THREADS)]
        line = f"{folder} {number} {' '.join(map(str, starts))}"
        acknowledged = crash(forker, line, chance.choice([0, 1, 2, 5, 20, 60]))
        before, rows = rows, stored(folder)
        assert rows[: len(before)] == before, f"round {number}"
        for answer in acknowledged:
            first, after, thread, begin = map(int, answer.split())
            expected = [(thread, each) for each in range(begin, begin + after - first)]
            assert rows[first:after] == expected, f"round {number}: {answer}"
        for each in range(THREADS):
            numbers = [number for thread, number in rows if thread == each]
            assert numbers == list(range(len(numbers))), f"round {number}: thread {each}"
