"""One port for every client of the native transport, and connections that never say what they speak."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.grpc import service_pb2_grpc

from engine import SpecError, limits
from serving.native.door import PREFACE
from serving.native.server import NativeServer
from tests.fakes import PATIENCE_S
from tests.serving.calls import numbers as numbers_over_grpc
from tests.serving.calls import together, typed
from tests.serving.models import MEETING
from tests.serving.over_http.bodies import numbers, triton_numbers, values_of
from tests.serving.over_http.wire import Connection, request
from tests.serving.servers import ServerHere, ServerProcess, eventually, vireo

DOUBLE = MEETING.replace("meeting", "double")
LIVE = request("GET", "/livez")

Start = Callable[[str], ServerHere]
Serve = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def transport() -> str:
    """The only one with such a door."""
    return "native"


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def _spec(port: int, more: str = "") -> str:
    return f"server: {{grpc_port: {port}, http_port: {port}, drain_s: 5{more}}}\n{DOUBLE}"


@pytest.fixture
def port(start: Start) -> int:
    """Where a server answers."""
    asked = _free_port()
    server = start(_spec(asked))
    assert (server.host.grpc_port, server.host.http_port) == (asked, asked)
    return asked


# Every client, each with its own way to ask.


def ask_grpc(port: int) -> object:
    """grpcio."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(typed("double", "x", "FP32", (1, 1), fp32_contents=[1.5]), timeout=PATIENCE_S)
        return np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()


def ask_triton_grpc(port: int) -> object:
    """tritonclient.grpc."""
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        return client.infer("double", numbers_over_grpc(1.5)).as_numpy("y").ravel().tolist()


def ask_triton_grpc_aio(port: int) -> object:
    """tritonclient.grpc.aio."""

    async def ask() -> object:
        async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
            return (await client.infer("double", numbers_over_grpc(1.5))).as_numpy("y").ravel().tolist()

    return asyncio.run(ask())


def ask_triton_http(port: int) -> object:
    """tritonclient.http."""
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}") as client:
        return client.infer("double", triton_numbers(1.5)).as_numpy("y").ravel().tolist()


def ask_triton_http_aio(port: int) -> object:
    """tritonclient.http.aio."""

    async def ask() -> object:
        async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
            return (await client.infer("double", triton_numbers(1.5))).as_numpy("y").ravel().tolist()

    return asyncio.run(ask())


def _ask_httpx(port: int, version: str) -> object:
    http2 = version == "HTTP/2"
    with httpx.Client(http1=not http2, http2=http2, timeout=PATIENCE_S) as client:
        answer = client.post(f"http://127.0.0.1:{port}/v2/models/double/infer", json=numbers(1.5))
    assert answer.http_version == version
    return values_of(answer)


def ask_http1(port: int) -> object:
    """httpx over HTTP/1.1."""
    return _ask_httpx(port, "HTTP/1.1")


def ask_http2(port: int) -> object:
    """httpx over HTTP/2, known beforehand."""
    return _ask_httpx(port, "HTTP/2")


CLIENTS = [
    ask_grpc, ask_triton_grpc, ask_triton_http, ask_triton_http_aio, ask_http1, ask_http2,
]  # fmt: skip


def test_every_client_is_served_at_once(port: int) -> None:
    asked = [partial(each, port) for each in CLIENTS * 5]
    assert together(asked) == [[3.0]] * len(asked)


def test_client_on_a_loop_of_grpcio_is_served(port: int) -> None:
    assert ask_triton_grpc_aio(port) == [3.0]


@pytest.mark.parametrize(
    ("option", "version"), [("--http2-prior-knowledge", "2"), ("--http1.1", "1.1"), ("--http1.0", "1.1")]
)
def test_curl_is_served(port: int, option: str, version: str) -> None:
    assert _curl(port, option) == f"ok\n{version}"


def test_curl_that_would_rather_upgrade_is_served_as_it_asked(port: int) -> None:
    assert _curl(port, "--http2") == "ok\n1.1", "an Upgrade to h2c is passed over"


def _curl(port: int, *options: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    command = ["curl", "-sS", "-w", "%{http_version}", *options, f"http://127.0.0.1:{port}/livez"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.stderr == ""
    return ended.stdout


def test_port_that_is_taken_is_told_once(start: Start, port: int) -> None:
    with pytest.raises(SpecError, match=f"server.grpc_port: cannot listen on 127.0.0.1:{port}: Address already in use"):
        start(_spec(port))


# The command.


def test_command_says_that_there_is_one_port(serve: Serve, tmp_path: Path) -> None:
    port = _free_port()
    (tmp_path / "app.yaml").write_text(_spec(port))
    server = serve(tmp_path / "app.yaml")
    assert server.wait_for_line("serving").strip() == f"vireo: serving gRPC and HTTP on 127.0.0.1:{port}"
    assert server.address == f"127.0.0.1:{port}"
    assert [each(port) for each in (ask_grpc, ask_http1, ask_http2)] == [[3.0]] * 3


def test_command_takes_one_port_from_its_options(serve: Serve, tmp_path: Path) -> None:
    port = _free_port()
    (tmp_path / "app.yaml").write_text(DOUBLE)
    server = serve(tmp_path / "app.yaml", "--grpc-port", str(port), "--http-port", str(port))
    assert server.wait_for_line("serving").strip() == f"vireo: serving gRPC and HTTP on 127.0.0.1:{port}"


def test_explanation_says_that_there_is_one_port(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(_spec(8123))
    ended = vireo("explain", "app.yaml", folder=tmp_path)
    assert "server vireo: gRPC and HTTP on 127.0.0.1:8123\n  transport: native\n" in ended.stdout, ended.stderr


# Those who do not say what they speak.


@pytest.mark.parametrize("sent", [b"", b"P", b"PRI", b"PRI *"])
def test_connection_that_does_not_say_what_it_speaks_is_hung_up_on(
    start: Start, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX" if sent else "HTTP_KEEP_ALIVE_S", 0.1)
    server = start(_spec(_free_port()))
    assert server.port is not None
    with Connection(server.port) as connection:
        connection.send(sent)
        assert connection.is_closed()
    assert ask_http1(server.port) == [3.0]


def test_connection_may_be_opened_long_before_it_is_used(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 0.05)
    server = start(_spec(_free_port()))
    assert server.port is not None
    with Connection(server.port) as early, Connection(server.port) as halting:
        halting.send(b"P")
        assert halting.is_closed()
        assert early.ask(LIVE).status == 200


@pytest.mark.parametrize("size", range(1, 8))
def test_first_bytes_may_come_in_any_pieces(port: int, size: int) -> None:
    with Connection(port) as connection:
        for at in range(0, len(LIVE), size):
            connection.send(LIVE[at : at + size])
        assert connection.read().status == 200
        assert connection.ask(LIVE).status == 200
    with Connection(port) as connection:
        opening = PREFACE + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
        for at in range(0, len(opening), size):
            connection.send(opening[at : at + size])
        assert not connection.is_closed(), "it answers with its settings"


@pytest.mark.parametrize(
    "sent", [b"PRI * HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", b"PRI * " + bytes(100_000), bytes(100_000)]
)
def test_connection_that_says_nonsense_is_hung_up_on(port: int, sent: bytes) -> None:
    with Connection(port) as connection:
        connection.send_what_it_takes([sent])
        for _ in range(3):
            with suppress(Exception):
                connection.read()
        assert connection.is_closed()
    assert ask_http1(port) == [3.0]


def test_client_that_leaves_at_the_door_leaves_nothing_behind(start: Start) -> None:
    server = start(_spec(_free_port()))
    assert server.port is not None
    (native,) = [each for each in server.host._fronts if isinstance(each, NativeServer)]
    for sent in (b"", b"P", b"PRI * HTTP", b"GE"):
        with Connection(server.port) as connection:
            connection.send(sent)
    eventually(lambda: native.undecided() == native.connections() == 0, "they are forgotten")


def test_connections_at_the_door_do_not_hold_up_the_end(start: Start) -> None:
    server = start(_spec(_free_port()))
    assert server.port is not None
    with Connection(server.port) as silent, Connection(server.port) as halting:
        halting.send(b"PRI")
        assert ask_http2(server.port) == [3.0]
        server.stop()  # within PATIENCE_S; they would have HTTP_KEEP_ALIVE_S
        assert silent.is_closed()
        assert halting.is_closed()
