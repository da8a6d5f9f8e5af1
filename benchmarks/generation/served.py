"""The servers of a small language model under vLLM: Vireo's, and vLLM's own of the same version with the same arguments."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from benchmarks.harness import ServerProcess, free_port
from benchmarks.process_cpu import own_cpu_seconds
from benchmarks.workloads.generation.model import write_model

MODEL = "smol"
ARGS: Mapping[str, str | int | bool] = {"enforce-eager": True, "max-model-len": 1024, "max-num-seqs": 16}
"""vLLM's, for both: started in half the time, and no more cache or places than sixteen callers need."""

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0-1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
READY_S_MAX = 300.0
OURS, RIVAL = "vireo", "vllm serve"


@dataclass(frozen=True, slots=True)
class LanguageServer:
    """One that answers the OpenAI API on `port`; `grpc_port` where it speaks gRPC too. The model's name is MODEL."""

    name: str
    process: ServerProcess
    port: int
    grpc_port: int | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def front_cpu_s(self) -> float:
        """CPU seconds of the process that callers speak to: the model computes in another."""
        return own_cpu_seconds(self.process.pid)


def model_folder(cache: Path) -> Path:
    """The model, made where it is not there yet."""
    return write_model(cache / MODEL)


@contextmanager
def vireo(model: Path, out: Path, **args: str | int | bool) -> Iterator[LanguageServer]:
    """`vireo serve`, ready. `args`: of vLLM, over those of ARGS. Raises ServerError."""
    grpc_port, http_port = free_port(), free_port()
    spec = {
        "server": {"name": "bench", "host": "127.0.0.1", "grpc_port": grpc_port, "http_port": http_port},
        "language_models": {MODEL: {"vllm": {"model": str(model.resolve()), "args": {**ARGS, **_dashed(args)}}}},
    }
    out.mkdir(parents=True, exist_ok=True)
    app = out / "app.yaml"
    app.write_text(yaml.safe_dump(spec, sort_keys=False))
    command = [sys.executable, "-m", "serving.cli", "serve", str(app)]
    with ServerProcess(command, log=out / "vireo.log", core=None, environment=ENVIRONMENT) as process:
        yield _ready(LanguageServer(OURS, process, http_port, grpc_port), "/readyz")


@contextmanager
def vllm_serve(model: Path, out: Path) -> Iterator[LanguageServer]:
    """What the command `vllm serve` runs, without a line of log a request, which Vireo does not write either; ready.
    Raises ServerError."""
    port = free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(model.resolve()),
        "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log",
        *(word for name, value in ARGS.items() for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])),
    ]  # fmt: skip
    with ServerProcess(command, log=out / "vllm-serve.log", core=None, environment=ENVIRONMENT) as process:
        yield _ready(LanguageServer(RIVAL, process, port), "/health")


def _dashed(args: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {name.replace("_", "-"): value for name, value in args.items()}


def _ready(server: LanguageServer, path: str) -> LanguageServer:
    def probe() -> bool:
        try:
            return httpx.get(server.url + path, timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False

    server.process.wait_ready(probe, patience_s=READY_S_MAX)
    return server
