"""A server of ours for any spec, requests for any servable, and drivers in processes of their own."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from tritonclient.grpc import service_pb2

from benchmarks.features.part import DriverError, one_thread
from benchmarks.harness import READY_S_MAX, SERVER_CORE, ServerProcess, free_port, grpc_ready, on_cores, python_module
from benchmarks.load.frames import join_frames
from benchmarks.machine import ROOT
from benchmarks.servers import Server

Declared = dict[str, Any]
DATATYPES = {
    np.dtype(np.float32): "FP32", np.dtype(np.float64): "FP64", np.dtype(np.int64): "INT64", np.dtype(np.uint64): "UINT64",
}  # fmt: skip
DRIVER_S_MAX = 600.0


def serve(
    spec: Declared,
    out: Path,
    ready: str,
    *,
    core: int | tuple[int, ...] | None = SERVER_CORE,
    beside: Sequence[Path] = (),
    words: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
    patience_s: float = READY_S_MAX,
) -> Server:
    """`vireo serve` of this spec on free ports, in a new folder `out`, once `ready` answers; files `beside` the spec are copied;
    `words` are its further arguments.

    Raises ServerError.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for each in beside:
        shutil.copyfile(each, out / each.name)
    grpc_port, http_port = free_port(), free_port()
    server = {"host": "127.0.0.1", "grpc_port": grpc_port, "http_port": http_port}
    app = out / "app.yaml"
    app.write_text(
        yaml.safe_dump({**spec, "server": {"name": "bench", **spec.get("server", {}), **server}}, sort_keys=False)
    )
    command = python_module("serving.cli", "serve", str(app), *words)
    process = ServerProcess(
        command, log=out / "vireo.log", core=core, environment={"PYTHONPATH": str(ROOT), **environment}
    )
    process.wait_ready(grpc_ready(grpc_port, ready), patience_s=patience_s)
    return Server("vireo", process, grpc_port, http_port)


def infer_message(
    model: str, inputs: Mapping[str, npt.NDArray[Any]], parameters: Mapping[str, int] | None = None
) -> bytes:
    """A serialised ModelInferRequest."""
    call = service_pb2.ModelInferRequest(model_name=model)
    for name, value in inputs.items():
        call.inputs.add(name=name, datatype=DATATYPES[value.dtype], shape=value.shape)
        call.raw_input_contents.append(value.tobytes())
    for name, number in (parameters or {}).items():
        call.parameters[name].int64_param = number
    message: bytes = call.SerializeToString(deterministic=True)
    return message


def write_frames(file: Path, messages: Sequence[bytes]) -> Path:
    """A frames file."""
    file.write_bytes(join_frames(messages))
    return file


def run_driver(
    module: str, order: object, *, core: int | tuple[int, ...] | None, timeout_s: float = DRIVER_S_MAX
) -> Any:  # noqa: ANN401 - the driver's JSON
    """What a driver prints. Raises DriverError where it ends badly or not at all."""
    command = python_module(module)
    try:
        done = subprocess.run(
            command if core is None else on_cores(core, command),
            input=json.dumps(order).encode(), capture_output=True, timeout=timeout_s, cwd=ROOT, check=False,
            env=one_thread(),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DriverError(f"{module} did not end within {timeout_s:g} s") from error
    if done.returncode:
        raise DriverError(f"{module} broke down: {done.stderr.decode(errors='replace')[-2000:].strip()}")
    return json.loads(done.stdout.splitlines()[-1])
