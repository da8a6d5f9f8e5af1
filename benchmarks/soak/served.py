"""The server under the soak: one `vireo serve` with the fraud model, a copy of it that comes and goes, and functions."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from benchmarks.fraud_inputs import MODEL, FraudInputs
from benchmarks.harness import SERVER_CORE, ServerProcess, free_port, grpc_ready

COMING_AND_GOING = "coming_and_going"
FUNCTIONS = "benchmarks.soak.functions"
SLOW_INSTANCES = 4


@dataclass(slots=True)
class Served:
    """The server, ready."""

    process: ServerProcess
    grpc_port: int
    http_port: int
    log: Path

    def __enter__(self) -> "Served":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()


def serve(inputs: FraudInputs, out: Path, transport: str) -> Served:
    """`vireo serve` on core 0, with every model loaded. Raises ServerError when it does not come up."""
    models = repository(inputs, out / "models")
    grpc_port, http_port = free_port(), free_port()
    app, log = out / "app.yaml", out / "vireo.log"
    app.write_text(yaml.safe_dump(spec(models, grpc_port, http_port, transport), sort_keys=False))
    command = [sys.executable, "-m", "serving.cli", "serve", str(app)]
    served = Served(ServerProcess(command, log=log, core=SERVER_CORE), grpc_port, http_port, log)
    for model in (MODEL, COMING_AND_GOING):
        served.process.wait_ready(grpc_ready(grpc_port, model))
    return served


def repository(inputs: FraudInputs, models: Path) -> Path:
    """A fresh repository: the newest fraud model under two names."""
    shutil.rmtree(models, ignore_errors=True)
    for name in (MODEL, COMING_AND_GOING):
        shutil.copytree(inputs.models / MODEL / "2", models / name / "1")
    return models


def spec(models: Path, grpc_port: int, http_port: int, transport: str) -> dict[str, Any]:
    """The app."""
    return {
        "server": {
            "name": "soak", "host": "127.0.0.1", "grpc_port": grpc_port, "http_port": http_port, "transport": transport,
        },
        "repository": {"path": str(models.resolve()), "control": "explicit"},
        "functions": {
            "negate": function("negate", {"x": ("FP32", -1)}, ("FP32", -1)),
            "fill": function("fill", {"count": ("INT32", 1)}, ("FP32", -1)),
            "slow": {
                **function("slow", {"value": ("INT32", 1), "sleep_ms": ("INT32", 1)}, ("INT32", 1)),
                "instances": SLOW_INSTANCES,
                "inline_us_max": 0,
            },
            "shout": function("shout", {"text": ("BYTES", -1)}, ("BYTES", -1)),
            "countdown": function("countdown", {"start": ("INT32", 1)}, ("INT32", 256)),
            "refuse": function("refuse", {"x": ("FP32", -1)}, ("FP32", -1)),
        },
    }  # fmt: skip


def function(name: str, inputs: dict[str, tuple[str, int]], output: tuple[str, int]) -> dict[str, Any]:
    """One function of the app, all of whose tensors have one dimension."""

    def tensor(datatype: str, size: int) -> dict[str, Any]:
        return {"datatype": datatype, "shape": [size]}

    return {
        "call": f"{FUNCTIONS}:{name}",
        "inputs": {name: tensor(*each) for name, each in inputs.items()},
        "outputs": {"y": tensor(*output)},
    }
