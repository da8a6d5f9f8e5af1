"""The shop served by Vireo: the whole graph, from user to explained list, and what each of its stages takes."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import yaml
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.graphs.contenders import Contender
from benchmarks.graphs.running import Declared
from benchmarks.harness import SERVER_CORE, ServerProcess, free_port, grpc_ready, python_module
from benchmarks.load.frames import message_of, read_frames
from benchmarks.machine import ROOT
from benchmarks.recommendation.inputs import Shop
from benchmarks.table import Cell, Table
from benchmarks.workloads.recommendation.application import GRAPH, Application

OURS = "Vireo, the whole graph"
SLO_MS = 200.0
"""Above what is asked of p99: a sweep finds where answers are late, not where they are refused; the stack refuses none."""

WARM_CALLS, LEDGER_CALLS = 100, 500
LEDGER = "vireo-ledger"
STAGE_COLUMNS = ["stage", "critical", "wait p50 µs", "compute p50 µs", "compute p99 µs", "of the median total"]

Answers = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Stages:
    """Of each stage, in order, microseconds of every call: waited, and computed; `total_us` of every call."""

    waits_us: dict[str, list[float]]
    computes_us: dict[str, list[float]]
    critical: dict[str, float]
    total_us: list[float]


@contextmanager
def served(shop: Shop, out: Path, changed: Callable[[Declared], Declared] = dict) -> Iterator[Contender]:
    """`vireo serve` on one core, warm; of its spec, as it is `changed`. Raises ServerError."""
    shutil.rmtree(shop.folder / "logs" / "impressions", ignore_errors=True)
    ports = {"grpc_port": free_port(), "http_port": free_port()}
    spec = yaml.safe_load(Application(shop.folder).spec.read_text())
    spec["graphs"][GRAPH]["slo_ms"] = SLO_MS
    app = shop.folder / "app.yaml"
    app.write_text(
        yaml.safe_dump({**changed(spec), "server": {"name": "bench", "host": "127.0.0.1", **ports}}, sort_keys=False)
    )
    command = python_module("serving.cli", "serve", str(app))
    log = out / "vireo.log"
    with ServerProcess(command, log=log, core=SERVER_CORE, environment={"PYTHONPATH": str(ROOT)}) as process:
        process.wait_ready(grpc_ready(ports["grpc_port"], GRAPH))
        answers(ports["grpc_port"], shop.frames, WARM_CALLS)
        yield Contender(OURS, ports["grpc_port"], shop.frames, process, ports["http_port"])


def answers(port: int, frames: Path, count: int) -> Answers:
    """Of the first requests, one after the other: outputs by name."""
    found = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for frame in read_frames(frames)[:count]:
            found.append(
                outputs_of(stub.ModelInfer(service_pb2.ModelInferRequest.FromString(message_of(frame)), timeout=30))
            )
    return found


def outputs_of(answer: Any) -> dict[str, Any]:  # noqa: ANN401 - protobuf messages are untyped here
    """item, score and retrieval of an answer, as lists."""
    raw = {each.name: content for each, content in zip(answer.outputs, answer.raw_output_contents, strict=True)}
    kinds = {"item": "<i8", "score": "<f4", "retrieval": "<f4"}
    return {name: np.frombuffer(raw[name], kind).tolist() for name, kind in kinds.items()}


def stages_of(port: int, frames: Path) -> Stages:
    """By the ledgers of calls that come one after the other."""
    found = Stages({}, {}, {}, [])
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for frame in read_frames(frames)[:LEDGER_CALLS]:
            request = service_pb2.ModelInferRequest.FromString(message_of(frame))
            _, call = stub.ModelInfer.with_call(request, timeout=30, metadata=((LEDGER, "1"),))
            told = json.loads(dict(call.trailing_metadata())[LEDGER])
            found.total_us.append(told["total_us"])
            for each in told["stages"]:
                name = each["name"]
                found.waits_us.setdefault(name, []).append(each["wait_us"])
                found.computes_us.setdefault(name, []).append(each["compute_us"])
                found.critical[name] = found.critical.get(name, 0.0) + each["critical"] / LEDGER_CALLS
    return found


def stage_table(stages: Stages) -> Table:
    """A line for each."""
    whole = float(np.median(stages.total_us))
    rows: list[list[Cell]] = []
    for name, computes in stages.computes_us.items():
        compute = float(np.median(computes))
        rows.append(
            [
                name, f"{stages.critical[name]:.0%}", float(np.median(stages.waits_us[name])), compute,
                float(np.percentile(computes, 99)), f"{compute / whole:.0%}",
            ]
        )  # fmt: skip
    rows.append(["the whole request", None, None, whole, float(np.percentile(stages.total_us, 99)), "100%"])
    return Table(
        "Where a request's time goes", f"Ledgers of {len(stages.total_us)} calls, one at a time.", STAGE_COLUMNS, rows
    )
