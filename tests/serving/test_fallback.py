"""Where the native transport is not installed: grpcio serves in its place, and everybody is told so who asks or should know."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from engine import ServerSpec, SpecError
from serving.transport import transport_of
from tests.fakes import PATIENCE_S
from tests.serving.calls import typed
from tests.serving.models import MEETING
from tests.serving.over_http.bodies import numbers, values_of
from tests.serving.servers import PROJECT, ServerProcess, vireo

MODULE = "serving.native._wire"
DOUBLE = MEETING.replace("meeting", "double")
MISSING, REMEDY = "the native transport is not installed", "apt install g++ python3-dev libnghttp2-14"

Serve = Callable[..., ServerProcess]


@pytest.fixture
def without(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has no native transport."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{MODULE!r}] = None\n")
    return {"PYTHONPATH": f"{folder}:{PROJECT}"}


def _app(folder: Path, server: str) -> Path:
    path = folder / "app.yaml"
    path.write_text(f"server: {{{server}}}\n{DOUBLE}")
    return path


def _ask_grpc(address: str) -> list[float]:
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(typed("double", "x", "FP32", (1, 1), fp32_contents=[1.5]), timeout=PATIENCE_S)
    return [float(each) for each in np.frombuffer(answer.raw_output_contents[0], np.float32)]


def test_grpcio_serves_and_it_is_told_once_what_is_missing(
    serve: Serve, without: dict[str, str], tmp_path: Path
) -> None:
    server = serve(_app(tmp_path, "grpc_port: 0, http_port: 0"), **without)
    assert _ask_grpc(server.address) == [3.0]
    url = server.wait_for_line("vireo: serving").split("HTTP on ")[1].strip()
    with httpx.Client(base_url=f"http://{url}") as client:
        assert values_of(client.post("/v2/models/double/infer", json=numbers(1.5))) == [3.0]
    told = [line for line in server.output.splitlines() if MISSING in line]
    assert len(told) == 1
    assert "WARNING vireo.serving: gRPC is served by grpcio, slower" in told[0]
    assert REMEDY in told[0]


def test_who_asks_for_grpcio_is_not_warned(serve: Serve, without: dict[str, str], tmp_path: Path) -> None:
    server = serve(_app(tmp_path, "grpc_port: 0, http_port: null, transport: grpcio"), **without)
    assert _ask_grpc(server.address) == [3.0]
    assert "WARNING" not in server.output


@pytest.mark.parametrize("command", ["serve", "check", "explain"])
@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("transport: native", f"vireo: server.transport: {MISSING}"),
        (
            "grpc_port: 8123, http_port: 8123",
            "grpc_port and http_port are both 8123, but only the native transport can",
        ),
    ],
)
def test_what_only_the_native_one_can_do_is_refused(
    without: dict[str, str], tmp_path: Path, command: str, server: str, words: str
) -> None:
    ended = vireo(command, _app(tmp_path, server), folder=tmp_path, **without)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert REMEDY in ended.stderr
    assert "Traceback" not in ended.stderr


def test_check_and_explain_say_which_one_would_serve(without: dict[str, str], tmp_path: Path) -> None:
    app = _app(tmp_path, "grpc_port: 8001, http_port: null, unix_socket: v.sock")
    for environment, name in ((without, "grpcio"), ({}, "native")):
        checked, explained = (vireo(each, app, folder=tmp_path, **environment) for each in ("check", "explain"))
        assert checked.stdout.endswith(f"; transport {name}\n"), checked.stderr
        assert f"\n  transport: {name}" in explained.stdout
        assert (MISSING in explained.stdout) is (name == "grpcio")
    assert "server vireo: gRPC on 127.0.0.1:8001, gRPC and HTTP on unix:" in explained.stdout


# The choice.


@pytest.mark.parametrize(("asked", "found"), [("auto", "native"), ("native", "native"), ("grpcio", "grpcio")])
def test_installed_one_is_chosen_unless_the_other_is_asked_for(
    asked: Literal["auto", "native", "grpcio"], found: str
) -> None:
    assert transport_of(ServerSpec(transport=asked)).name == found


def test_missing_one_is_chosen_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    found = transport_of(ServerSpec())
    assert (found.native, found.name) == (False, "grpcio")
    assert MISSING in (found.why_not or "")
    with pytest.raises(SpecError, match=f"server.transport: {MISSING}"):
        transport_of(ServerSpec(transport="native"))


@pytest.mark.parametrize(("grpc_port", "http_port"), [(None, None), (0, 0), (None, 8000), (8001, 8000)])
def test_ports_that_grpcio_can_have_are_allowed(grpc_port: int | None, http_port: int | None) -> None:
    spec = ServerSpec(transport="grpcio", grpc_port=grpc_port, http_port=http_port, unix_socket="x")
    assert transport_of(spec).name == "grpcio"


def test_one_port_with_grpcio_is_refused() -> None:
    with pytest.raises(SpecError, match=r"both 8000, but only the native transport can; server.transport is grpcio"):
        transport_of(ServerSpec(transport="grpcio", grpc_port=8000, http_port=8000))
