"""A server with its HTTP port open, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tritonclient.http import InferenceServerClient

from tests.fakes import PATIENCE_S
from tests.serving.models import SPEC, write_repository
from tests.serving.over_http.wire import Connect, Connection
from tests.serving.servers import ServerHere, spec_for
from tests.serving.test_access import certificates as certificates  # a fixture


def start_over_http(text: str, folder: Path) -> ServerHere:
    """A server over the spec in `text`, with its HTTP port open."""
    return ServerHere(spec_for(text.replace("http_port: null", "http_port: 0"), folder, "grpcio"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """One server with every model, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("everything_over_http")
    write_repository(folder / "models")
    running = start_over_http(SPEC, folder)
    yield running
    running.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], ServerHere]]:
    """Starts servers over a spec of the test's own, in its folder."""
    started: list[ServerHere] = []

    def make(text: str) -> ServerHere:
        started.append(start_over_http(text, tmp_path))
        return started[-1]

    yield make
    for each in started:
        each.stop()


def client_of(server: ServerHere) -> httpx.Client:
    """A plain client."""
    return httpx.Client(base_url=f"http://127.0.0.1:{server.host.http_port}", timeout=PATIENCE_S)


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
