"""How many of the 500 candidates that an exact scan finds a search finds: both services are asked at about the same recall."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.graphs.contenders import Contender
from benchmarks.graphs.running import Declared, infer_message
from benchmarks.harness import LOAD_CORE
from benchmarks.peers.environments import REDIS_STACK
from benchmarks.peers.slate_stack import FilledRedis
from benchmarks.recommendation.inputs import Shop
from benchmarks.recommendation.served import served
from benchmarks.workloads.recommendation.application import CANDIDATES

RECALL = 0.955
"""Of the exact candidates our search is to find so many; the stack's is to find as many as ours does."""

EFFORTS = (1.0, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
"""Times the lists that an index takes for enough, which it tries with items as queries: users are queries of another kind."""

Longs = NDArray[np.int64]
Singles = NDArray[np.float32]
QUERIES = 100


def queries_of(shop: Shop) -> dict[str, NDArray[np.generic]]:
    """Of the first requests: vector [n, d], region [n], seen [n, 50], 0: none."""
    asked = shop.requests()
    with np.load(shop.users) as users:
        vectors = users["vector"][:QUERIES]
    return {"vector": vectors, "region": asked["region"][:QUERIES], "seen": asked["history"][:QUERIES]}


@dataclass(frozen=True, slots=True)
class Thoroughness:
    """The effort of our search, and what it finds of the exact candidates."""

    effort: float
    recall: float


@contextmanager
def thorough(shop: Shop, out: Path) -> Iterator[tuple[Contender, Thoroughness]]:
    """Vireo, searching with the least effort that finds enough, else the greatest. Raises ServerError."""
    for effort in EFFORTS:
        with served(shop, out, partial(searching, effort)) as contender:
            recall = recall_of(shop, found_by_vireo(shop, contender.port))
            if recall >= RECALL or effort == EFFORTS[-1]:
                yield contender, Thoroughness(effort, recall)
                return


def searching(effort: float, spec: Declared) -> Declared:
    """The spec with its search of this effort."""
    searches = {name: {**each, "effort": effort} for name, each in spec["searches"].items()}
    return {**spec, "searches": searches}


@cache
def exact(shop: Shop) -> list[Longs]:
    """The 500 that an exact scan finds for each query."""
    with np.load(shop.catalogue) as catalogue:
        items, stock, regions = (catalogue[name] for name in ("vector", "stock", "regions"))
    found = []
    for vector, region, seen in zip(*queries_of(shop).values(), strict=True):
        near = items @ vector
        near[(stock <= 0) | ((regions >> region) & 1 == 0)] = -np.inf
        near[seen[seen > 0] - 1] = -np.inf
        found.append(1 + np.argpartition(-near, CANDIDATES)[:CANDIDATES])
    return found


def recall_of(shop: Shop, found: Longs) -> float:
    """The mean over the queries; `found` [n, 500]."""
    shares = [len(np.intersect1d(best, given)) for best, given in zip(exact(shop), found, strict=True)]
    return float(np.mean(shares)) / CANDIDATES


def found_by_vireo(shop: Shop, port: int) -> Longs:
    """What the graph's own search finds."""
    found = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for vector, region, seen in zip(*queries_of(shop).values(), strict=True):
            inputs = {"query": vector[None], "region": region[None], "seen": seen[seen > 0].astype(np.uint64)[None]}
            message = infer_message("candidates", inputs)
            answer = stub.ModelInfer(service_pb2.ModelInferRequest.FromString(message), timeout=30)
            at = [each.name for each in answer.outputs].index("ids")
            found.append(np.frombuffer(answer.raw_output_contents[at], "<i8"))
    return np.stack(found)


def found_by_redis(shop: Shop, redis: FilledRedis, ef: int, out: Path) -> Longs:
    """What the stack's search finds at this effort. Raises NotInstalledError, PeerError."""
    queries, found = out / "queries.npz", out / "found.npy"
    np.savez(queries, allow_pickle=False, **queries_of(shop))
    order = {
        "port": redis.server.port, "search": redis.search, "queries": str(queries), "ef": ef, "k": CANDIDATES,
        "found": str(found),
    }  # fmt: skip
    REDIS_STACK.run("slate_store.py", order, core=LOAD_CORE)
    rows: Longs = np.load(found)
    return rows
