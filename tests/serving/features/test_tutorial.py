"""The programs of the tutorial run, and print what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.features.conftest import compile_kernels
from tests.serving.servers import ServerHere, spec_for
from tests.test_docs import TUTORIALS, blocks


def test_programs_of_the_tutorial_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compile_kernels(tmp_path / "compiling")
    page = TUTORIALS / "features-api.md"
    spec = blocks(page, "yaml")[0] + "server: {grpc_port: 0, http_port: 0, flight_port: 0}\n"
    server = ServerHere(spec_for(spec, tmp_path, "grpcio"))
    ports = {8000: server.host.http_port, 8001: server.host.grpc_port, 8815: server.host.flight_port}
    try:
        for program in blocks(page, "python"):
            for port, ours in ports.items():
                program = program.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
            exec(compile(program, page.name, "exec"), {})
    finally:
        server.stop()
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "['payments_1h', 'amount_1h', 'amount_mean', 'last_merchant', 'excess']",
        "[2.0, 10.0, 5.0, 'bank', 100.0] ['present', 'missing']",
        "[ 2. 10.] [0, 1]",
        "bank",
    ]
