"""ModelStreamInfer: many requests and many responses over one stream, by the unmodified client."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferResult
from tritonclient.grpc import service_pb2 as pb

from engine import limits
from tests.fakes import PATIENCE_S, Gate
from tests.serving import functions
from tests.serving.calls import (
    AS_BYTES,
    Answers,
    count,
    message,
    numbers,
    pair,
    refused,
    simple_inputs,
    status_of,
    stub_of,
    typed,
)  # fmt: skip
from tests.serving.models import SERVER
from tests.serving.servers import ServerHere, eventually

Connect = Callable[[], InferenceServerClient]
FINAL = "triton_final_response"


@pytest.fixture
def answers() -> Answers:
    """What comes over the stream."""
    return Answers()


@pytest.fixture
def stream(connect: Connect, answers: Answers) -> InferenceServerClient:
    """A client with a stream open."""
    client = connect()
    client.start_stream(answers)
    return client


def _is_final(result: InferResult) -> bool:
    return bool(result.get_response().parameters[FINAL].bool_param)


def _value(result: InferResult) -> float:
    return float(result.as_numpy("y").ravel()[0])


def test_requests_of_a_stream_are_answered_in_their_order(stream: InferenceServerClient, answers: Answers) -> None:
    for seed in range(200):
        stream.async_stream_infer("simple", simple_inputs(*pair(1 + seed % 8, seed)), request_id=str(seed))
    results = answers.wait(200)
    assert [each.get_response().id for each in results] == [str(seed) for seed in range(200)]
    for seed, result in enumerate(results):
        left, right = pair(1 + seed % 8, seed)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
        assert _is_final(result)


def test_order_holds_while_an_earlier_request_is_computed(
    stream: InferenceServerClient, answers: Answers, gate: Gate
) -> None:
    stream.async_stream_infer("gated", numbers(1.0), request_id="slow")
    gate.wait_entered()
    stream.async_stream_infer("simple", simple_inputs(*pair()), request_id="quick")
    stream.async_stream_infer("no-such-model", simple_inputs(*pair()), request_id="wrong")
    gate.open()
    slow, quick, wrong = answers.wait(3)
    assert (slow.get_response().id, quick.get_response().id) == ("slow", "quick")
    assert "unknown model: 'no-such-model' is not found" in wrong.message()


def test_streaming_model_gives_many_responses_to_one_request(stream: InferenceServerClient, answers: Answers) -> None:
    stream.async_stream_infer("countdown", count(3.0), request_id="c")
    results = answers.wait(3)
    assert [_value(each) for each in results] == [3.0, 2.0, 1.0]
    assert {each.get_response().id for each in results} == {"c"}
    assert not any(_is_final(each) for each in results)


@pytest.mark.parametrize("start", [3.0, 0.0])
def test_empty_final_response_ends_the_many_where_asked_for(
    stream: InferenceServerClient, answers: Answers, start: float
) -> None:
    stream.async_stream_infer("countdown", count(start), request_id="c", enable_empty_final_response=True)
    *parts, last = answers.wait(int(start) + 1)
    assert [_value(each) for each in parts] == [3.0, 2.0, 1.0][: int(start)]
    response = last.get_response()
    assert _is_final(last)
    assert (len(response.outputs), response.id, response.model_name) == (0, "c", "countdown")
    if parts:
        assert response.model_version == "1"


def test_empty_final_response_is_not_sent_for_a_model_with_one_response(
    stream: InferenceServerClient, answers: Answers
) -> None:
    stream.async_stream_infer("double", numbers(1.0, 2.0), enable_empty_final_response=True)
    for name in ("a", "b"):
        stream.async_stream_infer("simple", simple_inputs(*pair()), request_id=name, enable_empty_final_response=True)
    refusal, *results = answers.wait(3)
    assert "input 'x'" in refusal.message(), "the rows have one value, not two"
    assert [(each.get_response().id, _is_final(each)) for each in results] == [("a", True), ("b", True)]


def test_model_that_fails_midway_ends_with_its_error_and_the_stream_goes_on(
    stream: InferenceServerClient, answers: Answers
) -> None:
    stream.async_stream_infer("countdown", count(2.5), request_id="c", enable_empty_final_response=True)
    two, one, error = answers.wait(3)
    assert [_value(two), _value(one)] == [2.0, 1.0]
    assert "ValueError: the count has a fraction" in error.message()
    stream.async_stream_infer("countdown", count(1.0))
    assert _value(answers.wait(4)[3]) == 1.0


def test_error_on_the_wire_carries_the_id_and_the_stream_goes_on(server: ServerHere) -> None:
    good = typed("lookup", "x", "INT64", (1, 1), int64_contents=[3])
    bad = [
        message("no-such-model", id="a"),
        message("simple", ("INPUT0", "INT32", (1, 16), b"short"), id="b"),
        typed("lookup", "x", "INT64", (1, 1), int64_contents=[99]),
    ]
    with stub_of(server.address) as stub:
        got = list(stub.ModelStreamInfer(iter([*bad, good]), timeout=PATIENCE_S))
    assert [each.infer_response.id for each in got] == ["a", "b", "", ""]
    assert "unknown model: 'no-such-model' is not found" in got[0].error_message
    assert "takes 64 bytes, got 5" in got[1].error_message
    assert "idx=99" in got[2].error_message
    assert got[3].error_message == ""
    assert got[3].infer_response.outputs[0].name == "y"


def test_bytes_that_are_no_message_are_answered_in_turn(server: ServerHere) -> None:
    good = typed("lookup", "x", "INT64", (1, 1), int64_contents=[3]).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer", *AS_BYTES)
        got = [pb.ModelStreamInferResponse.FromString(each) for each in call(iter([good, b"\xff", good]))]
    assert [bool(each.error_message) for each in got] == [False, True, False]
    assert "not a valid ModelInferRequest" in got[1].error_message


def test_endless_error_is_cut_on_a_stream_too(stream: InferenceServerClient, answers: Answers) -> None:
    stream.async_stream_infer("faulty", count(1.0))
    (error,) = answers.wait(1)
    assert "RuntimeError: no luck" in error.message()
    assert len(error.message()) < 3000


def test_model_with_many_responses_holds_no_other_request_back(
    stream: InferenceServerClient, answers: Answers, gate: Gate
) -> None:
    stream.async_stream_infer("gated_stream", count(1.0), request_id="many")
    gate.wait_entered()
    stream.async_stream_infer("simple", simple_inputs(*pair()), request_id="one")
    first, one = answers.wait(2)
    assert (first.get_response().id, one.get_response().id) == ("many", "one")
    gate.open()
    assert _value(answers.wait(3)[2]) == 2.0


def test_more_requests_than_may_be_in_flight_wait_their_turn(
    stream: InferenceServerClient, answers: Answers, gate: Gate, server: ServerHere
) -> None:
    total = 2 * limits.STREAM_REQUESTS_MAX + 3
    for value in range(1, total + 1):
        stream.async_stream_infer("gated", numbers(value))
    gate.wait_entered()
    eventually(
        lambda: server.waiting("gated") == limits.STREAM_REQUESTS_MAX - len(functions.COMPUTED), "a full stream waits"
    )
    gate.open()
    assert [_value(each) for each in answers.wait(total)] == [2.0 * value for value in range(1, total + 1)]


def test_requests_of_one_stream_are_computed_together(
    stream: InferenceServerClient, answers: Answers, gate: Gate, server: ServerHere
) -> None:
    stream.async_stream_infer("gated", numbers(1.0))
    gate.wait_entered()
    for value in range(2, 18):
        stream.async_stream_infer("gated", numbers(value))
    eventually(lambda: server.waiting("gated") == 16, "sixteen wait")
    (before,) = (each for _, _, each in server.engine.statistics("gated"))
    executions = before.executions
    gate.open()
    answers.wait(17)
    assert before.executions - executions == 2, "the first alone, the others together"


def test_stopping_a_stream_waits_for_its_answers(stream: InferenceServerClient, answers: Answers) -> None:
    for seed in range(20):
        stream.async_stream_infer("simple", simple_inputs(*pair(seed=seed)), request_id=str(seed))
    stream.stop_stream()
    assert [each.get_response().id for each in answers.wait(20)] == [str(seed) for seed in range(20)]


def test_stream_can_be_started_again(stream: InferenceServerClient) -> None:
    stream.stop_stream()
    again = Answers()
    stream.start_stream(again, compression_algorithm="gzip")
    stream.async_stream_infer("countdown", count(1.0))
    assert _value(again.wait(1)[0]) == 1.0


def test_stream_that_outlives_its_deadline_ends_and_its_work_is_dropped(
    connect: Connect, answers: Answers, gate: Gate, server: ServerHere
) -> None:
    client = connect()
    client.async_infer("gated", numbers(1.0), Answers())
    gate.wait_entered()
    client.start_stream(answers, stream_timeout=0.2)
    client.async_stream_infer("gated", numbers(2.0))
    assert status_of(answers.wait(1)[0])[0] == "DEADLINE_EXCEEDED"
    eventually(lambda: server.in_flight == 1, "the server has seen that nobody waits")
    gate.open()
    assert _value(client.infer("gated", numbers(3.0))) == 6.0
    assert functions.COMPUTED == [1.0, 3.0]


# A model that never ends, on a server of its own.

ENDLESS = """
functions:
  endless:
    call: tests.serving.functions:endless
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [-1]}}
"""


@pytest.fixture
def endless(start: Callable[[str], ServerHere]) -> ServerHere:
    """A server of the endless model."""
    server = start(SERVER.replace("drain_s: 5", "drain_s: 0.2") + ENDLESS)
    functions.YIELDED.clear()
    functions.CLOSED.clear()
    return server


def _endless_request() -> Iterator[pb.ModelInferRequest]:
    yield typed("endless", "x", "FP32", (1,), fp32_contents=[1.0])


def test_slow_reader_holds_the_model_back(endless: ServerHere) -> None:
    ahead_max = 2 * limits.STREAM_PARTS_MAX + 8  # waiting on either side of the event loop, and in hand at each step
    with stub_of(endless.address, **{"http2.bdp_probe": 0}) as stub:  # without it the client asks for 16 MB ahead
        call = stub.ModelStreamInfer(_endless_request())
        for read in range(1, 200):
            next(call)
            assert len(functions.YIELDED) <= read + ahead_max
        call.cancel()
    assert functions.CLOSED.wait(PATIENCE_S)


def test_stream_cancelled_while_answers_wait_leaves_nothing_behind(
    endless: ServerHere, caplog: pytest.LogCaptureFixture
) -> None:
    before = endless.tasks()
    with stub_of(endless.address) as stub:
        call = stub.ModelStreamInfer(_endless_request())
        next(call)
        eventually(lambda: len(functions.YIELDED) > limits.STREAM_PARTS_MAX, "answers wait")
        call.cancel()
    assert functions.CLOSED.wait(PATIENCE_S), "the model was not stopped"
    eventually(lambda: endless.tasks() == before, "the tasks of the stream end")
    assert endless.in_flight == 0
    assert caplog.records == [], "that a client leaves is nothing to report"


def test_client_that_cancels_its_requests_stops_the_model(endless: ServerHere, answers: Answers) -> None:
    with InferenceServerClient(endless.address) as client:
        client.start_stream(answers)
        client.async_stream_infer("endless", count(1.0))
        answers.wait(1)
        client.stop_stream(cancel_requests=True)
        assert functions.CLOSED.wait(PATIENCE_S)


def test_server_that_stops_ends_an_endless_stream(endless: ServerHere) -> None:
    requests: queue.Queue[Any] = queue.Queue()
    with stub_of(endless.address) as stub:
        call = stub.ModelStreamInfer(iter(requests.get, None))
        requests.put(typed("endless", "x", "FP32", (1,), fp32_contents=[1.0]))
        next(call)
        with refused("UNAVAILABLE"):
            stopping = endless.submit(endless.host.stop())
            for _ in call:
                pass
        requests.put(None)
    assert functions.CLOSED.wait(PATIENCE_S)
    stopping.result(PATIENCE_S)
