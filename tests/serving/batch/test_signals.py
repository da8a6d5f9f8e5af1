"""`vireo batch` stopped in the middle of a request, by the signals of a terminal and of a scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fakes import PATIENCE_S
from tests.serving.servers import PROJECT, VIREO, eventually

ROWS, HELD_FROM = 1_000, 90
LONG_S = 6 * PATIENCE_S
"""Within that a process starts, also on a machine with much else to do."""

SPEC = """
functions:
  held: {call: "beside:held", inputs: {key: {datatype: INT64, shape: [-1, 1]}}, batchable: true,
         outputs: {twice: {datatype: INT64, shape: [-1, 1]}}}
"""
FUNCTION = f"""
import time
from pathlib import Path
HERE = Path(__file__).parent
def held(key):
    while (HERE / "hold").exists() and key.max() >= {HELD_FROM}:
        (HERE / "reached").touch()
        time.sleep(0.005)
    with (HERE / "computed").open("a") as file:
        file.write("".join(f"{{each}}\\n" for each in key.ravel()))
    return {{"twice": 2 * key}}
"""


class Run:
    """The command, again and again over the same rows; the function is held at one of them while the file `hold` is there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out.parquet"
        (folder / "app.yaml").write_text(SPEC)
        (folder / "beside.py").write_text(FUNCTION)
        pq.write_table(pa.table({"key": np.arange(1, ROWS + 1)}), folder / "in.parquet")
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        """Begins, or goes on."""
        self.process = subprocess.Popen(
            [str(VIREO), "batch", "app.yaml", "held", "--input", "in.parquet", "--output", str(self.out), "--keep", "key",
             "--batch-size", "32", "--json"],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )  # fmt: skip
        return self.process

    def start_until_held(self) -> subprocess.Popen[str]:
        """Returns when a request is under way, which nothing but the signal and then `let_go` can end."""
        (self.folder / "hold").touch()
        started = self.start()
        eventually(lambda: (self.folder / "reached").exists(), "a request that is held", LONG_S)
        return started

    def let_go(self) -> None:
        """Held requests are answered."""
        (self.folder / "hold").unlink()

    def computed(self) -> list[int]:
        """The keys that the function was asked for, by all runs; what it is warmed with are zeros."""
        return [key for each in (self.folder / "computed").read_text().split() if (key := int(each))]

    def check_complete(self) -> None:
        """Each row once, in order."""
        assert pq.read_table(self.out, columns=["key", "twice"]).to_pydict() == {
            "key": list(range(1, ROWS + 1)), "twice": list(range(2, 2 * ROWS + 1, 2)),
        }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Killed at the end where it still runs."""
    made = Run(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def catches(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether it has a function of its own for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_what_is_under_way_and_it_goes_on_from_there(run: Run, number: signal.Signals) -> None:
    process = run.start_until_held()
    process.send_signal(number)
    eventually(lambda: not catches(process, number), "the signal")
    assert process.poll() is None  # it waits for the request
    run.let_go()
    out, told = process.communicate(timeout=LONG_S)
    assert process.returncode == 128 + number, told
    assert "the same command goes on from there" in told
    assert "Traceback" not in told
    stopped = json.loads(out)
    assert (stopped["complete"], stopped["rows_total"]) == (False, ROWS)
    assert HELD_FROM <= stopped["rows"] < ROWS
    assert not run.out.exists()
    assert sorted(run.computed()) == list(range(1, stopped["rows"] + 1))

    out, told = run.start().communicate(timeout=LONG_S)
    went_on = json.loads(out)
    assert (went_on["complete"], went_on["rows"], went_on["rows_before"]) == (True, ROWS, stopped["rows"]), told
    assert sorted(run.computed()) == list(range(1, ROWS + 1))  # nothing was lost, nothing computed again
    run.check_complete()


def test_a_second_signal_ends_it_at_once_and_no_row_is_there_twice(run: Run) -> None:
    process = run.start_until_held()
    process.send_signal(signal.SIGTERM)
    eventually(lambda: not catches(process, signal.SIGTERM), "the first signal")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONG_S)
    assert process.returncode == -signal.SIGTERM
    run.let_go()
    out, told = run.start().communicate(timeout=LONG_S)
    assert json.loads(out)["complete"], told
    run.check_complete()
