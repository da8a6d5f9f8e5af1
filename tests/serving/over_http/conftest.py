"""Servers with HTTP open, and clients for them. Every test runs over each route by which its client can come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tritonclient.http import InferenceServerClient

from engine import Spec
from tests.fakes import PATIENCE_S
from tests.serving.models import SPEC, write_repository
from tests.serving.over_http.wire import Connect, Connection
from tests.serving.servers import ServerHere, spec_for
from tests.serving.test_access import certificates as certificates  # a fixture

ROUTES = {"uvicorn": "grpcio", "door": "native", "http2": "native"}
"""Route to transport: HTTP/1.1 on uvicorn's own port, and HTTP/1.1 and HTTP/2 by the native transport's one door."""

OF_HTTP1 = {"triton", "connect", "http1"}
"""Fixtures of clients that speak HTTP/1.1 alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives each test its routes."""
    if "route" in metafunc.fixturenames:
        asked = set(metafunc.fixturenames)
        routes = [each for each in ROUTES if not (OF_HTTP1 if each == "http2" else {"http2"}) & asked]
        metafunc.parametrize("route", routes, scope="session")


@pytest.fixture(scope="session")
def route(request: pytest.FixtureRequest) -> str:
    """How clients come."""
    return str(request.param)


@pytest.fixture
def http1() -> None:
    """For tests whose client speaks HTTP/1.1 alone."""


@pytest.fixture
def http2() -> None:
    """For tests of what HTTP/1.1 does not have."""


class HttpServerHere(ServerHere):
    """A server in this process with one port for HTTP; `route` is how its clients come."""

    def __init__(self, spec: Spec, route: str) -> None:
        self.route = route
        super().__init__(spec)


def start_over_http(text: str, folder: Path, route: str) -> HttpServerHere:
    """A server over the spec in `text`, with its HTTP port open."""
    spec = spec_for(text.replace("http_port: null", "http_port: 0"), folder, ROUTES[route])
    return HttpServerHere(spec, route)


@pytest.fixture(scope="session")
def server(route: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """One server with every model, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("everything_over_http")
    write_repository(folder / "models")
    running = start_over_http(SPEC, folder, route)
    yield running
    running.stop()


@pytest.fixture
def start(route: str, tmp_path: Path) -> Iterator[Callable[[str], ServerHere]]:
    """Starts servers over a spec of the test's own, in its folder."""
    started: list[ServerHere] = []

    def make(text: str) -> ServerHere:
        started.append(start_over_http(text, tmp_path, route))
        return started[-1]

    yield make
    for each in started:
        each.stop()


def client_of(server: ServerHere) -> httpx.Client:
    """A plain client, which comes by the server's route."""
    assert isinstance(server, HttpServerHere)
    http2 = server.route == "http2"
    return httpx.Client(
        base_url=f"http://127.0.0.1:{server.host.http_port}", http1=not http2, http2=http2, timeout=PATIENCE_S
    )


@pytest.fixture(scope="session")
def http(server: ServerHere) -> Iterator[httpx.Client]:
    """A plain client of the server."""
    with client_of(server) as made:
        yield made


@pytest.fixture(scope="session")
def triton(server: ServerHere) -> Iterator[InferenceServerClient]:
    """Triton's client of the server."""
    with InferenceServerClient(f"127.0.0.1:{server.host.http_port}", concurrency=4) as made:
        yield made


@pytest.fixture
def connect(server: ServerHere) -> Iterator[Connect]:
    """Opens bare connections to the server."""
    opened: list[Connection] = []

    def make() -> Connection:
        assert server.host.http_port is not None
        opened.append(Connection(server.host.http_port))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
