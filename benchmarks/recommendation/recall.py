"""How many of the 500 candidates that an exact scan finds a search finds: both services are asked at about the same recall."""

from functools import cache
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.graphs.running import infer_message
from benchmarks.harness import LOAD_CORE
from benchmarks.peers.environments import REDIS_STACK
from benchmarks.recommendation.inputs import Shop
from benchmarks.workloads.recommendation.application import CANDIDATES

Longs = NDArray[np.int64]
Singles = NDArray[np.float32]
QUERIES = 100


def queries_of(shop: Shop) -> dict[str, NDArray[np.generic]]:
    """Of the first requests: vector [n, d], region [n], seen [n, 50], 0: none."""
    asked = shop.requests()
    with np.load(shop.users) as users:
        vectors = users["vector"][:QUERIES]
    return {"vector": vectors, "region": asked["region"][:QUERIES], "seen": asked["history"][:QUERIES]}


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


def found_by_redis(shop: Shop, port: int, ef: int, out: Path) -> Longs:
    """What the stack's search finds at this effort. Raises NotInstalledError, PeerError."""
    queries, found = out / "queries.npz", out / "found.npy"
    np.savez(queries, allow_pickle=False, **queries_of(shop))
    order = {"port": port, "queries": str(queries), "ef": ef, "k": CANDIDATES, "found": str(found)}
    REDIS_STACK.run("slate_store.py", order, core=LOAD_CORE)
    rows: Longs = np.load(found)
    return rows
