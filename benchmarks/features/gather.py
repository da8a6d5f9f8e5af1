"""Part `gather`: features of 500 candidates x 100 and of 100 x 50 into a ranker's buffer, beside redis-py and Feast's SDK."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.features.latency import latency_of
from benchmarks.features.part import Part, Setting, kept, run_driver, say
from benchmarks.features.reads import Measured, middle
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.peers.environments import FEAST, NotInstalledError, PeerError
from benchmarks.peers.redis_server import RedisServer
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table

COLUMNS = ["who", "gather", "p50 µs", "p99 µs", "p99.9 µs", "calls", "p50 x ours"]
SHAPES: dict[str, tuple[int, int]] = {"500 x 100": (500, 100), "100 x 50": (100, 50)}
BARS = {"500 x 100": 300.0, "100 x 50": 100.0}
OURS = "gather of a collection"


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    found = measure_ours(setting)
    missing: list[str] = []
    rivals: dict[str, Callable[[Setting], list[Measured]]] = {"redis-py": measure_redis, "Feast": measure_feast}
    for name, measure in rivals.items():
        say(f"gather, {name}")
        try:
            found += measure(setting)
        except (NotInstalledError, PeerError) as error:
            missing.append(f"{name} was not run: {error}")
    return Part(judgements_of(found), [table_of(found)], notes=missing, data=found)


def measure_ours(setting: Setting) -> list[Measured]:
    """The servable over a collection."""
    say("gather")
    order = {
        "rows": 20_000 if setting.quick else 1_000_000,
        "shapes": list(SHAPES.values()),
        "calls": 1_000 if setting.quick else 5_000,
        "rounds": 3 if setting.quick else 5,
        "seed": setting.seed,
    }
    rounds = run_driver("gather", order, core=SERVER_CORE)
    return [Measured(OURS, f"{each['count']} x {each['width']}", latency_of(each["took_us"])) for each in rounds]


def measure_redis(setting: Setting) -> list[Measured]:
    """Both ways of keeping a row. Raises NotInstalledError, PeerError."""
    FEAST.check_installed()
    order = _rival_order(setting)
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder), LOAD_CORE) as server:
        rounds = FEAST.run("redis_gather.py", {**order, "port": server.port}, core=SERVER_CORE)
    return [
        Measured(f"redis-py, {each['how']}", f"{each['count']} x {each['width']}", latency_of(each["took_us"]))
        for each in rounds
    ]


def measure_feast(setting: Setting) -> list[Measured]:
    """Its SDK over Redis. Raises NotInstalledError, PeerError."""
    FEAST.check_installed()
    reads = [{"entities": count, "features": width} for count, width in SHAPES.values()]
    order = {"widths": [width for _, width in SHAPES.values()], "reads": reads, **_rival_order(setting)}
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder), LOAD_CORE) as server:
        told = {**order, "folder": folder, "redis": f"127.0.0.1:{server.port}"}
        rounds = FEAST.run("feast_read.py", told, core=SERVER_CORE)
    return [
        Measured("Feast SDK, Redis", shape, latency_of([ms * 1e3 for ms in each["took_ms"]]))
        for shape, each in zip(SHAPES, rounds, strict=True)
    ]


def _rival_order(setting: Setting) -> dict[str, Any]:
    return {
        "entities": 1_000 if setting.quick else 10_000,
        "shapes": list(SHAPES.values()),
        "calls": 100 if setting.quick else 1_000,
        "warmup": 20,
        "seed": setting.seed,
    }


def judgements_of(found: list[Measured]) -> list[Judgement]:
    """What is promised of p99 in process."""
    judged = []
    for shape, most_us in BARS.items():
        p99 = middle(found, OURS, shape, "p99_us")
        assert p99 is not None
        judged.append(kept(f"gather {shape} in process: p99 at most {most_us:g} µs", p99 <= most_us, f"{p99:.0f} µs"))
    return judged


def table_of(found: list[Measured]) -> Table:
    """Who gathers what in how long."""
    rows: list[list[Cell]] = []
    for who, shape in dict.fromkeys((each.who, each.shape) for each in found):
        figures = [middle(found, who, shape, each) for each in ("p50_us", "p99_us", "p999_us")]
        ours = middle(found, OURS, shape, "p50_us")
        calls = sum(each.latency.calls for each in found if (each.who, each.shape) == (who, shape))
        rows.append([who, shape, *figures, calls, figures[0] / ours if figures[0] and ours else None])
    about = (
        "Keys x numbers into one float32 array, one gather after another on one core; medians of rounds. Ours is memory of the "
        "process that asks, of a million items; Redis is a store that replicas share, on the other core, of 10,000."
    )
    return Table("Gathers in process", about, COLUMNS, rows)
