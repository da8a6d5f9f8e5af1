"""What `/metrics` tells of this moment: connections, streams, requests, memory."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.fakes import PATIENCE_S, Gate
from tests.serving.servers import ServerHere, eventually

APP = """
server: {grpc_port: 0, http_port: 0, drain_s: 5}
functions:
  gated:
    call: tests.serving.functions:gated
    batchable: true
    inline_us_max: 0
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1]}}
"""
ROWS = 1000
OURS = 1
"""The reader's own connection."""


@pytest.fixture
def server(start: Callable[[str], ServerHere]) -> ServerHere:
    """A server that holds requests at the gate."""
    return start(APP)


@pytest.fixture
def read(server: ServerHere) -> Iterator[Callable[..., float | None]]:
    """Reads a gauge over one connection; None where it is not told."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.host.http_port}", timeout=PATIENCE_S) as http:

        def gauge(name: str, **labels: str) -> float | None:
            families = text_string_to_metric_families(http.get("/metrics").text)
            found = [sample for each in families for sample in each.samples if sample.name == name]
            return next((float(each.value) for each in found if each.labels == labels), None)

        yield gauge


def _begin(client: InferenceServerClient) -> None:
    rows = InferInput("x", [ROWS, 1], "FP32")
    rows.set_data_from_numpy(np.ones((ROWS, 1), np.float32))
    client.async_infer("gated", [rows], lambda result, error: None)


def test_requests_in_flight_are_counted_until_they_are_answered(
    server: ServerHere, read: Callable[..., float | None], gate: Gate
) -> None:
    assert read("vireo_requests_in_flight") == 0
    with InferenceServerClient(server.address) as client:
        _begin(client)
        eventually(lambda: read("vireo_requests_in_flight") == 1, "one is in flight")
        gate.open()
        eventually(lambda: read("vireo_requests_in_flight") == 0, "it is answered")


@pytest.mark.parametrize("transport", ["native"], indirect=True)
def test_native_transport_tells_connections_streams_and_bytes(
    server: ServerHere, read: Callable[..., float | None], gate: Gate
) -> None:
    def open_now() -> list[float | None]:
        kinds = ("http1", "http2", "unknown")
        counts = [read("vireo_connections", protocol=kind) for kind in kinds]
        return [*counts, read("vireo_streams")]

    assert open_now() == [OURS, 0, 0, 0]
    assert read("vireo_message_bytes") == 0
    with InferenceServerClient(server.address) as client:
        for _ in range(2):  # the layout of the first is learnt from a copy
            _begin(client)
        eventually(lambda: open_now() == [OURS, 1, 0, 2], "two calls are open")
        eventually(lambda: 4 * ROWS <= (read("vireo_message_bytes") or 0) <= 8 * ROWS, "its bytes are held")
        gate.open()
        eventually(lambda: open_now() == [OURS, 1, 0, 0], "they are answered")
        eventually(lambda: read("vireo_message_bytes") == 0, "its bytes are free")
    eventually(lambda: open_now() == [OURS, 0, 0, 0], "the client has left")
    with socket.create_connection(("127.0.0.1", server.port or 0)):
        eventually(lambda: open_now() == [OURS, 0, 1, 0], "somebody has not said what it speaks")
    eventually(lambda: open_now() == [OURS, 0, 0, 0], "it has left without a word")


@pytest.mark.parametrize("transport", ["grpcio"], indirect=True)
def test_grpcio_leaves_out_what_it_cannot_tell(server: ServerHere, read: Callable[..., float | None]) -> None:
    with InferenceServerClient(server.address) as client:
        assert client.is_server_live()
        assert read("vireo_connections", protocol="http1") == OURS
        for kind in ("http2", "unknown"):
            assert read("vireo_connections", protocol=kind) is None
        assert read("vireo_streams") is read("vireo_message_bytes") is None
        assert read("vireo_requests_in_flight") == 0


def test_process_tells_its_memory_files_and_cpu(read: Callable[..., float | None]) -> None:
    for name in ("process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"):
        assert (read(name) or 0) > 0, name
