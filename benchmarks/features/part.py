"""What a part of the benchmark `features` is given and gives back, and how its drivers run in processes of their own."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.machine import ROOT
from benchmarks.report import Judgement
from benchmarks.table import Table

DRIVER_S_MAX = 1800.0


class DriverError(Exception):
    """A driver of ours broke down; its last words are in the message."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a part may write (`out`) and keep what is costly to make (`cache`; `inputs` is the fraud workload's), and whether
    it is to take little time."""

    out: Path
    cache: Path
    inputs: Path
    quick: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one part found. `data` is whatever msgspec can encode."""

    judgements: list[Judgement] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: Any = None


def run_driver(name: str, order: object, *, core: int | tuple[int, ...] | None, timeout_s: float = DRIVER_S_MAX) -> Any:  # noqa: ANN401
    """What the driver `name` (a module benchmarks.features.drive_NAME) finds, in a process of its own on these cores.

    Raises DriverError where it ends badly or takes over `timeout_s`.
    """
    command = driver_command(name, core)
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(order), capture_output=True, timeout=timeout_s, cwd=ROOT, check=False,
            env=one_thread(),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DriverError(f"{name} did not end within {timeout_s:g} s") from error
    if done.returncode:
        raise DriverError(
            f"{name} broke down ({done.returncode}): {done.stderr.decode(errors='replace')[-3000:].strip()}"
        )
    return msgspec.json.decode(done.stdout.splitlines()[-1])


def driver_command(name: str, core: int | tuple[int, ...] | None) -> list[str]:
    """The command line of a driver; its order comes on standard input."""
    from benchmarks.harness import on_cores, python_module  # wants gRPC, which parts without a server do not

    command = python_module("benchmarks.features.driver", name)
    return command if core is None else on_cores(core, command)


def one_thread() -> dict[str, str]:
    """The environment, without threads that nobody asked for."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}


def kept(promise: str, kept: bool, said: str) -> Judgement:
    """A promise that this run decides."""
    return Judgement(promise, bool(kept), said)


def undecided(promise: str, why: object) -> Judgement:
    """A promise that this run cannot decide."""
    return Judgement(promise, None, str(why).splitlines()[0] if str(why) else type(why).__name__)


def say(line: str, of: str = "features") -> None:
    """Progress of benchmark `of`, for whoever waits at the terminal."""
    print(f"{of}: {line}", file=sys.stderr, flush=True)
