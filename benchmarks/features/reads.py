"""Part `reads`: one entity x 20 features and 100 x 50, in process, beside Feast's SDK on sqlite and on Redis."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.features.events import Stream, stream_file
from benchmarks.features.latency import Latency, latency_of
from benchmarks.features.part import Part, Setting, kept, run_driver, say
from benchmarks.features.views import Declared, narrow_view, wide_view
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.peers.environments import FEAST, NotInstalledError, PeerError
from benchmarks.peers.redis_server import RedisServer
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table

COLUMNS = ["who", "read", "p50 µs", "p99 µs", "p99.9 µs", "calls", "p50 x ours", "p99 x ours"]
SHAPES: dict[str, tuple[int, int, Callable[..., Declared]]] = {
    "1 x 20": (1, 20, narrow_view),
    "100 x 50": (100, 50, wide_view),
}
BARS = (("kernel", "1 x 20", 5.0), ("servable", "1 x 20", 25.0), ("kernel", "100 x 50", 200.0))
OURS = "view"
"""What a program in the same process calls: the one beside which Feast's SDK is set."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of reads, or gathers, of one shape by one of ours (by its depth) or of a rival's (by its store)."""

    who: str
    shape: str
    latency: Latency


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    found: list[Measured] = []
    missing: list[str] = []
    for shape in SHAPES:
        say(f"reads, {shape}")
        found += measure_ours(setting, shape)
    for store in ("sqlite", "Redis"):
        say(f"reads, Feast on {store}")
        try:
            found += measure_feast(setting, store)
        except (NotInstalledError, PeerError) as error:
            missing.append(f"Feast on {store} was not run: {error}")
    return Part(judgements_of(found), [table_of(found)], notes=[*notes_of(found), *missing], data=found)


def measure_ours(setting: Setting, shape: str) -> list[Measured]:
    """Every depth, round after round."""
    count, features, view = SHAPES[shape]
    stream = stream_of(setting)
    declared = view(entities_max=2 * stream.entities)
    assert len(declared["features"]) == features
    order = {
        "file": str(stream_file(stream, setting.cache)),
        "view": declared,
        "entities": stream.entities,
        "count": count,
        "calls": 2_000 if setting.quick else 20_000 if count == 1 else 5_000,
        "rounds": 3 if setting.quick else 5,
        "seed": setting.seed,
    }
    rounds = run_driver("reads", order, core=SERVER_CORE)
    return [Measured(each["depth"], shape, latency_of(each["took_us"])) for each in rounds]


def stream_of(setting: Setting) -> Stream:
    """What is looked up in."""
    if setting.quick:
        return Stream(50_000, 500_000, seed=setting.seed)
    return Stream(1_000_000, 4_000_000, seed=setting.seed)


def measure_feast(setting: Setting, store: str) -> list[Measured]:
    """Both shapes. Raises NotInstalledError, PeerError."""
    FEAST.check_installed()
    order: dict[str, Any] = {
        "entities": 1_000 if setting.quick else 10_000,
        "widths": [features for _, features, _ in SHAPES.values()],
        "reads": [{"entities": count, "features": features} for count, features, _ in SHAPES.values()],
        "calls": 200 if setting.quick else 1_000,
        "warmup": 20,
        "seed": setting.seed,
    }
    with tempfile.TemporaryDirectory() as folder:
        if store == "sqlite":
            rounds = FEAST.run("feast_read.py", {**order, "folder": folder, "redis": None}, core=SERVER_CORE)
        else:
            with RedisServer(Path(folder), LOAD_CORE) as server:
                told = {**order, "folder": folder, "redis": f"127.0.0.1:{server.port}"}
                rounds = FEAST.run("feast_read.py", told, core=SERVER_CORE)
    shapes = zip(SHAPES, rounds, strict=True)
    name = f"Feast SDK, {store}"
    return [Measured(name, shape, latency_of([ms * 1e3 for ms in each["took_ms"]])) for shape, each in shapes]


def middle(found: list[Measured], who: str, shape: str, percentile: str) -> float | None:
    """The median over the rounds; None where it was not run."""
    values = [getattr(each.latency, percentile) for each in found if (each.who, each.shape) == (who, shape)]
    return median(values) if values else None


def judgements_of(found: list[Measured]) -> list[Judgement]:
    """What is promised of p99, at the depth it is promised for."""
    judged = []
    for who, shape, most_us in BARS:
        p99 = middle(found, who, shape, "p99_us")
        assert p99 is not None
        where = "inside the kernel" if who == "kernel" else f"through the {who}"
        judged.append(kept(f"read {shape} {where}: p99 at most {most_us:g} µs", p99 <= most_us, f"{p99:.1f} µs"))
    return judged


def table_of(found: list[Measured]) -> Table:
    """Who reads what in how long."""
    rows: list[list[Cell]] = []
    for who, shape in dict.fromkeys((each.who, each.shape) for each in found):
        figures = [middle(found, who, shape, each) for each in ("p50_us", "p99_us", "p999_us")]
        ours = [middle(found, OURS, shape, each) for each in ("p50_us", "p99_us")]
        beside = [mine / theirs if mine and theirs else None for mine, theirs in zip(figures, ours, strict=False)]
        calls = sum(each.latency.calls for each in found if (each.who, each.shape) == (who, shape))
        rows.append([who, shape, *figures, calls, *beside])
    about = (
        "Entities x features, one read after another on one core; medians of rounds. Ours is memory of the process that asks, "
        "Redis a store that replicas share: the ratio says what the design costs, not that they do the same."
    )
    return Table("Reads in process", about, COLUMNS, rows)


def notes_of(found: list[Measured]) -> list[str]:
    """How many times ours Feast's p50 is."""
    notes = []
    for who in dict.fromkeys(each.who for each in found if each.who.startswith("Feast")):
        for shape in SHAPES:
            theirs, ours = middle(found, who, shape, "p50_us"), middle(found, OURS, shape, "p50_us")
            if theirs and ours:
                notes.append(f"read {shape}: {who} takes {theirs / ours:.0f} x the p50 of a view in process")
    return notes
