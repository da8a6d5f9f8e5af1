"""Inference calls by frames, on the whole server: what is left or late is never computed, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.fakes import Gate
from tests.serving import functions
from tests.serving.calls import SERVICE, message, pair, typed
from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import only_native
from tests.serving.over_http2.peer import Exchange, Peer
from tests.serving.servers import ServerHere, eventually

INFER, STREAM_INFER = f"/{SERVICE}/ModelInfer", f"/{SERVICE}/ModelStreamInfer"
LEFT, RIGHT = pair()
SIMPLE = message(
    "simple", ("INPUT0", "INT32", (1, 16), LEFT.tobytes()), ("INPUT1", "INT32", (1, 16), RIGHT.tobytes()), id="good"
).SerializeToString()
DEADLINE_EXCEEDED = 4


def _gated(value: float) -> bytes:
    """A request of `gated`, as the plans of the native transport read it."""
    made = message("gated", ("x", "FP32", (1, 1), np.float32(value).tobytes()), id=str(value))
    encoded: bytes = made.SerializeToString()
    return encoded


def _value(exchange: Exchange) -> float:
    (answer,) = exchange.messages
    return float(np.frombuffer(pb.ModelInferResponse.FromString(answer).raw_output_contents[0], np.float32)[0])


@pytest.fixture
def connect(server: ServerHere) -> Iterator[Callable[[], Peer]]:
    """Opens peers of the whole server, which must have forgotten everything after the test."""
    opened: list[Peer] = []
    before = server.tasks()

    def make() -> Peer:
        assert server.port is not None
        opened.append(Peer(server.port))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
    eventually(lambda: server.in_flight == 0, "nothing is in flight")
    eventually(lambda: server.tasks() <= before, "no task is left")
    for front in server.host._fronts:
        if hasattr(front, "streams"):
            eventually(lambda front=front: front.streams() == 0, "no stream is open")  # type: ignore[misc]


@pytest.fixture
def held(connect: Callable[[], Peer], server: ServerHere, gate: Gate) -> Iterator[None]:
    """Somebody computes until the gate is opened, and everybody else waits."""
    peer = connect()
    stream = peer.ask(INFER, _gated(1.0))
    gate.wait_entered()
    yield
    gate.open()
    assert _value(peer.wait(stream)) == 2.0


def test_requests_cut_into_bytes_are_answered(connect: Callable[[], Peer]) -> None:
    peer = connect()
    for each in (1, 3, 1000):
        stream = peer.stream()
        peer.send(peer.head(stream, INFER) + frames.body(stream, frames.message(SIMPLE), each=each))
        answer = pb.ModelInferResponse.FromString(peer.wait(stream).messages[0])
        np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], np.int32), (LEFT + RIGHT).ravel())
        assert answer.id == "good"


def test_requests_of_one_packet_are_all_answered(connect: Callable[[], Peer]) -> None:
    peer = connect()
    streams = [peer.stream() for _ in range(100)]
    peer.send(b"".join(peer.head(each, INFER) + frames.body(each, frames.message(SIMPLE)) for each in streams))
    for each in streams:
        answer = pb.ModelInferResponse.FromString(peer.wait(each).messages[0])
        np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[1], np.int32), (LEFT - RIGHT).ravel())


@only_native
def test_request_reset_right_behind_it_is_never_computed(connect: Callable[[], Peer], gate: Gate) -> None:
    peer = connect()
    for value in range(2, 52):
        stream = peer.stream()
        request = peer.head(stream, INFER) + frames.body(stream, frames.message(_gated(value)))
        peer.send(request + frames.reset(stream))
    peer.check_lives()
    gate.open()
    assert _value(peer.call(INFER, _gated(1.0))) == 2.0
    assert functions.COMPUTED == [1.0]


@pytest.mark.usefixtures("held")
def test_request_reset_while_it_waits_is_never_computed(
    connect: Callable[[], Peer], server: ServerHere, gate: Gate
) -> None:
    peer = connect()
    streams = [peer.ask(INFER, _gated(value)) for value in range(2, 22)]
    eventually(lambda: server.waiting("gated") == 20, "twenty wait")
    peer.send(*map(frames.reset, streams[::2]))
    eventually(lambda: server.in_flight == 11, "half of them are forgotten")
    gate.open()
    assert [_value(peer.wait(each)) for each in streams[1::2]] == [2.0 * value for value in range(3, 22, 2)]
    assert sorted(functions.COMPUTED) == [1.0, *range(3, 22, 2)]


@pytest.mark.usefixtures("held")
def test_requests_of_a_connection_that_closes_are_never_computed(
    connect: Callable[[], Peer], server: ServerHere, gate: Gate
) -> None:
    peer, other = connect(), connect()
    for value in range(2, 22):
        peer.ask(INFER, _gated(value))
        peer.ask(STREAM_INFER, _gated(value + 100))
    eventually(lambda: server.waiting("gated") == 40, "forty wait")
    peer.close()
    eventually(lambda: server.in_flight == 1, "all are forgotten")
    gate.open()
    assert _value(other.call(INFER, _gated(1000.0))) == 2000.0
    assert functions.COMPUTED == [1.0, 1000.0]


@only_native
@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("timeout", ["0n", "1n", "0S"])
def test_request_that_has_expired_on_arrival_is_never_computed(
    connect: Callable[[], Peer], gate: Gate, timeout: str
) -> None:
    peer = connect()
    for path in (INFER, STREAM_INFER):
        assert peer.call(path, _gated(2.0), more=[("grpc-timeout", timeout)]).status == DEADLINE_EXCEEDED
    gate.open()
    assert _value(peer.call(INFER, _gated(3.0))) == 6.0
    assert functions.COMPUTED == [1.0, 3.0]


@only_native
@pytest.mark.usefixtures("held")
def test_request_that_expires_while_it_waits_is_never_computed(
    connect: Callable[[], Peer], server: ServerHere, gate: Gate
) -> None:
    peer = connect()
    late = [peer.ask(path, _gated(2.0), more=[("grpc-timeout", "50m")]) for path in (INFER, STREAM_INFER)]
    in_time = peer.ask(INFER, _gated(3.0), more=[("grpc-timeout", "1M")])
    assert [peer.wait(each).status for each in late] == [DEADLINE_EXCEEDED] * 2
    eventually(lambda: server.in_flight == 2, "the late ones are forgotten")
    gate.open()
    assert _value(peer.wait(in_time)) == 6.0
    assert functions.COMPUTED == [1.0, 3.0]


def test_request_reset_while_it_is_computed_harms_nobody(
    connect: Callable[[], Peer], server: ServerHere, gate: Gate
) -> None:
    peer = connect()
    stream = peer.ask(INFER, _gated(1.0))
    gate.wait_entered()
    peer.send(frames.reset(stream))
    eventually(lambda: server.in_flight == 0, "nobody waits for it")
    gate.open()
    assert _value(peer.call(INFER, _gated(2.0))) == 4.0
    assert not peer.exchanges[stream].heads


def test_stream_of_requests_in_every_cut_is_answered_in_order(connect: Callable[[], Peer]) -> None:
    peer = connect()
    asked = [typed("lookup", "x", "INT64", (1, 1), int64_contents=[index % 8]) for index in range(200)]
    body = b"".join(frames.message(each.SerializeToString()) for each in asked)
    for each in (1, 13, 16_384):
        stream = peer.begin(STREAM_INFER)
        peer.send(frames.body(stream, body, each=each))
        answers = [pb.ModelStreamInferResponse.FromString(one).infer_response for one in peer.wait(stream).messages]
        values = [np.frombuffer(one.raw_output_contents[0], np.float32)[0] for one in answers]
        assert values == [index % 8 for index in range(200)]
