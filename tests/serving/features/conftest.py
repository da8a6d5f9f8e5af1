"""One server with logs and feature views for each transport, and unmodified clients of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pyarrow.flight
import pytest

from engine import Engine, parse_spec
from protos.vireo.v1 import features_pb2_grpc
from tests.engine.onnx_models import graph, write
from tests.serving.features.events import SPEC, Stub, payments
from tests.serving.servers import ServerHere, spec_for

KEYS = itertools.count(1_000)


@pytest.fixture(scope="session")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """The server; its logs are in a folder of its own."""
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("features")
    mean = helper.make_node("ReduceMean", ["features"], ["score"], axes=[1], keepdims=1)
    model = graph([mean], {"features": (TensorProto.FLOAT, ["rows", 3])}, {"score": (TensorProto.FLOAT, ["rows", 1])})
    write(folder / "models" / "fraud" / "1", model)
    compile_kernels(tmp_path_factory.mktemp("compiling"))
    server = ServerHere(spec_for(SPEC, folder, transport))
    yield server
    server.stop()


def compile_kernels(folder: Path) -> None:
    """Has what is compiled on first use compiled, however long that takes on a machine that never did."""
    engine = Engine(replace(parse_spec(SPEC, folder=folder), repository=None))
    engine.start()
    where = engine.features.push("payments", payments((1, "a", 1.0, 1)))
    assert all(engine.features.view(each).wait(where, 300) for each in ("card", "merchant"))
    engine.close()


@pytest.fixture(scope="session")
def stub(running: ServerHere) -> Iterator[Stub]:
    """Generated stubs on grpcio."""
    with grpc.insecure_channel(running.address, [("grpc.max_send_message_length", -1)]) as channel:
        yield features_pb2_grpc.FeaturesStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def http(running: ServerHere) -> Iterator[httpx.Client]:
    """A client of the HTTP port."""
    with httpx.Client(base_url=f"http://127.0.0.1:{running.host.http_port}", timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def flights(running: ServerHere) -> Iterator[pyarrow.flight.FlightClient]:
    """A client of the Arrow Flight port."""
    with pyarrow.flight.connect(f"grpc://127.0.0.1:{running.host.flight_port}") as client:
        yield client


@pytest.fixture
def card() -> int:
    """An entity that no other test knows."""
    return next(KEYS)


@pytest.fixture
def now_us() -> int:
    """The time of events: now, or a little before."""
    return time.time_ns() // 1000 - 1_000_000
