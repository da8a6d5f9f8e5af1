"""Servers, and unmodified clients for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from tests.fakes import Gate
from tests.serving import functions
from tests.serving.models import SPEC, write_repository
from tests.serving.servers import TRANSPORTS, ServerHere, ServerProcess, spec_for


@pytest.fixture(scope="session", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """The gRPC transport under test."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """One server with every model, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("everything")
    write_repository(folder / "models")
    running = ServerHere(spec_for(SPEC, folder, transport))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(server: ServerHere) -> Iterator[InferenceServerClient]:
    """A client of that server, for unary calls."""
    with InferenceServerClient(server.address) as made:
        yield made


@pytest.fixture
def connect(server: ServerHere) -> Iterator[Callable[[], InferenceServerClient]]:
    """Makes clients of that server, for tests that open a stream."""
    made: list[InferenceServerClient] = []

    def make() -> InferenceServerClient:
        made.append(InferenceServerClient(server.address))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def start(transport: str, tmp_path: Path) -> Iterator[Callable[[str], ServerHere]]:
    """Starts servers over a spec of the test's own, in its folder."""
    started: list[ServerHere] = []

    def make(text: str) -> ServerHere:
        started.append(ServerHere(spec_for(text, tmp_path, transport)))
        return started[-1]

    yield make
    for each in started:
        each.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., ServerProcess]]:
    """Runs `vireo serve`, and kills what is left at the end."""
    started: list[ServerProcess] = []

    def make(app: Path, *arguments: str, **environment: str) -> ServerProcess:
        started.append(ServerProcess(app, *arguments, environment=environment))
        return started[-1]

    yield make
    for each in started:
        each.kill()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Holds the function `gated` until it is opened."""
    made = Gate()
    functions.GATES.append(made)
    functions.COMPUTED.clear()
    yield made
    made.open()
    functions.GATES.remove(made)
