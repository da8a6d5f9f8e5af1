"""The stack a team would otherwise run: Redis for features, Triton for the model, a gateway in Python that calls both.

Redis is filled beforehand, with the features as they would be: it gets the streaming for free. All three share one core, as
ours has one. The gateway looks up by redis-py (pipelined, on its loop or by asyncio) or by Feast's SDK.
"""

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.graphs.stack_case import StackCase
from benchmarks.harness import SERVER_CORE, ServerProcess, free_port, grpc_ready
from benchmarks.peers.environments import QUIET, REDIS, STACK
from benchmarks.peers.redis_server import RedisServer
from benchmarks.peers.triton import start_triton
from benchmarks.peers.triton_package import TritonPackage

CHECKED = 256
DIFFERENCE_MAX = 1e-6


class WrongAnswerError(Exception):
    """The stack does not say what the model says."""


class Lookup(StrEnum):
    """How the gateway reads features."""

    REDIS = "redis"
    REDIS_ASYNC = "redis-async"
    REDIS_THREADS = "redis-threads"
    FEAST = "feast"


NAMES = {
    Lookup.REDIS: "Redis (redis-py pipeline) + Triton",
    Lookup.REDIS_ASYNC: "Redis (redis.asyncio pipeline) + Triton",
    Lookup.REDIS_THREADS: "Redis (redis-py pipeline, threads) + Triton",
    Lookup.FEAST: "Feast SDK on Redis + Triton",
}


@dataclass(slots=True)
class Parts:
    """The processes of a stack."""

    processes: dict[str, ServerProcess]

    def cpu_s(self) -> float:
        """CPU seconds so far of all of them."""
        return sum(self.cpu_by_part().values())

    def cpu_by_part(self) -> dict[str, float]:
        """The same for each."""
        return {name: each.cpu_s() for name, each in self.processes.items()}


@dataclass(slots=True)
class Stack(Parts):
    """The three processes, ready on `port`; ends with the `with` block."""

    name: str
    port: int
    _closing: ExitStack

    def __enter__(self) -> "Stack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()


def check_stack_installed() -> None:
    """Raises NotInstalledError of the one that is not here."""
    REDIS.check_installed()
    STACK.check_installed()
    TritonPackage().check_installed()


def start_stack(
    case: StackCase, lookup: Lookup, out: Path, *, core: int | tuple[int, ...] | None = SERVER_CORE
) -> Stack:
    """All three, filled, answering and checked. Raises NotInstalledError, ServerError, PeerError, WrongAnswerError."""
    check_stack_installed()
    folder = out / f"stack-{lookup.value}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as opened:
        redis = opened.enter_context(RedisServer(folder, core))
        triton = opened.enter_context(start_triton(model_file=case.model_file, out=folder, model=case.model))
        order = order_of(case, lookup, folder, redis_port=redis.port, triton_port=triton.grpc_port)
        STACK.run("stack_store.py", order, core=None)
        file = folder / "order.json"
        file.write_text(json.dumps(order))
        command = [*STACK.command("stack_gateway.py"), str(file)]
        gateway = opened.enter_context(
            ServerProcess(
                command, log=folder / "gateway.log", core=core, environment={**QUIET, "ORT_DISABLE_TELEMETRY": "1"}
            )
        )
        gateway.wait_ready(grpc_ready(order["port"], case.model))
        parts = {"gateway": gateway, "Triton": triton.process, "Redis": redis.process}
        check_answers(case, order["port"])
        return Stack(parts, NAMES[lookup], order["port"], opened.pop_all())


def order_of(case: StackCase, lookup: Lookup, folder: Path, *, redis_port: int, triton_port: int) -> dict[str, Any]:
    """What both scripts are told; the features' values are written beside."""
    values = folder / "values.npz"
    np.savez(values, allow_pickle=False, **{entity.name: entity.values for entity in case.entities})
    return {
        "port": free_port(),
        "redis_port": redis_port,
        "triton_port": triton_port,
        "lookup": lookup.value,
        "folder": str(folder.resolve()),
        "values": str(values.resolve()),
        "model": case.model,
        "input": case.input,
        "output": case.output,
        "raw": list(case.raw),
        "entities": [{"name": each.name, "features": list(each.features)} for each in case.entities],
    }


def check_answers(case: StackCase, port: int) -> None:
    """Raises WrongAnswerError where an answer is not what ONNX Runtime gives for the same features."""
    expected = case.scores()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for index, message in enumerate(case.messages[:CHECKED]):
            answer = stub.ModelInfer(service_pb2.ModelInferRequest.FromString(message), timeout=10.0)
            score = np.frombuffer(answer.raw_output_contents[0], "<f4")[0]
            if abs(score - expected[index]) > DIFFERENCE_MAX:
                raise WrongAnswerError(f"request {index}: the stack says {score}, the model {expected[index]}")
