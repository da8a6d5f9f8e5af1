"""Part `freshness`: how long after its acknowledgement an event is in the next read: local log, and Kafka."""

from dataclasses import dataclass
from typing import Any

from benchmarks.features.latency import Latency, latency_of
from benchmarks.features.part import Part, Setting, kept, run_driver, say, undecided
from benchmarks.features.views import judged_view
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.peers.broker import Broker
from benchmarks.peers.environments import NotInstalledError
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table

LOCAL, BUSY, KAFKA = "local log, fsync", "local log, fsync, 100 k events/s beside", "Kafka"
P99_US_MAX = {LOCAL: 5_000.0, KAFKA: 100_000.0}
BACKGROUND_PER_S = 100_000.0
COLUMNS = [
    "log",
    "acknowledged to visible: p50 ms",
    "p99 ms",
    "max ms",
    "push to acknowledged: p50 ms",
    "p99 ms",
    "reads",
]
BOTH = (SERVER_CORE, LOAD_CORE)


@dataclass(frozen=True, slots=True)
class Measured:
    """One log. `reads`: how many it took until the event was shown, on average."""

    name: str
    shown: Latency
    pushed: Latency
    reads: float


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("freshness: local log")
    found = [
        measure(setting, LOCAL, {"durability": "fsync", "background_per_s": 0.0}),
        measure(setting, BUSY, {"durability": "fsync", "background_per_s": BACKGROUND_PER_S}),
    ]
    missing = ""
    try:
        with Broker(setting.out, core=None) as broker:
            say("freshness: Kafka")
            broker.create_topic("freshness")
            kafka = {"broker": broker.address, "topic": "freshness", "background_per_s": 0.0}
            found.append(measure(setting, KAFKA, kafka))
    except NotInstalledError as error:
        missing = str(error)
    return Part(judgements_of(found, missing), [table_of(found)], data=found)


def measure(setting: Setting, name: str, where: dict[str, Any]) -> Measured:
    """One log."""
    pushes = 200 if setting.quick else 2_000
    setting.out.mkdir(parents=True, exist_ok=True)
    order = {
        "view": judged_view(entities_max=100_000),
        "pushes": pushes,
        "seed": setting.seed,
        "folder": str(setting.out),
    }
    found = run_driver("freshness", {**order, **where}, core=BOTH)
    return Measured(name, latency_of(found["took_us"]), latency_of(found["pushed_us"]), found["reads"])


def judgements_of(found: list[Measured], missing: str) -> list[Judgement]:
    """p99 of both logs, with nothing beside."""
    judged = []
    for name, most_us in P99_US_MAX.items():
        promise = f"freshness, {name}: acknowledged to visible p99 at most {most_us / 1e3:g} ms"
        shown = [each.shown.p99_us for each in found if each.name == name]
        judged.append(
            kept(promise, shown[0] <= most_us, f"{shown[0] / 1e3:.2f} ms") if shown else undecided(promise, missing)
        )
    return judged


def table_of(found: list[Measured]) -> Table:
    """A line for each log."""
    about = "One event after another is pushed; reads follow until one shows it. Log, view and reader in one process."
    rows: list[list[Cell]] = [
        [
            each.name,
            *(value / 1e3 for value in (each.shown.p50_us, each.shown.p99_us, each.shown.max_us)),
            each.pushed.p50_us / 1e3,
            each.pushed.p99_us / 1e3,
            each.reads,
        ]
        for each in found
    ]
    return Table("Freshness", about, COLUMNS, rows)
