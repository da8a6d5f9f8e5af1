"""TLS of the native transport: every client on the same port, whatever it negotiates, and whatever it does instead."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2_grpc

from engine import limits
from serving.native.door import PREFACE
from tests.fakes import PATIENCE_S, Gate
from tests.serving import functions
from tests.serving.calls import message, together, typed
from tests.serving.hostility import nothing_logged_as_an_error
from tests.serving.over_http.bodies import HEADER_LENGTH, numbers, values_of
from tests.serving.over_http.bodies import given as given_over_http
from tests.serving.over_http.wire import request
from tests.serving.servers import ServerHere, eventually
from tests.serving.test_access import Certificates
from tests.serving.test_access import certificates as certificates  # a fixture

FUNCTIONS = """
functions:
  double:
    call: tests.serving.functions:double
    inputs: {x: {datatype: FP32, shape: [-1]}}
    outputs: {y: {datatype: FP32, shape: [-1]}}
  gated:
    call: tests.serving.functions:gated
    inline_us_max: 0
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1]}}
  endless:
    call: tests.serving.functions:endless
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [-1]}}
"""
DOUBLE = "/v2/models/double/infer"
LARGE = np.arange(4 << 20, dtype=np.float32)
"""16 MiB."""

Start = Callable[[str], ServerHere]


@pytest.fixture(scope="module")
def transport() -> str:
    """The only one that serves everything on one port."""
    return "native"


class Door:
    """The port of a server with TLS, and every kind of client for it."""

    def __init__(self, server: ServerHere, certificates: Certificates) -> None:
        self.server = server
        self._folder = certificates.folder
        assert server.port is not None
        self.port = server.port

    def context(self, identity: str | None = None, offers: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A client's context that trusts the authority."""
        made = ssl.create_default_context(cafile=self._folder / "authority.pem")
        if identity is not None:
            made.load_cert_chain(self._folder / f"{identity}.pem", self._folder / f"{identity}-key.pem")
        if offers:
            made.set_alpn_protocols(list(offers))
        return made

    def connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """A bare connection."""
        return context.wrap_socket(self.connect_in_clear(), server_hostname="localhost")

    def connect_in_clear(self) -> socket.socket:
        """The same without TLS."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def httpx(self, *, http2: bool, identity: str | None = None) -> httpx.Client:
        """A client that negotiates HTTP/2 or HTTP/1.1."""
        return httpx.Client(
            base_url=f"https://localhost:{self.port}", verify=self.context(identity), http2=http2, timeout=PATIENCE_S
        )

    def channel(self, identity: str | None = None) -> grpc.Channel:
        """A channel of grpcio that carries messages of any size."""
        read = [(self._folder / f"{name}.pem").read_bytes() for name in _files(identity)]
        sizes = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.secure_channel(f"localhost:{self.port}", grpc.ssl_channel_credentials(*read), sizes)

    def triton_grpc(self, identity: str | None = None) -> tritonclient.grpc.InferenceServerClient:
        """tritonclient over gRPC."""
        names = ("root_certificates", "private_key", "certificate_chain")
        files = {name: str(self._folder / f"{file}.pem") for name, file in zip(names, _files(identity), strict=False)}
        return tritonclient.grpc.InferenceServerClient(f"localhost:{self.port}", ssl=True, **files)

    def triton_http(self, identity: str | None = None) -> tritonclient.http.InferenceServerClient:
        """tritonclient over HTTP."""
        return tritonclient.http.InferenceServerClient(
            f"localhost:{self.port}", ssl=True, ssl_context_factory=lambda: self.context(identity)
        )

    # Each calls `double` once, in its own way.

    def ask_grpc(self, identity: str | None = None) -> list[float]:
        """grpcio, generated stubs."""
        with self.channel(identity) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer = stub.ModelInfer(typed("double", "x", "FP32", (1,), fp32_contents=[1.5]), timeout=PATIENCE_S)
            return [float(each) for each in np.frombuffer(answer.raw_output_contents[0], np.float32)]

    def ask_triton_grpc(self, identity: str | None = None) -> list[float]:
        """tritonclient, gRPC."""
        given = tritonclient.grpc.InferInput("x", [1], "FP32")
        given.set_data_from_numpy(np.array([1.5], np.float32))
        with self.triton_grpc(identity) as client:
            return list(client.infer("double", [given]).as_numpy("y").tolist())

    def ask_triton_http(self, identity: str | None = None) -> list[float]:
        """tritonclient, HTTP/1.1."""
        with self.triton_http(identity) as client:
            result = client.infer("double", [given_over_http("x", np.array([1.5], np.float32), "FP32")])
            return list(result.as_numpy("y").tolist())

    def ask_http1(self, identity: str | None = None) -> list[float]:
        """httpx, HTTP/1.1."""
        return self._ask_httpx("HTTP/1.1", identity)

    def ask_http2(self, identity: str | None = None) -> list[float]:
        """httpx, HTTP/2."""
        return self._ask_httpx("HTTP/2", identity)

    def _ask_httpx(self, version: str, identity: str | None) -> list[float]:
        with self.httpx(http2=version == "HTTP/2", identity=identity) as client:
            answer = client.post(DOUBLE, content=BODY)
            assert answer.http_version == version
            return list(values_of(answer))


BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]}]}).encode()
CLIENTS = ("ask_grpc", "ask_triton_grpc", "ask_triton_http", "ask_http1", "ask_http2")


def _files(identity: str | None) -> tuple[str, ...]:
    return ("authority",) if identity is None else ("authority", f"{identity}-key", identity)


def _spec(certificates: Certificates, more: str = "") -> str:
    folder = certificates.folder
    tls = f"tls: {{certificate: {folder}/server.pem, key: {folder}/server-key.pem{more}}}"
    return f"server: {{grpc_port: 0, http_port: null, drain_s: 5, {tls}}}\n{FUNCTIONS}"


@pytest.fixture
def door(start: Start, certificates: Certificates) -> Iterator[Door]:
    """A server that tells who it is. In the end it answers everybody, and has nothing left to do."""
    with nothing_logged_as_an_error("vireo", "uvicorn.error", "asyncio"):
        made = Door(start(_spec(certificates)), certificates)
        yield made
        assert [getattr(made, each)() for each in CLIENTS] == [[3.0]] * len(CLIENTS)
        eventually(lambda: made.server.in_flight == 0, "nothing is in flight")


@pytest.fixture
def mutual(start: Start, certificates: Certificates) -> Iterator[Door]:
    """A server that asks who calls."""
    with nothing_logged_as_an_error("vireo", "uvicorn.error", "asyncio"):
        yield Door(start(_spec(certificates, f", client_ca: {certificates.folder}/authority.pem")), certificates)


# One port.


def test_every_client_is_served_on_one_port_at_once(door: Door) -> None:
    asked = [getattr(door, each) for each in CLIENTS] * 4
    assert together(asked) == [[3.0]] * len(asked)


@pytest.mark.parametrize(("option", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
def test_curl_is_served(door: Door, certificates: Certificates, option: str, version: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    authority = str(certificates.folder / "authority.pem")
    url = f"https://localhost:{door.port}/livez"
    command = ["curl", "-sS", option, "--cacert", authority, "-w", "%{http_version}", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.stdout, ended.stderr) == (f"ok\n{version}", "")


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        (("h2", "http/1.1"), "h2"),
        (("http/1.1", "h2"), "h2"),
        (("h2",), "h2"),
        (("grpc-exp", "h2"), "h2"),
        (("http/1.1",), "http/1.1"),
        (("spdy/3",), None),
        ((), None),
    ],
)
def test_protocol_is_negotiated(door: Door, offers: tuple[str, ...], chosen: str | None) -> None:
    with door.connect(door.context(offers=offers)) as connection:
        assert connection.selected_alpn_protocol() == chosen


def test_client_that_negotiates_nothing_is_served_in_what_it_speaks(door: Door) -> None:
    with door.connect(door.context()) as connection:
        connection.sendall(request("GET", "/livez"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    with door.connect(door.context()) as connection:
        connection.sendall(PREFACE + SETTINGS)
        assert connection.recv(9)[3:4] == b"\x04", "it answers with settings of its own"


SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("size", [1, 2, 5, 23, 24, 25])
def test_first_bytes_may_come_one_record_at_a_time(door: Door, size: int) -> None:
    for sent, begins in ((PREFACE + SETTINGS, b"\0\0"), (request("PUT", "/livez"), b"HTTP/1.1 405")):
        with door.connect(door.context()) as connection:
            for at in range(0, len(sent), size):
                connection.sendall(sent[at : at + size])
            assert connection.recv(1000).startswith(begins)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_old_versions_and_ciphers_are_refused(door: Door) -> None:
    old, weak, modern = door.context(), door.context(), door.context()
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    weak.maximum_version = modern.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    for each in (old, weak):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            door.connect(each)
    with door.connect(modern) as connection:
        assert connection.version() == "TLSv1.2"


# Who calls.


@pytest.mark.parametrize("ask", CLIENTS)
def test_client_of_the_authority_is_served(mutual: Door, ask: str) -> None:
    assert getattr(mutual, ask)("client") == [3.0]


@pytest.mark.parametrize("identity", [None, "stranger", "expired"])
@pytest.mark.parametrize("ask", CLIENTS)
def test_client_of_nobody_we_know_is_refused_and_the_others_are_served(
    mutual: Door, ask: str, identity: str | None
) -> None:
    with pytest.raises(Exception) as caught:  # each library has its own
        getattr(mutual, ask)(identity)
    assert not isinstance(caught.value, AssertionError)
    assert mutual.ask_http2("client") == [3.0]
    ((_, _, counted),) = mutual.server.engine.statistics("double")
    assert counted.executions == 1, "nobody else computed anything"


# What should have been a handshake.

HELLO = bytes.fromhex("16030100c8010000c40303")
GARBAGE = {
    "HTTP/1.1": request("GET", "/livez"),
    "HTTP/2": PREFACE + SETTINGS,
    "half a hello": HELLO,
    "a hello of zeros": HELLO + bytes(300),
    "a record of no known type": b"\x77\x03\x01\x00\x05hello",
    "a record that is too large": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "data before any handshake": b"\x17\x03\x03\x00\x10" + bytes(16),
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "zeros": bytes(100_000),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_what_is_no_handshake_is_hung_up_on(door: Door, case: str) -> None:
    with door.connect_in_clear() as connection:
        with suppress(ConnectionError):
            connection.sendall(GARBAGE[case])
            connection.shutdown(socket.SHUT_WR)
        assert len(_rest(connection)) < 100, "an alert at most"


def _rest(connection: socket.socket) -> bytes:
    """What comes before the server closes."""
    got = b""
    with suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(1 << 16):
            got += piece
    return got


def test_handshake_that_never_ends_is_ended(
    start: Start, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 0.3)
    door = Door(start(_spec(certificates)), certificates)
    with door.connect_in_clear() as silent, door.connect_in_clear() as halting, door.connect_in_clear() as slow:
        halting.sendall(HELLO)
        trickle = threading.Thread(target=_trickle, args=(slow,))
        trickle.start()
        assert door.ask_http2() == [3.0]
        for each in (silent, halting, slow):
            assert _rest(each) == b""
        trickle.join(PATIENCE_S)
    assert door.ask_http2() == [3.0]


def _trickle(connection: socket.socket) -> None:
    """A hello, a byte at a time, until the server has had enough."""
    ended = threading.Event()
    with suppress(OSError):
        for each in HELLO + bytes(200):
            connection.sendall(bytes([each]))
            ended.wait(0.02)


def test_handshake_that_halts_does_not_hold_up_the_end(start: Start, certificates: Certificates) -> None:
    door = Door(start(_spec(certificates)), certificates)
    with door.connect_in_clear() as halting, door.connect(door.context()) as silent:
        halting.sendall(HELLO)
        assert door.ask_http1() == [3.0]
        door.server.stop()  # within PATIENCE_S; a handshake would have HTTP_IDLE_S_MAX
        assert _rest(silent) == b""


def test_connection_that_says_nothing_after_its_handshake_is_ended(
    start: Start, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_KEEP_ALIVE_S", 0.3)
    door = Door(start(_spec(certificates)), certificates)
    with door.connect(door.context()) as silent:
        assert _rest(silent) == b""


# Large messages.


def test_large_messages_go_both_ways_over_grpc(door: Door) -> None:
    with door.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        sent = message("double", ("x", "FP32", LARGE.shape, LARGE.tobytes()))
        for _ in range(2):
            answer = stub.ModelInfer(sent, timeout=PATIENCE_S)
            np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], np.float32), LARGE * 2)


@pytest.mark.parametrize("http2", [True, False])
def test_large_bodies_go_both_ways_over_http(door: Door, http2: bool) -> None:
    with door.httpx(http2=http2) as client:
        for _ in range(2):
            answer = client.post(DOUBLE, content=LARGE.tobytes(), headers={HEADER_LENGTH: "0"})
            assert answer.status_code == 200
            length = int(answer.headers[HEADER_LENGTH])
            np.testing.assert_array_equal(np.frombuffer(answer.content[length:], np.float32), LARGE * 2)


def test_slow_reader_holds_the_model_back(door: Door) -> None:
    functions.YIELDED.clear()
    functions.CLOSED.clear()
    answer_bytes, buffers_bytes = 400_000, 24 << 20  # what the client asks for ahead, and what lies in sockets
    with door.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(iter([typed("endless", "x", "FP32", (1,), fp32_contents=[1.0])]))
        for read in range(1, 100):
            next(call)
            assert len(functions.YIELDED) <= read + buffers_bytes // answer_bytes + 2 * limits.STREAM_PARTS_MAX
        call.cancel()
    assert functions.CLOSED.wait(PATIENCE_S)


# Those who leave.


def _abort(connection: ssl.SSLSocket) -> None:
    """Resets the connection, without a word of TLS."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_client_that_is_cut_off_anywhere_harms_nobody(door: Door) -> None:
    whole = request("POST", DOUBLE, LARGE.tobytes(), **{HEADER_LENGTH.replace("-", "_"): "0"})
    for cut in (0, 1, 50, 200, 70_000, 5_000_000, len(whole)):
        connection = door.connect(door.context())
        with suppress(ConnectionError):
            connection.sendall(whole[:cut])
        _abort(connection)
        connection = door.connect(door.context(offers=("h2",)))
        connection.sendall((PREFACE + SETTINGS)[: cut + 1])
        _abort(connection)


def test_request_of_a_client_that_is_cut_off_is_never_computed(door: Door, gate: Gate) -> None:
    with ThreadPoolExecutor() as pool, door.httpx(http2=True) as client:
        held = pool.submit(client.post, "/v2/models/gated/infer", json=numbers(1.0))
        gate.wait_entered()
        connection = door.connect(door.context())
        connection.sendall(request("POST", "/v2/models/gated/infer", json.dumps(numbers(2.0)).encode()))
        eventually(lambda: door.server.waiting("gated") == 1, "one waits")
        _abort(connection)
        eventually(lambda: door.server.in_flight == 1, "the server has seen that it is gone")
        gate.open()
        assert values_of(held.result(PATIENCE_S)) == [2.0]
    assert functions.COMPUTED == [1.0]


@pytest.mark.parametrize("http2", [True, False])
def test_what_is_in_flight_is_answered_before_the_server_ends(
    start: Start, certificates: Certificates, gate: Gate, http2: bool
) -> None:
    door = Door(start(_spec(certificates)), certificates)
    with ThreadPoolExecutor() as pool, door.httpx(http2=http2) as client:
        held = pool.submit(client.post, "/v2/models/gated/infer", json=numbers(1.0))
        gate.wait_entered()
        stopped = pool.submit(door.server.stop)
        eventually(lambda: not door.server.engine.ready, "it takes no more")
        gate.open()
        assert values_of(held.result(PATIENCE_S)) == [2.0]
        stopped.result(PATIENCE_S)
        with pytest.raises(httpx.TransportError):
            client.get("/livez")
