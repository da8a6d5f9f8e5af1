"""Servers of a table of test methods over each transport, and peers that speak to them in frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.serving.over_http2.peer import Peer
from tests.serving.over_http2.table import ECHO, TableServer

Connect = Callable[..., Peer]
_TAGS = itertools.count()
only_native = pytest.mark.parametrize("transport", ["native"], indirect=True)


@pytest.fixture(scope="module")
def shared(transport: str) -> Iterator[TableServer]:
    """One server for the tests of a file."""
    made = TableServer(transport)
    yield made
    made.stop()


@pytest.fixture
def table(shared: TableServer) -> Iterator[TableServer]:
    """That server, which must serve after the test and have nothing left of it."""
    yield shared
    with Peer(shared.port) as fresh:
        assert fresh.call(ECHO, b"good").messages == [b"good"]
    shared.check_nothing_left()


@pytest.fixture
def serve(transport: str) -> Iterator[Callable[..., TableServer]]:
    """Starts servers of the test's own."""
    started: list[TableServer] = []

    def make(**options: int) -> TableServer:
        started.append(TableServer(transport, **options))
        return started[-1]

    yield make
    for each in started:
        each.stop()


@pytest.fixture
def tag() -> str:
    """Tells the calls of a test from those of all others."""
    return f"test-{next(_TAGS)}"


@pytest.fixture
def connect(table: TableServer) -> Iterator[Connect]:
    """Opens peers of the server."""
    opened: list[Peer] = []

    def make(*arguments: Any, **options: Any) -> Peer:  # noqa: ANN401
        opened.append(Peer(table.port, *arguments, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def peer(connect: Connect) -> Peer:
    """One of them."""
    return connect()


@pytest.fixture
def channel(table: TableServer) -> Iterator[grpc.Channel]:
    """grpcio's own client of the server."""
    with grpc.insecure_channel(table.address) as made:
        yield made
