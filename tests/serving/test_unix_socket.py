"""A Unix domain socket: who is served on it, what may lie in its way, and what is left of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from engine import ServerSpec, SpecError
from serving.auth import check_exposure
from serving.unix_socket import UnixSocket
from tests.fakes import PATIENCE_S, Gate
from tests.serving import functions
from tests.serving.calls import message, refused, together, typed
from tests.serving.models import MEETING
from tests.serving.over_http.bodies import HEADER_LENGTH, numbers, values_of
from tests.serving.over_http.wire import request
from tests.serving.servers import ServerHere, ServerProcess, eventually, vireo
from tests.serving.test_access import Certificates
from tests.serving.test_access import certificates as certificates  # a fixture

DOUBLE = MEETING.replace("meeting", "double")
INFER, GATED = "/v2/models/double/infer", "/v2/models/gated/infer"

Start = Callable[[str], ServerHere]
Serve = Callable[..., ServerProcess]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for a name."""
    made = Path(tempfile.mkdtemp(prefix="vireo-"))
    yield made
    shutil.rmtree(made)


def _spec(path: Path | str, more: str = "", ports: str = "grpc_port: null, http_port: null") -> str:
    return f"server: {{unix_socket: '{path}', {ports}, drain_s: 5{more}}}\n{DOUBLE}"


def _ask_grpc(path: Path, value: float = 1.5) -> list[float]:
    with grpc.insecure_channel(f"unix:{path}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(typed("double", "x", "FP32", (1, 1), fp32_contents=[value]), timeout=PATIENCE_S)
    return [float(each) for each in np.frombuffer(answer.raw_output_contents[0], np.float32)]


def _http(path: Path, *, http2: bool = False) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(path), http1=not http2, http2=http2)
    return httpx.Client(transport=transport, base_url="http://vireo", timeout=PATIENCE_S)


def _ask_http(path: Path, *, http2: bool) -> list[float]:
    with _http(path, http2=http2) as client:
        answer = client.post(INFER, json=numbers(1.5))
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        return list(values_of(answer))


only_native = pytest.mark.parametrize("transport", ["native"], scope="session")


# Who is served.


def test_grpc_is_served_without_any_port(start: Start, folder: Path) -> None:
    path = folder / "vireo.sock"
    server = start(_spec(path))
    assert (server.host.grpc_port, server.host.http_port) == (None, None)
    assert _ask_grpc(path) == [3.0]
    with refused("NOT_FOUND"), grpc.insecure_channel(f"unix:{path}") as channel:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message("none"), timeout=PATIENCE_S)


@only_native
def test_every_protocol_is_served_at_once(start: Start, folder: Path) -> None:
    path = folder / "vireo.sock"
    server = start(_spec(path, ports="grpc_port: 0, http_port: null"))
    asked: list[Callable[[], object]] = [
        lambda: _ask_grpc(path),
        lambda: _ask_http(path, http2=True),
        lambda: _ask_http(path, http2=False),
    ]
    assert together(asked * 4) == [[3.0]] * 12
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        assert values_of(client.post(INFER, json=numbers(1.5))) == [3.0], "the port is served beside it"


@only_native
def test_large_bodies_go_both_ways(start: Start, folder: Path) -> None:
    path, values = folder / "vireo.sock", np.arange(4 << 20, dtype=np.float32)
    large = DOUBLE.replace("batchable: true", "batchable: false").replace("[-1, 1]", "[-1]")
    start(_spec(path).replace(DOUBLE, large))
    for http2 in (True, False):
        with _http(path, http2=http2) as client:
            answer = client.post(INFER, content=values.tobytes(), headers={HEADER_LENGTH: "0"})
        content = answer.content[int(answer.headers[HEADER_LENGTH]) :]
        np.testing.assert_array_equal(np.frombuffer(content, np.float32), values * 2)


@only_native
def test_curl_is_served(start: Start, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    start(_spec(folder / "vireo.sock"))
    for option, version in (("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")):
        command = ["curl", "-sS", option, "--unix-socket", str(folder / "vireo.sock"), "-w", "%{http_version}"]
        ended = subprocess.run([*command, "http://vireo/livez"], capture_output=True, text=True, timeout=PATIENCE_S)
        assert (ended.stdout, ended.stderr) == (f"ok\n{version}", "")


def test_tokens_are_asked_for_here_too(start: Start, folder: Path) -> None:
    (folder / "tokens").write_text("token")
    start(_spec(folder / "vireo.sock", f", auth: {{tokens_file: {folder / 'tokens'}}}"))
    with refused("UNAUTHENTICATED"):
        _ask_grpc(folder / "vireo.sock")


def test_tls_is_spoken_here_too(start: Start, folder: Path, certificates: Certificates) -> None:
    path, pems = folder / "vireo.sock", certificates.folder
    start(_spec(path, f", tls: {{certificate: {pems}/server.pem, key: {pems}/server-key.pem}}"))
    credentials = grpc.ssl_channel_credentials(certificates.read("authority"))
    options = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(f"unix:{path}", credentials, options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = typed("double", "x", "FP32", (1, 1), fp32_contents=[1.5])
        assert stub.ModelInfer(request, timeout=PATIENCE_S).model_name == "double"
    with refused("UNAVAILABLE"):
        _ask_grpc(path)


@only_native
def test_request_of_a_client_that_leaves_is_never_computed(start: Start, folder: Path, gate: Gate) -> None:
    path = folder / "vireo.sock"
    server = start(_spec(path).replace("double", "gated"))
    with ThreadPoolExecutor() as pool, _http(path, http2=True) as client, socket.socket(socket.AF_UNIX) as leaving:
        held = pool.submit(client.post, GATED, json=numbers(1.0))
        gate.wait_entered()
        leaving.connect(str(path))
        leaving.sendall(request("POST", GATED, json.dumps(numbers(2.0)).encode()))
        eventually(lambda: server.waiting("gated") == 1, "one waits")
        leaving.close()
        eventually(lambda: server.in_flight == 1, "the server has seen that it is gone")
        gate.open()
        assert values_of(held.result(PATIENCE_S)) == [2.0]
    assert functions.COMPUTED == [1.0]


@pytest.mark.parametrize("name", ["a b", "50%20", "ü", "a#b?c=d", "a'b"])
def test_path_may_have_any_characters(start: Start, folder: Path, name: str) -> None:
    start(_spec(str(folder / name).replace("'", "''")))
    assert stat.S_ISSOCK((folder / name).stat().st_mode)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / name))


def test_path_begins_at_the_folder_of_the_spec(start: Start, tmp_path: Path) -> None:
    if len(os.fsencode(tmp_path)) > 100:
        pytest.skip("the test's folder has too long a path")
    start(_spec("v"))
    assert _ask_grpc(tmp_path / "v") == [3.0]


def test_socket_is_exposed_to_no_other_machine() -> None:
    check_exposure(ServerSpec(host="0.0.0.0", grpc_port=None, http_port=None, unix_socket="x"))
    with pytest.raises(SpecError, match="reachable from other machines"):
        check_exposure(ServerSpec(host="0.0.0.0", grpc_port=None, http_port=1, unix_socket="x"))


# The file.


def test_file_is_this_users_alone_and_gone_in_the_end(start: Start, folder: Path) -> None:
    path = folder / "vireo.sock"
    before = os.umask(0)
    try:
        server = start(_spec(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.umask(before) == before, "the umask is as it was"
    server.stop()
    assert list(folder.iterdir()) == []


def test_file_of_a_server_that_was_killed_is_replaced(serve: Serve, folder: Path) -> None:
    path, app = folder / "vireo.sock", folder / "app.yaml"
    app.write_text(_spec(path, ports="grpc_port: 0, http_port: null"))
    for _ in range(2):
        server = serve(app)
        assert _ask_grpc(path) == [3.0]
        server.kill()
        assert path.is_socket()
    server = serve(app)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not path.exists()


def test_server_that_answers_is_not_replaced(start: Start, folder: Path) -> None:
    path = folder / "vireo.sock"
    first = start(_spec(path))
    with pytest.raises(SpecError, match=r"server.unix_socket: cannot listen on '.*vireo.sock': another server answers"):
        start(_spec(path))
    assert _ask_grpc(path) == [3.0]
    first.stop()
    start(_spec(path))
    assert _ask_grpc(path) == [3.0]


def test_server_too_busy_to_accept_is_not_replaced(folder: Path) -> None:
    path = folder / "vireo.sock"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(str(path))
        with pytest.raises(SpecError, match="another server answers there"):
            UnixSocket(path).listen(1)
        for each in waiting:
            each.close()
    assert path.is_socket()


def _regular(path: Path) -> None:
    path.write_text("precious")


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to("nowhere")


def _link_to_a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path) + ".real")
    path.symlink_to(str(path) + ".real")


@pytest.mark.parametrize("make", [_regular, _folder, _pipe, _link, _link_to_a_socket])
def test_whatever_else_is_in_the_way_stays(start: Start, folder: Path, make: Callable[[Path], None]) -> None:
    path = folder / "vireo.sock"
    make(path)
    was = os.lstat(path)
    with pytest.raises(SpecError, match="something else than a socket is there already"):
        start(_spec(path, ports="grpc_port: 0, http_port: null"))
    is_now = os.lstat(path)
    assert (is_now.st_ino, is_now.st_mode, is_now.st_mtime_ns) == (was.st_ino, was.st_mode, was.st_mtime_ns)


def test_socket_of_another_kind_in_the_way_stays(start: Start, folder: Path) -> None:
    path = folder / "vireo.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(SpecError, match=r"vireo.sock': Protocol wrong type for socket"):
            start(_spec(path))
    assert path.is_socket()


def test_path_that_is_too_long_is_told(start: Start, folder: Path) -> None:
    room = 107 - len(os.fsencode(folder)) - 1
    longest = folder / ("x" * room)
    start(_spec(longest)).stop()
    with pytest.raises(SpecError, match="its path has 108 bytes, at most 107 are possible"):
        start(_spec(folder / ("x" * (room + 1))))
    with pytest.raises(SpecError, match="its path has 108 bytes"):
        start(_spec(folder / ("x" * (room - 1) + "é")))


@pytest.mark.parametrize("place", ["none/vireo.sock", "file/vireo.sock"])
def test_folder_that_is_missing_is_told(start: Start, folder: Path, place: str) -> None:
    (folder / "file").touch()
    with pytest.raises(SpecError, match=f"there is no folder '{folder / place.split('/')[0]}'"):
        start(_spec(folder / place))


def test_folder_one_may_not_write_to_is_told(start: Start, folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder.chmod(0o500)
    with pytest.raises(SpecError, match=r"cannot listen on .*: Permission denied"):
        start(_spec(folder / "vireo.sock"))
    folder.chmod(0o700)


def test_file_of_a_successor_stays(folder: Path) -> None:
    path = folder / "vireo.sock"
    first, second = UnixSocket(path), UnixSocket(path)
    first.listen(1).close()
    with second.listen(1):
        first.remove()
        assert path.is_socket()
        second.remove()
        assert not path.exists()
        second.remove()


# The command.


def test_command_says_where_it_listens(serve: Serve, folder: Path, transport: str) -> None:
    app = folder / "app.yaml"
    ports = f"grpc_port: 0, http_port: null, transport: {transport}"
    app.write_text(_spec("vireo.sock", ports=ports))
    line = serve(app).wait_for_line("vireo: serving").strip()
    what = "gRPC and HTTP" if transport == "native" else "gRPC"
    assert line.endswith(f", {what} on unix:{folder / 'vireo.sock'}")
    assert _ask_grpc(folder / "vireo.sock") == [3.0]


def test_command_refuses_what_is_in_the_way(folder: Path) -> None:
    (folder / "vireo.sock").touch()
    (folder / "app.yaml").write_text(_spec("vireo.sock"))
    ended = vireo("serve", "app.yaml", folder=folder)
    assert ended.returncode == 1
    assert "vireo: server.unix_socket: cannot listen on" in ended.stderr
    assert f"'{folder / 'vireo.sock'}': something else than a socket is there already" in ended.stderr
    assert "Traceback" not in ended.stderr
