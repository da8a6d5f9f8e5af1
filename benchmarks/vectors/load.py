"""Part `load`: points in bulk until all are durable and indexed, single durable upserts, each looked for by the next search;
beside Redis's search module, its log fsynced before each answer, and milvus-lite, which does not wait for the disk."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.features.latency import Latency, latency_of
from benchmarks.features.part import DRIVER_S_MAX, Part, Setting, kept, say, undecided
from benchmarks.graphs.running import run_driver
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.peers.environments import MILVUS, REDIS_STACK, NotInstalledError, PeerError
from benchmarks.peers.redis_stack_server import RedisStackServer
from benchmarks.report import Judgement
from benchmarks.table import Table
from benchmarks.vectors.inputs import gloss_vectors, prepared

DRIVER = "benchmarks.vectors.drive_load"
BOTH = (SERVER_CORE, LOAD_CORE)
BATCH = 1_000
EF = 64
MILVUS_S_MAX = 600.0
"""Over three times what it takes where it does not hang, as it did once."""
POINTS_PER_S, UPSERT_MS = 5_000, 4.0
OURS = "Vireo"
EARLIER = (
    "measured earlier on such a machine, not in this run: points/s to ready (server CPU s): pgvector 0.8 1,091 (112), Redis "
    "Stack 7.4 485 (60), Chroma 176 (129), milvus-lite 1,221 (24); single upsert p50: PostgreSQL 38 ms, Chroma 7.2, Redis 3.6, "
    "milvus-lite 1.7"
)
COLUMNS = [
    "who", "points", "durable, points/s", "ready, points/s", "CPU s", "upsert p50 ms", "p99 ms", "seen by the next search",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loaded:
    """`ready_s`: from the first point until all are durable and indexed. `cpu_s`: of server and client where they are one
    process, else of the server. `seen`: the share of single upserts that the next search found."""

    who: str
    points: int
    durable_s: float | None
    ready_s: float
    cpu_s: float
    upsert: Latency
    seen: float


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    setting.out.mkdir(parents=True, exist_ok=True)
    file = prepared(setting, "glosses", gloss_vectors, share=0.0).vectors
    count = 100 if setting.quick else 1_000
    measures: list[Callable[[Path, int, Path], Loaded]] = [ours, redis, milvus]
    found, missing = [], []
    for measure in measures:
        say(f"load: {measure.__name__}")
        with tempfile.TemporaryDirectory(dir=setting.out) as folder:
            try:
                found.append(measure(file, count, Path(folder)))
            except (NotInstalledError, PeerError) as error:
                missing.append(f"{measure.__name__} was not run: {error}")
    return Part(judgements(setting, found[0]), [table_of(found)], notes=[*missing, EARLIER], data=found)


def ours(file: Path, count: int, folder: Path) -> Loaded:
    """A collection in one process, on both cores: it indexes beside the writes."""
    order = {"vectors": str(file), "singles": count, "folder": f"{folder}/collection"}
    return loaded_from(OURS, run_driver(DRIVER, order, core=BOTH, timeout_s=DRIVER_S_MAX), count)


def milvus(file: Path, count: int, folder: Path) -> Loaded:
    """milvus-lite. Raises NotInstalledError, PeerError."""
    order = {"vectors": str(file), "singles": count, "batch": BATCH, "folder": str(folder)}
    told = MILVUS.run("milvus_vectors.py", order, core=BOTH, timeout_s=MILVUS_S_MAX)
    return loaded_from("milvus-lite, not durable", told, count)


def loaded_from(who: str, told: Any, count: int) -> Loaded:  # noqa: ANN401 - a script's JSON
    """What it found."""
    return Loaded(
        who, told["points"], told["durable_s"], told["ready_s"], told["ready_cpu_s"], latency_of(told["took_us"]),
        told["seen"] / count,
    )  # fmt: skip


def redis(file: Path, count: int, folder: Path) -> Loaded:
    """Server and client share the cores. Raises NotInstalledError, PeerError, ServerError."""
    vectors = np.load(file, mmap_mode="r")
    bulk = len(vectors) - count
    np.save(folder / "bulk.npy", vectors[:bulk])
    np.save(folder / "singles.npy", vectors[bulk:])
    with RedisStackServer(folder, BOTH, durable=True) as server:
        common = {"port": server.port, "ef": EF}
        order = {**common, "what": "load", "vectors": str(folder / "bulk.npy"), "batch": BATCH}
        ready_s = REDIS_STACK.run("redis_vectors.py", order, core=BOTH)["took_s"]
        cpu_s = server.process.cpu_s()
        order = {**common, "what": "upserts", "vectors": str(folder / "singles.npy"), "first": bulk}
        told = REDIS_STACK.run("redis_vectors.py", order, core=BOTH)
    return Loaded("Redis search", bulk, ready_s, ready_s, cpu_s, latency_of(told["took_us"]), told["seen"] / count)


def judgements(setting: Setting, found: Loaded) -> list[Judgement]:
    """Of ours."""
    per_s = found.points / found.ready_s
    upsert = found.upsert
    bulk = f"bulk load to index-ready, durable: at least {POINTS_PER_S:,} points/s"
    single = f"single durable upsert: p50 at most {UPSERT_MS:g} ms"
    said = f"{per_s:,.0f} points/s, {found.cpu_s:.1f} CPU s"
    return [
        undecided(bulk, f"{said}, but a quick run has few points") if setting.quick else kept(bulk, per_s >= POINTS_PER_S, said),
        kept(single, upsert.p50_us <= UPSERT_MS * 1e3, f"p50 {upsert.p50_us / 1e3:.2f} ms, p99 {upsert.p99_us / 1e3:.2f} ms"),
        kept("an upsert is seen by the next search", found.seen == 1.0, f"{found.seen:.1%} of {upsert.calls:,}"),
    ]  # fmt: skip


def table_of(found: list[Loaded]) -> Table:
    """One row each."""
    rows = [
        [
            each.who, each.points, each.points / each.durable_s if each.durable_s else None, each.points / each.ready_s,
            each.cpu_s, each.upsert.p50_us / 1e3, each.upsert.p99_us / 1e3, f"{each.seen:.1%}",
        ]
        for each in found
    ]  # fmt: skip
    about = (
        "Both cores for each, client included. CPU: of ours and milvus-lite the whole process, client too, of Redis the "
        "server's. Single upserts come one after another, each alone."
    )
    return Table("Writes", about, COLUMNS, [list(row) for row in rows])
