"""Part `restart`: a process with all glosses is killed; how long until a new one answers a search."""

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.features.part import DRIVER_S_MAX, DriverError, Part, Setting, kept, one_thread, say, undecided
from benchmarks.graphs.running import run_driver
from benchmarks.harness import LOAD_CORE, SERVER_CORE, on_cores, python_module
from benchmarks.machine import ROOT
from benchmarks.report import Judgement
from benchmarks.table import Table
from benchmarks.vectors.inprocess import SHARE
from benchmarks.vectors.inputs import K, gloss_vectors, prepared

DRIVER = "benchmarks.vectors.drive_restart"
BOTH = (SERVER_CORE, LOAD_CORE)
RESTART_S_MAX = 2.0
COLUMNS = ["points", "to the first answer, s", "least s", "most s", "of it opening, s", "CPU s"]


@dataclass(frozen=True, slots=True)
class Restarts:
    """Seconds from the start of the process to its first answer, of opening the collection alone, and of CPU, each time."""

    points: int
    answered_s: list[float]
    open_s: list[float]
    cpu_s: list[float]


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    setting.out.mkdir(parents=True, exist_ok=True)
    inputs = prepared(setting, "glosses", gloss_vectors, share=SHARE)
    say("restart")
    with tempfile.TemporaryDirectory(dir=setting.out) as folder:
        order = {**inputs.order(), "share": SHARE, "k": K, "seed": setting.seed, "folder": f"{folder}/collection"}
        build(order)
        times = [back(order) for _ in range(3 if setting.quick else 6)][1:]  # the first reads from the disk
    points = len(np.load(inputs.final, mmap_mode="r"))
    assert {each["points"] for each in times} == {points}, "points were lost, or came back"
    found = Restarts(points, [each["answered_s"] for each in times], [each["open_ns"] / 1e9 for each in times],
                     [each["cpu_s"] for each in times])  # fmt: skip
    return Part([judgement_of(setting, found)], [table_of(found)], data=found)


def build(order: dict[str, Any]) -> None:
    """Fills the folder and is killed. Raises DriverError where it ends otherwise."""
    done = subprocess.run(
        on_cores(BOTH, python_module(DRIVER)), input=json.dumps({**order, "what": "build"}).encode(), capture_output=True,
        cwd=ROOT, env=one_thread(), check=False, timeout=DRIVER_S_MAX,
    )  # fmt: skip
    if done.returncode != -9:
        raise DriverError(f"restart ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")


def back(order: dict[str, Any]) -> dict[str, Any]:
    """One restart."""
    began_ns = time.monotonic_ns()
    told: dict[str, Any] = run_driver(DRIVER, {**order, "what": "return"}, core=BOTH)
    return {**told, "answered_s": (told["answered_ns"] - began_ns) / 1e9}


def judgement_of(setting: Setting, found: Restarts) -> Judgement:
    """To the first answer of a new process: more than is promised of opening."""
    middle = median(found.answered_s)
    promise = f"restart with 117,659 points: less than {RESTART_S_MAX:g} s"
    said = f"{middle:.2f} s to the first answer, {median(found.open_s):.2f} s of it opening, {median(found.cpu_s):.2f} s of CPU"
    return (
        undecided(promise, f"{said}, but a quick run has few points")
        if setting.quick
        else kept(promise, middle < RESTART_S_MAX, said)
    )


def table_of(found: Restarts) -> Table:
    """One row."""
    row = [found.points, median(found.answered_s), min(found.answered_s), max(found.answered_s), median(found.open_s),
           median(found.cpu_s)]  # fmt: skip
    about = (
        "kill -9 after 5,000 points that are in the log alone, then a new process: from its start (Python, imports, kernels "
        "compiled before) to its first answer. Files are in the page cache."
    )
    return Table("Restart", about, COLUMNS, [list(row)])
