"""A call that is over is freed there and then: with reference cycles, large tensors would pile up until the collector comes."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.fakes import PATIENCE_S, Gate
from tests.serving import functions
from tests.serving.servers import ServerHere, eventually

APP = """
server: {grpc_port: 0, http_port: 0, drain_s: 5}
functions:
  double:
    call: tests.serving.functions:double
    batchable: true
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    outputs: {y: {datatype: FP32, shape: [-1, 2]}}
  gated:
    call: tests.serving.functions:gated
    batchable: true
    inline_us_max: 0
    queue: {requests_max: 1}
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1]}}
  faulty:
    call: tests.serving.functions:faulty
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [1]}}
  countdown:
    call: tests.serving.functions:countdown
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [1]}}
  endless:
    call: tests.serving.functions:endless
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [-1]}}
"""
OF_CALLS = {
    "Job", "Request", "Response", "DirectCall", "UnaryCall", "StreamCall", "_Answering", "_InferStream", "HttpExchange",
    "HttpCall", "RequestResponseCycle", "HttpConnection",
}  # fmt: skip
COUNT = 5
RESET = struct.pack("ii", 1, 0)


class Callers:
    """Calls a server every way there is."""

    def __init__(self, server: ServerHere) -> None:
        self._server = server
        self._gate = Gate()

    def call(self, way: str) -> None:
        """Calls in one way; who is held at the gate is let go at the end."""
        self._gate = Gate()
        functions.GATES.append(self._gate)
        getattr(self, way)()
        self._gate.open()
        eventually(lambda: not self._server.in_flight, "none is in flight")
        functions.GATES.remove(self._gate)

    def _channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self._server.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def _unary(self, model: str, *values: float, columns: int = 1, timeout_s: float = PATIENCE_S) -> None:
        with self._channel() as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for _ in range(COUNT):
                with suppress(grpc.RpcError):
                    stub.ModelInfer(request(model, *values, columns=columns), timeout=timeout_s)

    def answered(self) -> None:
        self._unary("double", 1.0, 2.0, columns=2)

    def failed_in_the_model(self) -> None:
        self._unary("faulty", 1.0, columns=0)

    def refused_by_the_model(self) -> None:
        self._gate.open()
        self._unary("gated", -1.0)

    def unknown(self) -> None:
        self._unary("none", 1.0)

    def misshapen(self) -> None:
        self._unary("double", 1.0)

    def expired(self) -> None:
        self._unary("gated", 1.0, timeout_s=0.05)

    def cancelled(self) -> None:
        """Some are computed or wait, the others are shed."""
        with self._channel() as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer.future(request("gated", 1.0)) for _ in range(COUNT)]
            eventually(lambda: self._server.in_flight, "some are in flight")
            for each in calls:
                each.cancel()
            eventually(lambda: not self._server.in_flight, "none is in flight")

    def streamed(self) -> None:
        requests = [request("double", 1.0, 2.0, columns=2), request("none", 1.0), request("faulty", 1.0, columns=0)]
        requests += [request("countdown", 3.0, columns=0), request("countdown", 1.5, columns=0)]
        with self._channel() as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for _ in range(COUNT):
                assert len(list(stub.ModelStreamInfer(iter(requests), timeout=PATIENCE_S))) >= len(requests)

    def streamed_and_left(self) -> None:
        for model in ("endless", "endless", "gated"):
            with self._channel() as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                call = stub.ModelStreamInfer(iter([request(model, 1.0, columns=int(model == "gated"))]))
                if model == "endless":
                    next(call)
                else:
                    eventually(lambda: self._server.in_flight, "it is in flight")
                call.cancel()

    def _post(self, model: str, values: list[float], shape: list[int], **headers: str) -> bytes:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": values}]}
        connection = http.client.HTTPConnection("127.0.0.1", self._server.host.http_port, timeout=PATIENCE_S)
        for _ in range(COUNT):
            connection.request("POST", f"/v2/models/{model}/infer", json.dumps(body), headers)
            content = connection.getresponse().read()
        connection.close()
        return content

    def posted(self) -> None:
        assert b"outputs" in self._post("double", [1, 2], [1, 2])
        assert b"error" in self._post("faulty", [1], [1])
        assert b"error" in self._post("none", [1], [1])

    def posted_in_a_hurry(self) -> None:
        self._post("gated", [1], [1, 1], **{"X-Request-Timeout-Ms": "30"})

    def posted_and_left(self) -> None:
        """While it is computed, and between two requests; by RST."""
        body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}'
        head = b"POST /v2/models/gated/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        for said in (head + body, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", self._server.host.http_port or 0)) as sock:
                sock.sendall(said)
                if said.startswith(b"GET"):
                    sock.recv(1000)
                else:
                    eventually(lambda: self._server.in_flight, "it is in flight")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def pipelined_and_left(self) -> None:
        """Requests wait their turn behind one that is computed."""
        body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}'
        head = b"POST /v2/models/gated/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", self._server.host.http_port or 0)) as sock:
            sock.sendall((head + body) * COUNT)
            eventually(lambda: self._server.in_flight, "it is in flight")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


WAYS = [name for name in vars(Callers) if not name.startswith("_") and name != "call"]


def request(model: str, *values: float, columns: int = 1) -> Any:  # noqa: ANN401  a protobuf message
    """A ModelInferRequest for x; a vector where `columns` is 0."""
    array = np.array(values, "<f4")
    made = service_pb2.ModelInferRequest(model_name=model)
    made.inputs.add(name="x", datatype="FP32", shape=array.reshape(-1, columns).shape if columns else array.shape)
    made.raw_input_contents.append(array.tobytes())
    return made


def alive() -> Counter[str]:
    """What there is of finished calls."""
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each).__name__ in OF_CALLS)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing collects cycles; there are none from before. What another test's server holds is no concern."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("way", WAYS)
def test_call_that_is_over_leaves_nothing_to_the_collector(
    way: str, start: Callable[[str], ServerHere], no_collector: None
) -> None:
    callers = Callers(start(APP))
    callers.call(way)  # caches are made
    gc.collect()
    before = alive()
    callers.call(way)
    eventually(lambda: not alive() - before, f"{way}: {alive() - before} are freed")
