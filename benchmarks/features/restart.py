"""Part `restart`: a process with a million entities is killed; how long until a new one answers a read."""

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.features.events import Stream, newest_us, read_stream, stream_file
from benchmarks.features.part import (
    DriverError,
    Part,
    Setting,
    driver_command,
    kept,
    one_thread,
    run_driver,
    say,
    undecided,
)
from benchmarks.features.views import judged_view
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.machine import ROOT
from benchmarks.report import Judgement
from benchmarks.table import Table

RESTART_S_MAX = 3.0
BUILD_S_MAX = 600.0
BOTH = (SERVER_CORE, LOAD_CORE)
COLUMNS = [
    "entities",
    "events",
    "after the snapshot",
    "snapshot GB",
    "log GB",
    "to the first read, s",
    "least s",
    "most s",
]


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds from the start of the process to its first answer, each time. Bytes on disk."""

    entities: int
    events: int
    after: int
    snapshot_bytes: int
    log_bytes: int
    restarts_s: list[float]


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    setting.out.mkdir(parents=True, exist_ok=True)
    found = [measure(setting, known) for known in (1, 12)]
    judged = [judgement_of(setting, each) for each in found]
    return Part(judged, [table_of(found)], data=found)


def judgement_of(setting: Setting, found: Measured) -> Judgement:
    """Time to the first read; not decided where there were fewer entities than are promised."""
    middle = median(found.restarts_s)
    kind = f"{found.entities:,} entities of {found.events // found.entities} events"
    promise = f"restart with {kind}: less than {RESTART_S_MAX:g} s to the first read"
    if setting.quick:
        return undecided(promise, f"{middle:.2f} s, but a quick run has fewer entities")
    return kept(promise, middle < RESTART_S_MAX, f"{middle:.2f} s")


def measure(setting: Setting, known: int) -> Measured:
    """Entities of `known` events and two more on average: idle ones, or hot ones."""
    entities = 50_000 if setting.quick else 1_000_000
    say(f"restart with {entities:,} entities of {known + 2} events")
    stream = Stream(entities, 2 * entities, seed=setting.seed, known=known)
    file = stream_file(stream, setting.cache)
    events, after = stream.prefill + stream.events, stream.events // 10
    with tempfile.TemporaryDirectory(dir=setting.out) as folder:
        view = judged_view(entities_max=2 * entities, snapshot={"path": f"{folder}/snapshots", "every": "1h"})
        order = {"folder": folder, "view": view}
        build({**order, "what": "build", "file": str(file), "events": events, "after": after})
        as_of_us = newest_us(read_stream(file)) + 1
        back = {**order, "what": "return", "card": entities // 2, "as_of_us": as_of_us}
        rounds = [restart(back, entities, events) for _ in range(2 if setting.quick else 4)]
        snapshot_bytes, log_bytes = (size_of(Path(folder) / part) for part in ("snapshots", "log"))
    warmed = rounds[1:]  # the first reads from disk what the others find in memory
    return Measured(entities, events, after, snapshot_bytes, log_bytes, warmed)


def build(order: dict[str, Any]) -> None:
    """Fills the log, leaves a snapshot, and is killed. Raises DriverError where it ends otherwise."""
    command = driver_command("restart", BOTH)
    done = subprocess.run(
        command, input=msgspec.json.encode(order), capture_output=True, cwd=ROOT, env=one_thread(), check=False,
        timeout=BUILD_S_MAX,
    )  # fmt: skip
    if done.returncode != -9:
        raise DriverError(f"restart ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")


def restart(order: dict[str, Any], entities: int, events: int) -> float:
    """Seconds from the start of the process to its first answer; all events must be in the state."""
    began_ns = time.monotonic_ns()
    found = run_driver("restart", order, core=BOTH)
    assert found["entities"] == entities, f"{found['entities']} of {entities} entities came back"
    assert found["applied"] == events, f"{found['applied']} of {events} events came back"
    assert not found["missing"]
    return float(found["answered_ns"] - began_ns) / 1e9


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(os.stat(path).st_size for path in folder.rglob("*") if path.is_file())


def table_of(found: list[Measured]) -> Table:
    """Idle and hot entities."""
    rows = [
        [
            each.entities, each.events, each.after, each.snapshot_bytes / 1e9, each.log_bytes / 1e9,
            median(each.restarts_s), min(each.restarts_s), max(each.restarts_s),
        ]
        for each in found
    ]  # fmt: skip
    about = (
        "kill -9, then a new process: from its start (Python, imports, compiled kernels from their cache) to the first answered "
        "read, with what came after the snapshot replayed. Files are in the page cache."
    )
    return Table("Restart", about, COLUMNS, [list(row) for row in rows])
