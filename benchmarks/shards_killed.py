"""What callers of a collection in shards on Ray notice of replicas that are killed: failed calls, writes, time.

Two shards of two replicas each follow a topic of a broker; some callers search, one writes points again and again, each time with
a higher number. Meanwhile one replica after the other is killed with SIGKILL, and the next only when there are two again. In the
end every replica is asked for every point: a write that was acknowledged is lost where a point has a lower number.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.graphs.running import Declared, serve
from benchmarks.peers.broker import Broker
from benchmarks.table import Cell, Table
from protos.vireo.v1 import vectors_pb2 as pb
from protos.vireo.v1 import vectors_pb2_grpc

COLLECTION, SHARDS, REPLICAS = "items", 2, 2
POINTS, SIZE, K, WRITTEN = 2_000, 32, 10, 20
SEARCHERS = 3
ANSWER_S, BACK_S_MAX = 10.0, 180.0
CALLS_BETWEEN = 500
"""So many calls before the first kill, and after each has been made good."""
READS = 8
"""Of all points at the end: whichever replicas answer."""


@dataclass(slots=True)
class Killed:
    """What was noticed. `back_s`: from each kill until there were as many replicas as before."""

    calls: int = 0
    failures: list[str] = field(default_factory=list)
    acknowledged: int = 0
    lost: int = 0
    back_s: list[float] = field(default_factory=list)

    @property
    def failed_share(self) -> float:
        """Of all calls."""
        return len(self.failures) / max(1, self.calls)


def spec(broker: str, store: Path, name: str) -> Declared:
    """The collection in shards, and nothing else."""
    items = {
        "vectors": {"v": {"size": SIZE, "metric": "l2"}}, "fields": {"n": {"type": "integer"}},
        "kafka": {"bootstrap_servers": broker, "topic": COLLECTION, "format": "arrow"},
        "snapshot": {"store": f"file://{store}", "every": "2s"},
    }  # fmt: skip
    return {
        "server": {"name": name},
        "vectors": {"path": "collections", "fixed": True, "collections": {COLLECTION: items}},
        "searches": {"near": {"collection": COLLECTION, "k": K}},
        "placement": {
            "ingress": {"cpus": 0.5},
            "parts": {"serves": [COLLECTION], "shards": SHARDS, "replicas": REPLICAS, "cpus": 0.5},
        },
    }


def replicas(application: str, shard: int) -> set[int]:
    """Processes of a shard, which their titles name."""
    wanted = f"ray::ServeReplica:{application}:parts-{shard}-of-{SHARDS}"
    found = set[int]()
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdigit() and (each / "cmdline").read_text(errors="replace").startswith(wanted):
                found.add(int(each.name))
        except OSError:  # it has ended
            continue
    return found


class Callers:
    """Searchers and a writer, until they are told to end. `numbers`: the last acknowledged one of each point."""

    def __init__(self, address: str, seed: int) -> None:
        self.found = Killed()
        self.numbers = np.zeros(POINTS, np.int64)
        self._address, self._vectors = address, np.random.default_rng(seed).random((POINTS, SIZE), np.float32)
        self._over, self._lock = threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._go, args=(each,)) for each in [self._write] + [self._search] * SEARCHERS
        ]

    def write(self, stub: Any, ids: range, number: int) -> str:  # noqa: ANN401  generated
        """Points with a number; the token of the write."""
        request = pb.UpsertRequest(collection=COLLECTION)
        for each in ids:
            point = request.points.add(id=pb.PointId(integer=each))
            point.vectors["v"].values.extend(self._vectors[each % POINTS].tolist())
            point.payload["n"].integer = number
        token: str = stub.Upsert(request, timeout=ANSWER_S).token
        return token

    def fill(self, stub: Any) -> None:  # noqa: ANN401
        """All points, for the first time, and waits until a search shows them."""
        token = [self.write(stub, range(at, at + 100), 0) for at in range(0, POINTS, 100)][-1]
        self._ask(stub, 0, token)

    def _ask(self, stub: Any, at: int, token: str = "") -> None:  # noqa: ANN401
        request = pb.SearchRequest(collection=COLLECTION, k=K, after_token=token)
        request.vector.values.extend(self._vectors[at % POINTS].tolist())
        hits = len(stub.Search(request, timeout=ANSWER_S).ids)
        assert hits == K, f"{hits} of {K} hits"

    def _write(self, stub: Any, turn: int) -> None:  # noqa: ANN401
        first = turn * WRITTEN % POINTS
        number = 1 + turn * WRITTEN // POINTS
        self.write(stub, range(first, first + WRITTEN), number)
        self.numbers[first : first + WRITTEN] = number
        self.found.acknowledged += WRITTEN

    def _search(self, stub: Any, turn: int) -> None:  # noqa: ANN401
        self._ask(stub, turn * 7)

    def _go(self, call: Callable[[Any, int], None]) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub = vectors_pb2_grpc.VectorsStub(channel)  # type: ignore[no-untyped-call]
            turn = 0
            while not self._over.is_set():
                failure = ""
                try:
                    call(stub, turn)
                except (grpc.RpcError, AssertionError) as error:
                    failure = str(error)
                turn += 1
                with self._lock:
                    self.found.calls += 1
                    self.found.failures += [failure] * bool(failure)

    def start(self) -> None:
        """Lets them call."""
        for each in self._threads:
            each.start()

    def end(self) -> None:
        """Returns when all have ended."""
        self._over.set()
        for each in self._threads:
            each.join()


def until(holds: Callable[[], bool], told: str) -> float:
    """Seconds until it holds. Raises TimeoutError."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > BACK_S_MAX:
            raise TimeoutError(f"not within {BACK_S_MAX:g} s: {told}")
        time.sleep(0.01)
    return time.monotonic() - begun


def kill_one(application: str, shard: int) -> float:
    """Seconds until there are as many as before."""
    before = replicas(application, shard)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    return until(lambda: len(replicas(application, shard) - {victim}) >= len(before), "another replica")


def lost(stub: Any, callers: Callers) -> int:  # noqa: ANN401
    """Points of which some replica has less than was acknowledged."""
    token = callers.write(stub, range(POINTS, 2 * POINTS), 0)  # touches every partition
    behind = set[int]()
    for _ in range(READS):
        request = pb.GetPointsRequest(collection=COLLECTION, after_token=token, payload=["n"])
        request.ids.extend(pb.PointId(integer=each) for each in range(POINTS))
        has = {point.id.integer: point.payload["n"].integer for point in stub.Get(request, timeout=60).points}
        behind |= {each for each in range(POINTS) if has.get(each, -1) < callers.numbers[each]}
    return len(behind)


def measure_killed(out: Path, environment: dict[str, str], kills: int, seed: int, patience_s: float) -> Killed:
    """Kills `kills` replicas in turn on the cluster that `environment` names. Raises ServerError, NotInstalledError."""
    name = "shards"
    with Broker(out, core=None) as broker:
        broker.create_topic(COLLECTION, 2 * SHARDS + 1)
        declared = spec(broker.address, out / name / "store", name)  # which `serve` empties
        words = ("--host", "ray")
        with (
            serve(declared, out / name, "near", words=words, environment=environment, patience_s=patience_s) as server,
            grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        ):
            stub = vectors_pb2_grpc.VectorsStub(channel)  # type: ignore[no-untyped-call]
            callers = Callers(f"127.0.0.1:{server.grpc_port}", seed)
            callers.fill(stub)
            callers.start()
            found = callers.found
            try:
                until(lambda: found.calls >= CALLS_BETWEEN, "calls are answered")
                for number in range(kills):
                    found.back_s.append(kill_one(name, number % SHARDS))
                    goal = found.calls + CALLS_BETWEEN
                    until(lambda goal=goal: found.calls >= goal, "calls are answered")  # type: ignore[misc]
            finally:
                callers.end()
            found.lost = lost(stub, callers)
    return found


def killed_table(found: Killed) -> Table:
    """What was noticed."""
    worst = max(found.back_s, default=float("nan"))
    row: list[Cell] = [len(found.back_s), found.calls, len(found.failures), found.acknowledged, found.lost, worst]
    columns = ["replicas killed", "calls", "failed", "points acknowledged", "lost", "back after s at most"]
    about = f"{SHARDS} shards of {REPLICAS} replicas, {SEARCHERS} callers that search and one that writes."
    return Table("A collection in shards whose replicas are killed with -9", about, columns, [row])
