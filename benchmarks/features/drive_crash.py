"""Driver `crash`: rounds of an engine that is killed in the middle of its work, and what the next one makes of it.

Kernels are compiled once, before the first fork: each round's engine runs in a child of its own, which says on a pipe what
was acknowledged to it, until SIGKILL.
"""

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import yaml

from benchmarks.features.ledger import CARDS, COLUMNS, as_of, batch_of, ledger_view, mistakes
from benchmarks.features.states import NAME
from benchmarks.features.views import LOG, Declared, local_log
from engine import FEATURE_KERNELS, Chunk, Engine, FeatureState, compile_kernels, compile_view, parse_spec

WORK_S = (0.02, 0.6)
ROWS_MAX = 400


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """The order: `folder` (on the disk to be tried), `rounds`, `seed`.

    Gives rounds, events (in the end), wrong (sentences), torn (rounds whose tail was damaged), lost (acknowledged events that
    were not there), resent (events that were pushed twice, because nobody had said that they were safe).
    """
    random.seed(order["seed"])
    folder = Path(tempfile.mkdtemp(dir=order["folder"]))
    try:
        compile_all(folder)
        return rounds(folder, order["rounds"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def spec_of(folder: Path) -> Declared:
    """One log and one view, all in this folder."""
    log = {"schema": dict(COLUMNS), **local_log(str(folder / "log"))}
    log["local"]["segment_bytes"] = 1 << 18
    return {"logs": {LOG: log}, "feature_views": {NAME: ledger_view(str(folder / "snapshots"))}}


def compile_all(folder: Path) -> None:
    """In this process, so that every child has them."""
    for each in FEATURE_KERNELS:
        compile_kernels(each)
    spec = parse_spec(yaml.safe_dump(spec_of(folder)), folder=folder)
    batch = batch_of(0, 100)
    state = FeatureState(compile_view(NAME, spec.feature_views[NAME], batch.schema))
    state.ingest(Chunk(0, 0, 100, batch, np.full(100, as_of(100), np.int64)))
    state.lookup(batch.column("card").slice(0, 1), as_of(100))


def rounds(folder: Path, count: int) -> dict[str, Any]:
    """Kill after kill; the last engine is only asked."""
    acknowledged = torn = lost = resent = 0
    wrong: list[str] = []
    for number in range(count + 1):
        child = Child(folder, acknowledged, random.randrange(1 << 30))
        begun = child.said()
        if number < count:
            time.sleep(random.uniform(*WORK_S))
        said = child.kill()
        wrong += [f"round {number}: {fault}" for fault in begun["wrong"]]
        lost += max(0, acknowledged - begun["held"])
        resent += max(0, begun["held"] - acknowledged)
        if said:
            acknowledged = said[-1]["acknowledged"]
            torn += damage_tail(folder / "log", said[-1])
    told = {"rounds": count, "events": acknowledged, "mistakes": len(wrong), "wrong": wrong[:20]}
    return {**told, "torn": torn, "lost": lost, "resent": resent}


class Child:
    """A process with an engine: checks what is there, then pushes from `acknowledged` on until it is killed."""

    def __init__(self, folder: Path, acknowledged: int, seed: int) -> None:
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reading)
            try:
                work(folder, acknowledged, seed, writing)
            finally:
                os._exit(1)
        os.close(writing)
        self._pipe = os.fdopen(reading, "rb")

    def said(self) -> Any:  # noqa: ANN401
        """The next line. Raises RuntimeError where it ended without one."""
        line = self._pipe.readline()
        if not line.endswith(b"\n"):
            raise RuntimeError("an engine ended before it was ready; its words are above")
        return msgspec.json.decode(line)

    def kill(self) -> list[Any]:
        """SIGKILL; everything that it had still said."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        with self._pipe:
            lines = self._pipe.read().split(b"\n")
        return [msgspec.json.decode(line) for line in lines[:-1]]


def work(folder: Path, acknowledged: int, seed: int, writing: int) -> None:
    """The child."""
    rng = random.Random(seed)

    def say(**told: object) -> None:
        os.write(writing, msgspec.json.encode(told) + b"\n")

    engine = Engine(parse_spec(yaml.safe_dump(spec_of(folder)), folder=folder))
    engine.start()
    view = engine.features.view(NAME)
    held = view.statistics().applied
    rows = view.lookup(pa.array(range(CARDS)), as_of_us=as_of(held))
    say(held=held, wrong=mistakes(held, rows.names, rows.values))
    while True:
        end = acknowledged + rng.randint(1, ROWS_MAX)
        engine.features.push(LOG, batch_of(acknowledged, end))
        newest = max((folder / "log").glob("*.segment"))
        acknowledged = end
        say(acknowledged=end, segment=newest.name, bytes=newest.stat().st_size)


def damage_tail(log: Path, said: dict[str, Any]) -> bool:
    """What a power cut, or a write cut short, may leave behind what was acknowledged; whether anything was done to it."""
    newest = max(log.glob("*.segment"))
    if newest.name != said["segment"]:
        return False  # a new segment was begun, and nothing is known of how much of it is safe
    tail = newest.stat().st_size - said["bytes"]
    kind = random.choice(["nothing", "short", "garbage", "zeros", "again"])
    with newest.open("r+b") as file:
        if kind == "short":
            file.truncate(said["bytes"] + random.randint(0, tail))
        elif kind != "nothing":
            file.seek(0)
            content = file.read()
            some = random.randint(1, 2000)
            added = {"garbage": random.randbytes(some), "zeros": bytes(some), "again": content[-some:]}[kind]
            file.write(added)
    return kind != "nothing"
