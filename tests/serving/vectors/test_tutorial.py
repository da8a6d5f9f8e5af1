"""The programs of the tutorial run, and print what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.servers import ServerHere, spec_for
from tests.test_docs import TUTORIALS, blocks


def test_programs_of_the_tutorial_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = TUTORIALS / "vectors.md"
    spec = blocks(page, "yaml")[0] + "server: {grpc_port: 0, http_port: 0}\n"
    server = ServerHere(spec_for(spec, tmp_path, "grpcio"))
    ports = {8000: server.host.http_port, 8001: server.host.grpc_port}
    known: dict[str, object] = {}
    try:
        for program in blocks(page, "python"):
            for port, ours in ports.items():
                program = program.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
            exec(compile(program, page.name, "exec"), known)
    finally:
        server.stop()
    assert capsys.readouterr().out.splitlines() == [
        "{'offset': 3, 'count': 3, 'token': '0:3'}",
        "['The red house mystery', 'The house of mirth']",
        "[3, 2] 3 plans",
        "1",
        "{'count': 1}",
        "{'points': [{'id': 1}, {'id': 2}], 'next': 2}",
        "1",
        "2",
        "[3]",
    ]
