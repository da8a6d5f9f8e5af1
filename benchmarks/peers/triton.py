"""A real Triton beside ours, serving any ONNX model in its Python backend.

    python -m benchmarks.peers.triton install             # once; some 350 MB into benchmarks/peers/.triton
    python -m benchmarks.peers.triton serve --model models/fraud/1/model.onnx --port 9001 [--no-dynamic-batching]
    python -m benchmarks.peers.triton repository --model models/fraud/1/model.onnx --out DIR --backend onnxruntime

`repository` writes the folder of models only, for a Triton that runs elsewhere, in a container with the ONNX Runtime
backend for one. Benchmarks call `start_triton`. The model itself runs in a child process of the server.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.harness import SERVER_CORE, ServerProcess, free_port
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.peer_server import LOOPBACK
from benchmarks.peers.triton_config import Backend, config_text, read_model
from benchmarks.peers.triton_package import TritonPackage
from benchmarks.servers import ROWS_MAX, Server

BATCHED, UNBATCHED = "Triton, Python backend, dynamic batching", "Triton, Python backend"
MODEL_CODE = Path(__file__).with_name("triton_model.py")
PROBE_S_MAX = 1.0


def start_triton(
    *,
    model_file: Path,
    out: Path,
    dynamic_batching: bool = True,
    model: str | None = None,
    rows_max: int = ROWS_MAX,
    http: bool = False,
) -> Server:
    """Triton on free ports of the loopback, ready, pinned to the server's core; `model` is the name to serve under.

    Raises NotInstalledError where `install` was never run, ServerError when it does not come up.
    """
    TritonPackage().check_installed()
    name = model or name_of(model_file)
    label = BATCHED if dynamic_batching else UNBATCHED
    folder = out / ("triton-batched" if dynamic_batching else "triton")
    shutil.rmtree(folder, ignore_errors=True)
    write_repository(folder / "models", model_file, model=name, rows_max=rows_max, dynamic_batching=dynamic_batching)
    return start_over(folder / "models", name, label=label, http=http)


def start_over(models: Path, probed: str, *, label: str, http: bool = False) -> Server:
    """Triton over a repository that is there, ready once `probed` is; its log lies beside it. Raises as `start_triton`."""
    package = TritonPackage()
    package.check_installed()
    grpc_port, http_port = free_port(), free_port() if http else None
    command = server_command(package, models, grpc_port=grpc_port, http_port=http_port)
    process = ServerProcess(command, log=models.parent / "log", core=SERVER_CORE, environment=package.environment())
    process.wait_ready(triton_ready(f"{LOOPBACK}:{grpc_port}", probed))
    return Server(label, process, grpc_port, http_port)


def name_of(model_file: Path) -> str:
    """The model's name: of its folder in a repository (NAME/VERSION/model.onnx), else of the file."""
    in_repository = model_file.name == "model.onnx" and model_file.resolve().parent.name.isdigit()
    return model_file.resolve().parent.parent.name if in_repository else model_file.stem


def write_repository(
    folder: Path,
    model_file: Path,
    *,
    model: str,
    rows_max: int = ROWS_MAX,
    dynamic_batching: bool = True,
    backend: Backend = Backend.PYTHON,
) -> None:
    """A model repository in `folder` with one model, one version. Raises ValueError for a model that Triton cannot have."""
    text = config_text(read_model(model_file), rows_max=rows_max, dynamic_batching=dynamic_batching, backend=backend)
    place = folder / model / "1"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model_file, place / "model.onnx")
    if backend is Backend.PYTHON:
        shutil.copyfile(MODEL_CODE, place / "model.py")
    (folder / model / "config.pbtxt").write_text(text)


def server_command(package: TritonPackage, models: Path, *, grpc_port: int, http_port: int | None) -> list[str]:
    """The command line; HTTP is off without a port, and so are metrics, which nobody reads here."""
    http = ["--allow-http=false"] if http_port is None else [f"--http-address={LOOPBACK}", f"--http-port={http_port}"]
    return [
        str(package.server),
        f"--model-repository={models}",
        f"--backend-directory={package.backends}",
        "--disable-auto-complete-config",
        "--pinned-memory-pool-byte-size=0",
        "--allow-metrics=false",
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={grpc_port}",
        *http,
    ]


def triton_ready(address: str, model: str) -> Callable[[], bool]:
    """A probe: whether the server at HOST:PORT is ready (all its models are) and `model` is one of them."""

    def probe() -> bool:
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                ready = stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=PROBE_S_MAX).ready
                asked = service_pb2.ModelReadyRequest(name=model)
                return bool(ready and stub.ModelReady(asked, timeout=PROBE_S_MAX).ready)
            except grpc.RpcError:
                return False

    return probe


def serve(given: argparse.Namespace) -> int:
    """Serve in the foreground until a signal; Triton's exit code."""
    package = TritonPackage()
    package.check_installed()
    with tempfile.TemporaryDirectory(prefix="triton-") as folder:
        models = Path(folder)
        batching = not given.no_dynamic_batching
        name = given.name or name_of(given.model)
        write_repository(models, given.model, model=name, rows_max=given.rows_max, dynamic_batching=batching)
        command = server_command(package, models, grpc_port=given.port, http_port=given.http_port)
        child = subprocess.Popen(command, env={**os.environ, **package.environment()})
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        return child.wait()


def repository(given: argparse.Namespace) -> int:
    """Write the model repository and nothing else."""
    write_repository(
        given.out,
        given.model,
        model=given.name or name_of(given.model),
        rows_max=given.rows_max,
        dynamic_batching=not given.no_dynamic_batching,
        backend=given.backend,
    )
    return 0


def install(_: argparse.Namespace) -> int:
    """Install, or install again."""
    TritonPackage().install()
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.triton",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("install", help="download and unpack it").set_defaults(run=install)
    one = commands.add_parser("serve", help="serve one ONNX model in the foreground")
    one.add_argument("--port", type=int, required=True, help="gRPC")
    one.add_argument("--http-port", type=int, help="HTTP as well")
    one.set_defaults(run=serve)
    other = commands.add_parser("repository", help="write the model repository, for a Triton elsewhere")
    other.add_argument("--out", type=Path, required=True, metavar="DIR")
    other.add_argument("--backend", type=Backend, choices=list(Backend), default=Backend.PYTHON)
    other.set_defaults(run=repository)
    for each in (one, other):
        each.add_argument("--model", type=Path, required=True, metavar="FILE", help="ONNX")
        each.add_argument("--name", help="the model's name (default: its folder's in a repository, else the file's)")
        each.add_argument("--rows-max", type=int, default=ROWS_MAX, help="of a batch (default %(default)s)")
        each.add_argument("--no-dynamic-batching", action="store_true")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; 2 where it cannot be done."""
    given = parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except (NotInstalledError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
