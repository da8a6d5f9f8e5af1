"""The servers that the benchmarks run: ours, and the plain rival in two dresses; pinned to one core unless told."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import yaml

from benchmarks.fraud_inputs import MODEL
from benchmarks.harness import SERVER_CORE, ServerProcess, free_port, grpc_ready, python_module

ROWS_MAX = 64


@dataclass(slots=True)
class Server:
    """A server that answers; `http_port` is None where it speaks gRPC only."""

    name: str
    process: ServerProcess
    grpc_port: int
    http_port: int | None

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()


def vireo_spec(
    *,
    models: Path,
    grpc_port: int,
    http_port: int,
    control: str = "none",
    latest: int | None = None,
    model: str = MODEL,
    rows_max: int = ROWS_MAX,
    transport: str | None = None,
) -> dict[str, object]:
    """The app that serves one model; `latest` bounds how many versions are kept loaded, `transport` None is Vireo's own
    choice."""
    settings: dict[str, object] = {"batching": {"rows_max": rows_max}}
    if latest is not None:
        settings["versions"] = {"latest": latest}
    server = {"name": "bench", "host": "127.0.0.1", "grpc_port": grpc_port, "http_port": http_port}
    return {
        "server": server if transport is None else {**server, "transport": transport},
        "repository": {"path": str(models.resolve()), "control": control},
        "models": {model: settings},
    }


def start_vireo(
    *,
    models: Path,
    out: Path,
    control: str = "none",
    latest: int | None = None,
    model: str = MODEL,
    rows_max: int = ROWS_MAX,
    transport: str | None = None,
    core: int | tuple[int, ...] = SERVER_CORE,
) -> Server:
    """`vireo serve` on free ports, ready. Raises ServerError when it does not come up."""
    grpc_port, http_port = free_port(), free_port()
    spec = vireo_spec(
        models=models, grpc_port=grpc_port, http_port=http_port, control=control, latest=latest,
        model=model, rows_max=rows_max, transport=transport,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    name = "vireo" if transport is None else f"vireo {transport}"
    app = out / ("app.yaml" if transport is None else f"app-{transport}.yaml")
    app.write_text(yaml.safe_dump(spec, sort_keys=False))
    command = [sys.executable, "-m", "serving.cli", "serve", str(app)]
    process = ServerProcess(command, log=out / f"{name.replace(' ', '-')}.log", core=core)
    return _ready(Server(name, process, grpc_port, http_port), model)


def start_plain(*, model_file: Path, out: Path, uvloop: bool = False) -> Server:
    """The 40-line grpc.aio server on a free port, ready."""
    port, name = free_port(), "plain grpc.aio + uvloop" if uvloop else "plain grpc.aio"
    words = ["--port", str(port), "--model", str(model_file), *(["--uvloop"] if uvloop else [])]
    command = python_module("benchmarks.peers.plain_grpc_server", *words)
    process = ServerProcess(command, log=out / f"{name.replace(' ', '-')}.log", core=SERVER_CORE)
    return _ready(Server(name, process, port, None))


def _ready(server: Server, model: str = MODEL) -> Server:
    server.process.wait_ready(grpc_ready(server.grpc_port, model))
    return server
