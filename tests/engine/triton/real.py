"""A real Triton with models made for tests; where it is not installed, the tests that want it are skipped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.harness import free_port
from benchmarks.peers.triton import server_command, triton_ready
from benchmarks.peers.triton_package import INSTALL, TritonPackage

CODE = Path(__file__).with_name("triton_code.py")
READY_S_MAX = 60.0

SCALE = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
CONFIGS = {
    "scale": SCALE + "max_batch_size: 64\ndynamic_batching { }\nversion_policy: { all { } }",
    "slow": SCALE + "max_batch_size: 1",
    "wide": SCALE.replace("[ -1 ]", "[ 1024 ]") + "max_batch_size: 4096",
    "echo": "".join(
        f'input [ {{ name: "{name}" data_type: TYPE_{kind} dims: [ -1 ] optional: true }} ]\n'
        f'output [ {{ name: "{name}_back" data_type: TYPE_{kind} dims: [ -1 ] }} ]\n'
        for name, kind in (
            ("text", "STRING"),
            ("half", "FP16"),
            ("brain", "BF16"),
            ("flag", "BOOL"),
            ("whole", "INT64"),
        )
    ),
    "count": """
        input [ { name: "n" data_type: TYPE_INT32 dims: [ 1 ] } ]
        output [ { name: "i" data_type: TYPE_INT32 dims: [ 1 ] } ]
        model_transaction_policy { decoupled: true }
    """,
}


def write_model(models: Path, name: str, versions: tuple[int, ...] = (1,), config: str | None = None) -> None:
    """One model in a repository, anew."""
    shutil.rmtree(models / name, ignore_errors=True)
    for version in versions:
        (models / name / str(version)).mkdir(parents=True)
        shutil.copyfile(CODE, models / name / str(version) / "model.py")
    head = f'name: "{name}"\nbackend: "python"\ninstance_group [ {{ kind: KIND_CPU count: 1 }} ]\n'
    (models / name / "config.pbtxt").write_text(head + (config or CONFIGS[name]))


class RealTriton:
    """One server over a folder of models, of which the tests may change some. It can be killed and started again."""

    def __init__(self, folder: Path, models: tuple[str, ...], *, unix: bool = False) -> None:
        self.package = TritonPackage()
        if not self.package.installed:
            pytest.skip(f"Triton is not installed; '{INSTALL}' does that")
        self.models, self._log = folder / "models", folder / "log"
        self.models.mkdir(parents=True)
        for name in models:
            write_model(self.models, name)
        self.port = free_port()
        self._socket = folder / "grpc" if unix else None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of its gRPC."""
        return f"127.0.0.1:{self.port}" if self._socket is None else f"unix:{self._socket}:{self.port}"

    def start(self, probed: str = "scale") -> RealTriton:
        """Returns when `probed` is ready, the last that is loaded."""
        command = server_command(self.package, self.models, grpc_port=self.port, http_port=None)
        if self._socket is not None:
            command = [each for each in command if not each.startswith("--grpc-address=")]
            command.append(f"--grpc-address=unix:{self._socket}")
        control = ["--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false"]
        environment = {**os.environ, **self.package.environment()}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *control], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        probe, until = triton_ready(self.address, probed), time.monotonic() + READY_S_MAX
        while not probe():
            assert time.monotonic() < until, self._log.read_text()[-2000:]
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """As kill -9 does, the processes of its models included."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It answers nothing any more, and closes nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
