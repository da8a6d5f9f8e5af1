"""The recommendation pipeline that a team would otherwise glue: Redis Stack for features and search, Triton for the ranker, a
gateway in Python between them and for the slate. All three share one core, as ours has one. What users are is filled in
beforehand."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.graphs.contenders import Contender
from benchmarks.harness import SERVER_CORE, ServerProcess, free_port, grpc_ready
from benchmarks.peers.environments import QUIET, REDIS_STACK, STACK
from benchmarks.peers.redis_stack_server import RedisStackServer
from benchmarks.peers.stack import Parts
from benchmarks.peers.triton import start_triton
from benchmarks.peers.triton_package import TritonPackage
from benchmarks.recommendation.inputs import Shop
from benchmarks.workloads.recommendation.application import CANDIDATES, GRAPH, SLATE, Application
from benchmarks.workloads.recommendation.offline import CATEGORY_CAP, RELEVANCE

FILL_S_MAX = 7200.0
ROWS = ("mget", "return")
"""How the rows of candidates come; see the gateway."""

DISTANCE, PRODUCT = "distance", "product"
SEARCHES = {DISTANCE: "", PRODUCT: ", search by inner product"}
"""How Redis searches, see `slate_store`; the second is much the worse, and shown for that."""

NAMES = {
    "mget": "Redis Stack + Triton, rows by MGET",
    "return": "Redis Stack + Triton, rows with the search",
}


@dataclass(frozen=True, slots=True)
class FilledRedis:
    """Redis with the shop, one of SEARCHES, and the seconds it took to fill and index."""

    server: RedisStackServer
    search: str
    took_s: float


def check_installed() -> None:
    """Raises NotInstalledError of the one that is not here."""
    REDIS_STACK.check_installed()
    STACK.check_installed()
    TritonPackage().check_installed()


@contextmanager
def filled_redis(shop: Shop, out: Path, search: str = DISTANCE) -> Iterator[FilledRedis]:
    """`search`: one of SEARCHES. Raises NotInstalledError, ServerError, PeerError."""
    check_installed()
    out.mkdir(parents=True, exist_ok=True)
    with RedisStackServer(out, SERVER_CORE, durable=False) as server:
        order = {
            "port": server.port, "catalogue": str(shop.catalogue), "users": str(shop.users), "search": search,
        }  # fmt: skip
        told = REDIS_STACK.run("slate_store.py", order, core=None, timeout_s=FILL_S_MAX)
        yield FilledRedis(server, search, told["took_s"])


@contextmanager
def stack_contender(shop: Shop, redis: FilledRedis, rows: str, ef: int, out: Path) -> Iterator[Contender]:
    """Gateway and Triton over a Redis that is filled. Raises ServerError."""
    folder = out / f"slate-{rows}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    application = Application(shop.folder)
    with start_triton(
        model_file=application.model("ranker"), out=folder, model="ranker", dynamic_batching=False
    ) as triton:
        order: dict[str, Any] = {
            "port": free_port(), "redis_port": redis.server.port, "triton_port": triton.grpc_port, "rows": rows, "ef": ef,
            "tower": str(tower_weights(application.model("user_tower"), folder)), "candidates": CANDIDATES, "k": SLATE,
            "relevance": RELEVANCE, "cap": CATEGORY_CAP, "search": redis.search,
        }  # fmt: skip
        file = folder / "order.json"
        file.write_text(json.dumps(order))
        command = [*STACK.command("slate_gateway.py"), str(file)]
        environment = {**QUIET, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with ServerProcess(command, log=folder / "gateway.log", core=SERVER_CORE, environment=environment) as gateway:
            gateway.wait_ready(grpc_ready(order["port"], GRAPH))
            parts = Parts({"gateway": gateway, "Triton": triton.process, "Redis": redis.server.process})
            yield Contender(NAMES[rows] + SEARCHES[redis.search], order["port"], shop.frames, parts)


def tower_weights(model: Path, folder: Path) -> Path:
    """The user tower's weights by name, .npz."""
    weights: dict[str, Any] = {each.name: numpy_helper.to_array(each) for each in onnx.load(model).graph.initializer}
    file = folder / "tower.npz"
    np.savez(file, allow_pickle=False, **{name: each for name, each in weights.items() if "." in name})
    return file
