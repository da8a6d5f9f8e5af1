"""One server with vector collections for each transport, and unmodified clients of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from protos.vireo.v1 import vectors_pb2_grpc
from tests.serving.servers import ServerHere, spec_for
from tests.serving.vectors.books import PLAIN_SPEC, SPEC, Stub, books

NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """The server; its collections are in a folder of its own."""
    server = ServerHere(spec_for(SPEC, tmp_path_factory.mktemp("vectors"), transport))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def stub(running: ServerHere) -> Iterator[Stub]:
    """Generated stubs on grpcio."""
    with grpc.insecure_channel(running.address, [("grpc.max_send_message_length", -1)]) as channel:
        yield vectors_pb2_grpc.VectorsStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def http(running: ServerHere) -> Iterator[httpx.Client]:
    """A client of the HTTP port."""
    with httpx.Client(base_url=f"http://127.0.0.1:{running.host.http_port}", timeout=20) as client:
        yield client


@pytest.fixture
def name(http: httpx.Client) -> Iterator[str]:
    """A collection of three books that no other test knows."""
    found = f"books-{next(NUMBERS)}"
    assert http.put(f"/v1/collections/{found}", json=PLAIN_SPEC).status_code == 200
    answer = http.put(f"/v1/collections/{found}/points", json={"points": books()})
    assert answer.json()["count"] == 3, answer.text
    yield found
    http.delete(f"/v1/collections/{found}")


@pytest.fixture
def one(http: httpx.Client, name: str) -> Any:  # noqa: ANN401  a function
    """Calls the collection over HTTP: its status and its answer."""

    def call(method: str, path: str, json: object = None, **options: Any) -> tuple[int, Any]:  # noqa: ANN401
        answer = http.request(method, f"/v1/collections/{name}{path}", json=json, **options)
        return answer.status_code, answer.json()

    return call
