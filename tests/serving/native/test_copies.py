"""What a tensor's bytes go through between the socket and the model: one copy each way, proven by addresses."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from engine import parse_spec
from tests.serving.servers import ServerHere

_wire = pytest.importorskip("serving.native._wire", reason="the native transport is not built")

SPEC = """
server: {grpc_port: 0, http_port: null, transport: native}
functions:
  seen:
    call: tests.serving.native.test_copies:seen
    inputs: {x: {datatype: FP64, shape: [-1]}}
    outputs: {y: {datatype: FP64, shape: [-1]}}
"""
SEEN: list[npt.NDArray[np.float64]] = []


def seen(x: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Answers its own input, and shows it to the test."""
    SEEN.append(x)
    return {"y": x}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """A server of the function above."""
    made = ServerHere(parse_spec(SPEC, folder=tmp_path_factory.mktemp("copies")))
    yield made
    made.stop()


@pytest.fixture
def client(server: ServerHere) -> Iterator[InferenceServerClient]:
    """A client that has sent one request already: the layout of its requests is known."""
    with InferenceServerClient(server.address) as made:
        yield made
    SEEN.clear()


def _ask(client: InferenceServerClient, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    given = InferInput("x", list(values.shape), "FP64")
    given.set_data_from_numpy(values)
    answer: npt.NDArray[np.float64] = client.infer("seen", [given]).as_numpy("y")
    return answer


def _owner(array: object) -> object:
    """What the memory of an array belongs to."""
    while isinstance(array, np.ndarray | memoryview):
        array = array.obj if isinstance(array, memoryview) else array.base
    return array


@pytest.mark.parametrize("count", [1 << 7, 1 << 12, 1 << 16, 1 << 18, 1 << 21])
def test_model_computes_on_the_received_message_itself(client: InferenceServerClient, count: int) -> None:
    values = np.random.default_rng(count).random(count)
    for _ in range(2):
        np.testing.assert_array_equal(_ask(client, values), values)
    array = SEEN[-1]
    message = _owner(array)
    assert type(message) is _wire.Message
    low = np.frombuffer(message, np.uint8).__array_interface__["data"][0]  # type: ignore[call-overload]
    address = array.__array_interface__["data"][0]
    assert low <= address
    assert address + array.nbytes <= low + len(message)  # type: ignore[arg-type]
    assert address % 16 == 0


def test_message_is_freed_with_its_answer_and_waits_for_no_garbage_collector(client: InferenceServerClient) -> None:
    values = np.zeros(1 << 16)
    _ask(client, values)
    gc.collect()
    SEEN.clear()
    gc.disable()
    try:
        for _ in range(5):
            _ask(client, values)
            SEEN.clear()
        assert _wire.message_bytes() < values.nbytes  # at most that of an answer still being written by another test
    finally:
        gc.enable()


def test_answer_is_written_from_the_models_own_memory(tmp_path: Path) -> None:
    wire = _wire.Wire({}, lambda: None, streams_max=1, header_bytes_max=1 << 16, window_bytes=1 << 16,
                      connection_window_bytes=1 << 16, frame_bytes_max=1 << 14, message_bytes_max=1 << 24,
                      queued_bytes_max=1 << 20, linger_ns=0)  # fmt: skip
    session = _wire.Session(wire)
    greeting = session.output()
    assert greeting is not None
    head = b"\x83\x86\x04\x01/\x01\x01a"  # POST, http, :path /, :authority a
    session.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    session.receive(len(head).to_bytes(3, "big") + b"\x01\x04" + (1).to_bytes(4, "big") + head)
    array = np.arange(1 << 13, dtype=np.float64)
    session.http_head(1, 200, [])
    session.http_body(1, array.data.cast("B"), False)
    array[:] = -1  # not yet copied: what is written is what stands there now
    written = session.output()
    assert written is not None
    assert written.count(np.float64(-1).tobytes()) > 4_000
