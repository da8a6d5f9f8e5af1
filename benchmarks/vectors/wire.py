"""Part `wire`: searches over gRPC beside Redis's search module over its own protocol: server CPU a query, latencies by callers.

Each server has core 0, whoever asks core 1, awake all the time. Each answers at the least thorough setting whose recall@10 is
enough; ids and scores are what is answered.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import yaml

from benchmarks.features.latency import latency_of
from benchmarks.features.part import DRIVER_S_MAX, Part, Setting, kept, say, undecided
from benchmarks.graphs.running import run_driver, write_frames
from benchmarks.harness import LOAD_CORE, SERVER_CORE, ServerProcess, free_port, measure, python_module
from benchmarks.load.order import LoadOrder
from benchmarks.machine import ROOT
from benchmarks.peers.environments import REDIS_STACK, NotInstalledError, PeerError
from benchmarks.peers.redis_stack_server import RedisStackServer
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table
from benchmarks.vectors.curve import recall_of
from benchmarks.vectors.inputs import Inputs, K, gloss_vectors, prepared
from protos.vireo.v1 import vectors_pb2, vectors_pb2_grpc

DRIVER = "benchmarks.vectors.drive_wire"
BOTH = (SERVER_CORE, LOAD_CORE)
PATH = "/vireo.v1.Vectors/Search"
COLLECTION = "glosses"
CALLERS = (1, 8, 32)
RECALL, CPU_MS = 0.95, 0.15
CANDIDATES = (20, 24, 28, 32, 36, 40, 48, 64, 80)
EFFORTS = (16, 24, 32, 40, 48, 56, 64, 80, 96, 128)
BATCH = 1_000
WARMUP_S = 1.0
OURS, THEIRS = "Vireo, gRPC", "Redis search"
COLUMNS = ["who", "setting", "recall@10", "callers", "queries/s", "p50 ms", "p99 ms", "server CPU ms/query"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """One number of callers; milliseconds."""

    who: str
    setting: int
    recall: float
    callers: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    setting.out.mkdir(parents=True, exist_ok=True)
    inputs = prepared(setting, "glosses", gloss_vectors, share=0.0)
    seconds, notes = 2.0 if setting.quick else 10.0, []
    with tempfile.TemporaryDirectory(dir=setting.out) as folder:
        say("wire: Vireo")
        found = ours(setting, inputs, Path(folder), seconds)
        say("wire: Redis")
        try:
            found += theirs(inputs, Path(folder), seconds)
        except (NotInstalledError, PeerError) as error:
            notes.append(f"{THEIRS} was not run: {error}")
    return Part(judgements(setting, found), [table_of(found)], notes=notes, data=found)


def ours(setting: Setting, inputs: Inputs, folder: Path, seconds: float) -> list[Asked]:
    """A server on a collection that was filled before. Raises ServerError, DriverError."""
    queries, truth = np.load(inputs.queries), np.load(inputs.truth)
    port = free_port()
    server = {"name": "bench", "host": "127.0.0.1", "grpc_port": port, "http_port": free_port()}
    one = {"vectors": {"v": {"size": queries.shape[1]}}}
    spec = {"server": server, "vectors": {"path": str(folder / "store"), "collections": {COLLECTION: one}}}
    order = {"spec": spec, "collection": COLLECTION, "vectors": str(inputs.vectors)}
    run_driver(DRIVER, order, core=BOTH, timeout_s=DRIVER_S_MAX)
    app = folder / "app.yaml"
    app.write_text(yaml.safe_dump(spec, sort_keys=False))
    command = python_module("serving.cli", "serve", str(app))
    process = ServerProcess(command, log=folder / "vireo.log", core=SERVER_CORE, environment={"PYTHONPATH": str(ROOT)})
    with process, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = vectors_pb2_grpc.VectorsStub(channel)  # type: ignore[no-untyped-call]
        process.wait_ready(lambda: _ready(stub))
        chosen, recall = least_of(CANDIDATES, lambda each: _found(stub, queries, each), truth)
        messages = [search_request(each, chosen).SerializeToString() for each in queries]
        frames = write_frames(folder / "searches.frames", messages)
        return [
            _asked(process, port, frames, callers, seconds, setting=chosen, recall=recall, seed=setting.seed)
            for callers in CALLERS
        ]


def _ready(stub: Any) -> bool:  # noqa: ANN401
    try:
        return bool(stub.DescribeCollection(vectors_pb2.DescribeCollectionRequest(collection=COLLECTION)).points)
    except grpc.RpcError:
        return False


def search_request(query: npt.NDArray[np.float32], candidates: int) -> vectors_pb2.SearchRequest:
    """As a client sends it."""
    vector = vectors_pb2.Vector(packed=query.astype("<f4").tobytes())
    return vectors_pb2.SearchRequest(collection=COLLECTION, vector=vector, k=K, candidates=candidates)


def _found(stub: Any, queries: npt.NDArray[np.float32], candidates: int) -> Rows:  # noqa: ANN401
    answers = [list(stub.Search(search_request(each, candidates)).ids) for each in queries]
    return np.array([(ids + [-1] * K)[:K] for ids in answers], np.int64)


def least_of(settings: tuple[int, ...], find: Any, truth: Rows) -> tuple[int, float]:  # noqa: ANN401 - a function
    """The first setting whose recall is enough, else the last; and its recall."""
    recall = 0.0
    for each in settings:
        recall = recall_of(find(each), truth)
        if recall >= RECALL:
            return each, recall
    return settings[-1], recall


def _asked(
    process: ServerProcess,
    port: int,
    frames: Path,
    callers: int,
    seconds: float,
    *,
    setting: int,
    recall: float,
    seed: int,
) -> Asked:
    order = LoadOrder(
        port=port, frames=str(frames), path=PATH, callers=callers, duration_s=seconds, warmup_s=WARMUP_S, seed=seed,
        connections=min(callers, 8), core=LOAD_CORE,
    )  # fmt: skip
    measured = measure(order, process)
    load = measured.load
    assert load.ok == load.requests, f"{load.errors} of {load.requests} searches failed"
    return Asked(
        OURS, setting, recall, callers, load.throughput_per_s, load.latency_ms.p50 or 0.0, load.latency_ms.p99 or 0.0,
        (measured.server_cpu_us_per_request or 0.0) / 1e3,
    )  # fmt: skip


def theirs(inputs: Inputs, folder: Path, seconds: float) -> list[Asked]:
    """Redis on one core, in memory, nothing stored. Raises NotInstalledError, PeerError, ServerError."""
    truth = np.load(inputs.truth)
    with RedisStackServer(folder, SERVER_CORE, durable=False) as server:

        def do(what: str, **more: object) -> Any:  # noqa: ANN401 - the script's JSON
            order = {"port": server.port, "what": what, "queries": str(inputs.queries), "k": K, **more}
            return REDIS_STACK.run("redis_vectors.py", order, core=LOAD_CORE, timeout_s=DRIVER_S_MAX)

        def find(ef: int) -> Rows:
            do("find", ef=ef, found=str(folder / "found.npy"))
            rows: Rows = np.load(folder / "found.npy")
            return rows

        do("load", vectors=str(inputs.vectors), batch=BATCH)
        chosen, recall = least_of(EFFORTS, find, truth)
        found = []
        for callers in CALLERS:
            before_s = server.process.cpu_s()
            told = do("ask", ef=chosen, callers=callers, warmup_s=WARMUP_S, seconds=seconds)
            cpu_ms = (server.process.cpu_s() - before_s) * 1e3 / told["answered"]
            took = latency_of(told["took_us"])
            found.append(
                Asked(
                    THEIRS, chosen, recall, callers, took.calls / seconds, took.p50_us / 1e3, took.p99_us / 1e3, cpu_ms
                )
            )
        return found


def judgements(setting: Setting, found: list[Asked]) -> list[Judgement]:
    """CPU at most callers; p99 beside theirs."""
    mine = {each.callers: each for each in found if each.who == OURS}
    other = {each.callers: each for each in found if each.who == THEIRS}
    busiest = mine[CALLERS[-1]]
    told = f"{busiest.cpu_ms:.3f} ms at {busiest.callers} callers, recall {busiest.recall:.4f}"
    judged = [_judged(setting, f"server CPU a query over gRPC: at most {CPU_MS} ms", busiest.cpu_ms <= CPU_MS, told)]
    for callers in (each for each in CALLERS[1:] if each in other):
        p99, theirs_ms = mine[callers].p99_ms, other[callers].p99_ms
        promise = f"p99 at {callers} callers: below {THEIRS}'s"
        judged.append(_judged(setting, promise, p99 < theirs_ms, f"{p99:.2f} and {theirs_ms:.2f} ms"))
    return judged


def _judged(setting: Setting, promise: str, held: bool, said: str) -> Judgement:
    return undecided(promise, f"{said}, but a quick run has few points") if setting.quick else kept(promise, held, said)


def table_of(found: list[Asked]) -> Table:
    """Both, by callers."""
    rows: list[list[Cell]] = [
        [
            each.who, each.setting, f"{each.recall:.4f}", each.callers, each.per_s, each.p50_ms, each.p99_ms, each.cpu_ms,
        ]
        for each in found
    ]  # fmt: skip
    about = (
        "Closed loops. Setting: candidates scored exactly, or ef: the least of enough recall. Redis holds its points in memory "
        "alone here; ours are durable."
    )
    return Table("Searches over the wire", about, COLUMNS, rows)
