"""What becomes of requests that meet: batches, deadlines, cancelled calls, full queues. Proved by the statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferResult

from tests.fakes import Gate
from tests.serving import functions
from tests.serving.calls import Answers, numbers, pair, refused, simple_inputs, status_of, stub_of, together, typed
from tests.serving.models import MEETING, SERVER, simple, write_model
from tests.serving.servers import ServerHere, eventually


class Counted:
    """What the statistics of a model have counted since this was made."""

    def __init__(self, client: InferenceServerClient, model: str) -> None:
        self._client, self._model = client, model
        self._before = self._read()

    def _read(self) -> dict[str, int]:
        (stats,) = self._client.get_inference_statistics(self._model).model_stats
        timed = stats.inference_stats
        return {
            "rows": stats.inference_count,
            "executions": stats.execution_count,
            "success": timed.success.count,
            "fail": timed.fail.count,
        }

    def since(self) -> dict[str, int]:
        """The differences."""
        return {name: value - self._before[name] for name, value in self._read().items()}


@pytest.fixture
def held(client: InferenceServerClient, gate: Gate) -> Iterator[Answers]:
    """One request (of value 1) is being computed and held at the gate, where the next ones wait behind it."""
    answers = Answers()
    client.async_infer("gated", numbers(1.0), answers)
    gate.wait_entered()
    yield answers
    gate.open()
    answers.wait(1)


def _value(result: InferResult) -> float:
    return float(result.as_numpy("y").ravel()[0])


# Batches.


def test_requests_that_wait_are_computed_together(
    client: InferenceServerClient, server: ServerHere, gate: Gate, held: Answers
) -> None:
    counted, answers = Counted(client, "gated"), Answers()
    for value in range(2, 22):
        client.async_infer("gated", numbers(value, value + 0.5), answers, request_id=str(value))
    eventually(lambda: server.waiting("gated") == 20, "twenty wait")
    gate.open()
    for result in answers.wait(20):
        asked = float(result.get_response().id)
        np.testing.assert_array_equal(result.as_numpy("y"), [[2 * asked], [2 * asked + 1]])
    held.wait(1)
    assert counted.since() == {"rows": 41, "executions": 2, "success": 21, "fail": 0}


def test_answers_of_a_batch_equal_single_ones_bit_for_bit(server: ServerHere, client: InferenceServerClient) -> None:
    asked = [pair(1 + seed % 3, seed) for seed in range(64)]
    single = [client.infer("simple", simple_inputs(*each)).as_numpy("OUTPUT0").tobytes() for each in asked]
    answers = Answers()
    for index, each in enumerate(asked):
        client.async_infer("simple", simple_inputs(*each), answers, request_id=str(index))
    got = {int(each.get_response().id): each.as_numpy("OUTPUT0").tobytes() for each in answers.wait(64)}
    assert [got[index] for index in range(64)] == single


def test_batches_form_under_concurrency_and_stay_within_max_batch_size(
    start: Callable[[str], ServerHere], tmp_path: Path
) -> None:
    write_model(tmp_path, "simple", simple(), "max_batch_size: 8")
    server = start(f"{SERVER}\nrepository: {{path: .}}\nmodels: {{simple: {{inline_us_max: 0}}}}")
    left, right = pair()
    with InferenceServerClient(server.address) as client:
        answers = Answers()
        for _ in range(400):
            client.async_infer("simple", simple_inputs(left, right), answers)
        for result in answers.wait(400):
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
        (stats,) = client.get_inference_statistics("simple").model_stats
    assert stats.inference_count == stats.inference_stats.success.count == 400
    assert stats.execution_count < 400
    assert max(each.batch_size for each in stats.batch_stats) <= 8


def test_bad_request_fails_alone_and_its_batch_is_answered(
    client: InferenceServerClient, server: ServerHere, gate: Gate, held: Answers
) -> None:
    counted, answers = Counted(client, "gated"), Answers()
    for value in (2.0, -3.0, 4.0, -5.0, 6.0):
        client.async_infer("gated", numbers(value), answers)
    eventually(lambda: server.waiting("gated") == 5, "five wait")
    gate.open()
    results = answers.wait(5)
    errors = [each for each in results if isinstance(each, Exception)]
    assert sorted(_value(each) for each in results if not isinstance(each, Exception)) == [4.0, 8.0, 12.0]
    assert [status_of(each)[0] for each in errors] == ["INVALID_ARGUMENT"] * 2
    assert all("x must not be negative" in status_of(each)[1] for each in errors)
    held.wait(1)
    assert counted.since() == {"rows": 4, "executions": 4, "success": 4, "fail": 2}


def test_value_the_model_refuses_fails_alone_among_many(server: ServerHere) -> None:
    def ask(stub: object, index: int) -> object:
        return stub.ModelInfer(typed("lookup", "x", "INT64", (1, 1), int64_contents=[index]))  # type: ignore[attr-defined]

    with stub_of(server.address) as stub:
        outcomes = together([partial(ask, stub, index % 10) for index in range(100)])
    for index, outcome in enumerate(outcomes):
        if index % 10 < 8:
            assert np.frombuffer(outcome.raw_output_contents[0], np.float32).item() == index % 10  # type: ignore[attr-defined]
        else:
            assert isinstance(outcome, Exception)
            assert status_of(outcome)[0] == "INVALID_ARGUMENT"


# Nobody waits any more.


def test_call_whose_deadline_passes_while_it_waits_is_never_computed(
    client: InferenceServerClient, server: ServerHere, gate: Gate, held: Answers
) -> None:
    counted = Counted(client, "gated")
    with refused("DEADLINE_EXCEEDED"):
        client.infer("gated", numbers(2.0), client_timeout=0.2)
    eventually(lambda: server.in_flight == 1, "the server has seen that nobody waits")
    gate.open()
    assert _value(client.infer("gated", numbers(3.0))) == 6.0
    held.wait(1)
    assert functions.COMPUTED == [1.0, 3.0]
    assert counted.since() == {"rows": 2, "executions": 2, "success": 2, "fail": 0}


def test_timeout_parameter_is_a_deadline_too(
    client: InferenceServerClient, server: ServerHere, gate: Gate, held: Answers
) -> None:
    answers = Answers()
    client.async_infer("gated", numbers(2.0), answers, timeout=1)
    (error,) = answers.wait(1)
    assert status_of(error)[0] in ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    gate.open()
    held.wait(1)
    assert functions.COMPUTED == [1.0]


def test_call_that_is_cancelled_while_it_waits_is_never_computed(
    client: InferenceServerClient, server: ServerHere, gate: Gate, held: Answers
) -> None:
    counted, cancelled = Counted(client, "gated"), Answers()
    call = client.async_infer("gated", numbers(2.0), cancelled)
    eventually(lambda: server.waiting("gated") == 1, "the call waits")
    call.cancel()
    assert "CANCELLED" in str(status_of(cancelled.wait(1)[0]))
    eventually(lambda: server.in_flight == 1, "the server has seen that nobody waits")
    gate.open()
    assert _value(client.infer("gated", numbers(3.0))) == 6.0
    held.wait(1)
    assert functions.COMPUTED == [1.0, 3.0]
    assert counted.since() == {"rows": 2, "executions": 2, "success": 2, "fail": 0}


def test_call_that_is_cancelled_while_it_is_computed_harms_nobody(
    client: InferenceServerClient, server: ServerHere, gate: Gate
) -> None:
    cancelled = Answers()
    call = client.async_infer("gated", numbers(1.0), cancelled)
    gate.wait_entered()
    call.cancel()
    cancelled.wait(1)
    gate.open()
    assert _value(client.infer("gated", numbers(2.0))) == 4.0
    eventually(lambda: server.in_flight == 0, "nothing is left")


def test_client_that_vanishes_leaves_nothing_behind(
    client: InferenceServerClient, server: ServerHere, gate: Gate, held: Answers
) -> None:
    gone = InferenceServerClient(server.address)
    for value in range(2, 12):
        gone.async_infer("gated", numbers(value), Answers())
    eventually(lambda: server.waiting("gated") == 10, "ten wait")
    gone.close()
    eventually(lambda: server.in_flight == 1, "the server has seen that they are gone")
    gate.open()
    held.wait(1)
    assert _value(client.infer("gated", numbers(20.0))) == 40.0
    assert functions.COMPUTED == [1.0, 20.0]


# Too much.

FULL = MEETING.replace("meeting", "gated").replace("inline_us_max: 0", "inline_us_max: 0\n    queue: {requests_max: 2}")


def test_full_queue_refuses_with_resource_exhausted_and_says_when_to_try_again(
    start: Callable[[str], ServerHere], gate: Gate
) -> None:
    server, answers = start(SERVER + FULL), Answers()
    with InferenceServerClient(server.address) as client, stub_of(server.address) as stub:
        client.async_infer("gated", numbers(1.0), answers)
        gate.wait_entered()
        for value in (2.0, 3.0):
            client.async_infer("gated", numbers(value), answers)
        eventually(lambda: server.waiting("gated") == 2, "the queue is full")
        with refused("RESOURCE_EXHAUSTED", "model 'gated'", "queue is full, 2 requests wait, at most 2 may"):
            client.infer("gated", numbers(4.0))
        with pytest.raises(Exception, match="queue is full") as caught:
            stub.ModelInfer(typed("gated", "x", "FP32", (1, 1), fp32_contents=[5.0]))
        trailing = {each.key: each.value for each in caught.value.trailing_metadata()}  # type: ignore[attr-defined]
        assert int(trailing["grpc-retry-pushback-ms"]) > 0
        gate.open()
        assert sorted(_value(each) for each in answers.wait(3)) == [2.0, 4.0, 6.0]
        assert _value(client.infer("gated", numbers(6.0))) == 12.0
