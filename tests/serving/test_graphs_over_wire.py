"""Graphs called by unmodified clients: over gRPC, its streams and HTTP, in good order and when something goes wrong."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from engine import parse_spec
from tests.fakes import PATIENCE_S, Gate
from tests.serving import functions
from tests.serving.calls import Answers, count, numbers, refused, status_of, stub_of, together, typed
from tests.serving.servers import ServerHere, eventually
from tests.serving.test_graph_surfaces import SERVER, asked, body, function

Start = Callable[[str], ServerHere]

STREAMING = """
    batchable: false
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [-1]}}
"""


def flowing(name: str, call: str) -> str:
    """A function over one number."""
    return f"  {name}:\n    call: tests.serving.functions:{call}\n{STREAMING}"


FUNCTIONS = "functions:\n" + "".join(
    (
        function("quick", "double"),
        function("failing", "faulty"),
        function("stuck", "gated", "    inline_us_max: 0\n"),
        function("single", "gated", "    instances: 1\n    queue: {requests_max: 1}\n    inline_us_max: 0\n"),
        flowing("countdown", "countdown"),
        flowing("endless", "endless"),
        flowing("held", "gated_stream"),
        "  shout:\n    call: tests.serving.functions:shout\n    batchable: true\n"
        "    inputs: {text: {datatype: BYTES, shape: [-1, 1]}}\n    outputs: {loud: {datatype: BYTES, shape: [-1, 1]}}\n",
    )
)


def graph(name: str, nodes: str, output: str = "y: last.y", inputs: str = "x: {datatype: FP32, shape: [-1, 1]}") -> str:
    """A graph of some nodes, of which `last` answers."""
    lines = "".join(f"      {each}\n" for each in nodes.split(" | "))
    return f"  {name}:\n    inputs: {{{inputs}}}\n    nodes:\n{lines}    outputs: {{{output}}}\n"


LONE = "x: {datatype: FP32, shape: [1]}"
GRAPHS = "graphs:\n" + "".join(
    (
        graph("plain", "first: {call: quick, inputs: {x: x}} | last: {call: quick, inputs: {x: first.y}}"),
        graph("outer", "last: {call: plain, inputs: {x: x}}"),
        graph("broken", "first: {call: quick, inputs: {x: x}} | last: {call: failing, inputs: {x: first.y}}"),
        graph("hung", "last: {call: stuck, inputs: {x: x}}"),
        graph("hung-inside", "last: {call: hung, inputs: {x: x}} | after: {call: quick, inputs: {x: last.y}}", "y: after.y"),
        graph("bounded", "last: {call: stuck, inputs: {x: x}, timeout_ms: 40}"),
        graph("patient", "last: {call: hung, inputs: {x: x}, timeout_ms: 40, on_late: {default: {y: -1}}}"),
        graph("narrow", "last: {call: single, inputs: {x: x}}"),
        graph("count", "last: {call: countdown, inputs: {x: x}}", inputs=LONE),
        graph("recount", "last: {call: count, inputs: {x: x}}", inputs=LONE),
        graph("flood", "last: {call: endless, inputs: {x: x}}", inputs=LONE),
        graph("pause", "last: {call: held, inputs: {x: x}}", inputs=LONE),
        graph(
            "loudly", "last: {call: shout, inputs: {text: text}}", "loud: last.loud", "text: {datatype: BYTES, shape: [-1, 1]}"
        ),
    )
)  # fmt: skip


@pytest.fixture
def served(start: Start) -> ServerHere:
    """A server of graphs."""
    running = start(SERVER + FUNCTIONS + GRAPHS)
    assert running.engine.ready, running.engine.problems()
    return running


@pytest.fixture
def client(served: ServerHere) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    """Its client over gRPC."""
    with tritonclient.grpc.InferenceServerClient(served.address) as made:
        yield made


@pytest.fixture
def over_http(served: ServerHere) -> Iterator[tritonclient.http.InferenceServerClient]:
    """Its client over HTTP."""
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{served.host.http_port}", concurrency=4) as made:
        yield made


def http_input(*values: float) -> list[tritonclient.http.InferInput]:
    """As `numbers`, for the HTTP client."""
    made = tritonclient.http.InferInput("x", [len(values), 1], "FP32")
    made.set_data_from_numpy(np.array(values, np.float32).reshape(-1, 1))
    return [made]


def values_of(result: Any, name: str = "y") -> list[float]:  # noqa: ANN401
    """An output, flat."""
    return [float(each) for each in result.as_numpy(name).ravel()]


def all_let_go(served: ServerHere) -> None:
    """Nobody waits in a graph any more, and none is held by a request."""
    eventually(lambda: served.engine._idle(), "all requests have ended")
    for name in ("outer", "broken", "bounded", "patient", "recount", "flood", "pause"):
        handle = served.engine._registry.find(name, None)
        eventually(lambda handle=handle: handle.users == 0, f"{name} is let go of")  # type: ignore[misc]


def test_every_client_calls_a_graph_like_a_model(
    served: ServerHere,
    client: tritonclient.grpc.InferenceServerClient,
    over_http: tritonclient.http.InferenceServerClient,
) -> None:
    assert client.is_model_ready("outer")
    metadata = client.get_model_metadata("outer", as_json=True)
    assert [each["name"] for each in metadata["outputs"]] == ["y"]
    for model in ("plain", "outer"):
        assert values_of(client.infer(model, numbers(1.0, 2.0))) == [4.0, 8.0]
        assert values_of(over_http.infer(model, http_input(1.0, 2.0))) == [4.0, 8.0]
        pending = over_http.async_infer(model, http_input(3.0))
        assert values_of(pending.get_result(timeout=PATIENCE_S)) == [12.0]
        answers = Answers()
        client.async_infer(model, numbers(3.0), answers)
        assert values_of(answers.wait(1)[0]) == [12.0]
    text = tritonclient.grpc.InferInput("text", [2, 1], "BYTES")
    text.set_data_from_numpy(np.array([["ann"], ["b" * 3000]], object))
    assert [len(each) for each in client.infer("loudly", [text]).as_numpy("loud").ravel()] == [3, 3000]


def test_many_callers_at_once_each_get_their_own_rows(
    served: ServerHere, client: tritonclient.grpc.InferenceServerClient
) -> None:
    def ask_http(*given: float) -> list[float]:
        with tritonclient.http.InferenceServerClient(
            f"127.0.0.1:{served.host.http_port}"
        ) as own:  # it is of its thread
            return values_of(own.infer("outer", http_input(*given)))

    def call(index: int) -> Callable[[], list[float]]:
        given = [float(index), float(index) + 0.5][: 1 + index % 2]
        if index % 3:
            return lambda: values_of(client.infer("outer", numbers(*given)))
        return lambda: ask_http(*given)

    outcomes = together([call(index) for index in range(24)])
    for index, outcome in enumerate(outcomes):
        assert outcome == [4.0 * each for each in (float(index), float(index) + 0.5)[: 1 + index % 2]]
    answers = Answers()
    for index in range(200):
        client.async_infer("outer", numbers(float(index)), answers, request_id=str(index))
    for result in answers.wait(200):
        assert values_of(result) == [4.0 * float(result.get_response().id)]
    all_let_go(served)


def test_failed_node_is_named_and_has_the_right_code(
    served: ServerHere, client: tritonclient.grpc.InferenceServerClient
) -> None:
    with refused("INTERNAL", "graph 'broken', node 'last': ", "RuntimeError: no luck"):
        client.infer("broken", numbers(1.0))
    with httpx.Client(base_url=f"http://127.0.0.1:{served.host.http_port}", timeout=PATIENCE_S) as plain:
        answer = plain.post("/v2/models/broken/infer", json=body(1.0))
        assert (answer.status_code, "graph 'broken', node 'last': " in answer.json()["error"]) == (500, True)
        answer = plain.post("/v2/models/broken/infer", json=body(0.0))
        assert answer.status_code == 200
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("broken", numbers(1.0))
    client.async_stream_infer("broken", numbers(0.0))
    failed, fine = answers.wait(2)
    assert isinstance(failed, InferenceServerException)
    assert "graph 'broken', node 'last': " in str(failed.message())
    assert values_of(fine) == [0.0]
    client.stop_stream()


def test_bad_input_is_refused_as_a_models_is(
    served: ServerHere,
    client: tritonclient.grpc.InferenceServerClient,
    over_http: tritonclient.http.InferenceServerClient,
) -> None:
    with refused("INVALID_ARGUMENT", "model 'outer': missing input 'x'"), stub_of(served.address) as stub:
        stub.ModelInfer(tritonclient.grpc.service_pb2.ModelInferRequest(model_name="outer"))
    with refused("INVALID_ARGUMENT", "expected datatype FP32, got FP64"):
        wrong = tritonclient.grpc.InferInput("x", [1, 1], "FP64")
        wrong.set_data_from_numpy(np.zeros((1, 1)))
        client.infer("outer", [wrong])
    with refused("INVALID_ARGUMENT", "expected shape [-1, 1], got [1, 2]"), stub_of(served.address) as stub:
        stub.ModelInfer(typed("outer", "x", "FP32", (1, 2), fp32_contents=[1.0, 2.0]))
    with refused("INVALID_ARGUMENT", "zero rows"), stub_of(served.address) as stub:
        stub.ModelInfer(typed("outer", "x", "FP32", (0, 1), fp32_contents=[]))
    with refused("INVALID_ARGUMENT", "has no output 'z'"):
        client.infer("outer", numbers(1.0), outputs=[tritonclient.grpc.InferRequestedOutput("z")])
    with refused("NOT_FOUND", "no version 2"):
        client.infer("outer", numbers(1.0), model_version="2")
    with pytest.raises(InferenceServerException, match="has no version 2"):
        over_http.infer("outer", http_input(1.0), model_version="2")
    with httpx.Client(base_url=f"http://127.0.0.1:{served.host.http_port}", timeout=PATIENCE_S) as plain:
        assert plain.post("/v2/models/outer/infer", json={"inputs": []}).status_code == 400
    all_let_go(served)


def test_deadline_that_passes_while_a_node_hangs_is_told_and_reaches_it(
    served: ServerHere, client: tritonclient.grpc.InferenceServerClient, gate: Gate
) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{served.host.http_port}", timeout=PATIENCE_S) as plain:
        answer = plain.post("/v2/models/hung-inside/infer", json=body(1.0), headers={"x-request-timeout-ms": "100"})
    assert answer.status_code == 504, answer.text
    with pytest.raises(InferenceServerException) as late:
        client.infer("hung", numbers(1.0), client_timeout=0.2)
    assert status_of(late.value)[0] == "DEADLINE_EXCEEDED"
    assert values_of(client.infer("plain", numbers(1.0))) == [4.0]
    gate.open()
    all_let_go(served)


def test_deadline_that_has_passed_starts_nothing(served: ServerHere, gate: Gate) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{served.host.http_port}", timeout=PATIENCE_S) as plain:
        answer = plain.post("/v2/models/hung-inside/infer", json=body(1.0), headers={"x-request-timeout-ms": "0"})
    assert (answer.status_code, "graph 'hung-inside'" in answer.text) == (504, True), answer.text
    gate.open()
    all_let_go(served)
    assert not functions.COMPUTED


def test_node_that_hangs_is_named_at_its_bound_or_stood_in_for(
    served: ServerHere, client: tritonclient.grpc.InferenceServerClient, gate: Gate
) -> None:
    with refused("DEADLINE_EXCEEDED", "graph 'bounded', node 'last': not answered within its bound of 40"):
        client.infer("bounded", numbers(1.0))
    result = client.infer("patient", numbers(1.0, 2.0))
    assert values_of(result) == [-1.0, -1.0]
    assert result.get_response().parameters["vireo_marks"].string_param == "last: late: default"
    with stub_of(served.address) as stub:
        ledger, told = asked(stub, "patient", 1.0)
    assert told == [-1.0]
    assert [each["mark"] for each in ledger["stages"] if each["name"] == "last"] == ["late: default"]
    gate.open()
    all_let_go(served)


def test_full_queue_of_a_node_is_told_with_a_hint(
    served: ServerHere, client: tritonclient.grpc.InferenceServerClient, gate: Gate
) -> None:
    answers = Answers()
    client.async_infer("narrow", numbers(1.0), answers)
    gate.wait_entered()
    client.async_infer("narrow", numbers(2.0), answers)
    eventually(lambda: served.waiting("single") == 1, "one waits")
    with (
        stub_of(served.address) as stub,
        refused("RESOURCE_EXHAUSTED", "graph 'narrow', node 'last': ", "queue is full"),
    ):
        stub.ModelInfer(typed("narrow", "x", "FP32", (1, 1), fp32_contents=[3.0]))
    gate.open()
    assert sorted(values_of(each)[0] for each in answers.wait(2)) == [2.0, 4.0]


def test_caller_that_leaves_in_the_middle_costs_nothing_more(
    served: ServerHere, client: tritonclient.grpc.InferenceServerClient, gate: Gate
) -> None:
    answers = Answers()
    call = client.async_infer("hung-inside", numbers(1.0), answers)
    gate.wait_entered()
    call.cancel()
    (outcome,) = answers.wait(1)
    assert isinstance(outcome, InferenceServerException)
    eventually(lambda: served.in_flight == 0, "nobody waits any more")
    eventually(lambda: served.waiting("hung-inside") == served.waiting("hung") == 0, "the graphs have let go of it")
    gate.open()
    all_let_go(served)


def test_http_connection_that_breaks_in_the_middle_costs_nothing_more(served: ServerHere, gate: Gate) -> None:
    url = f"http://127.0.0.1:{served.host.http_port}/v2/models/hung-inside/infer"
    with pytest.raises(httpx.TimeoutException):
        httpx.post(url, json=body(1.0), timeout=httpx.Timeout(PATIENCE_S, read=0.2))
    gate.wait_entered()
    eventually(lambda: served.in_flight == 0, "nobody waits any more")
    eventually(lambda: served.waiting("hung-inside") == served.waiting("hung") == 0, "the graphs have let go of it")
    gate.open()
    all_let_go(served)


@pytest.mark.parametrize("model", ["count", "recount"])
def test_graph_that_streams_does_so_for_one_caller_alone(
    served: ServerHere, client: tritonclient.grpc.InferenceServerClient, model: str
) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer(model, count(3.0), request_id="7", enable_empty_final_response=True)
    parts = answers.wait(4)
    assert [values_of(each) for each in parts[:3]] == [[3.0], [2.0], [1.0]]
    assert {(each.get_response().model_name, each.get_response().id) for each in parts} == {(model, "7")}
    client.async_stream_infer(model, count(2.5))
    (*fine, failed) = answers.wait(7)[4:]
    assert [values_of(each) for each in fine] == [[2.0], [1.0]]
    assert "node 'last': " in str(failed.message())
    client.stop_stream()
    assert values_of(client.infer(model, count(1.0))) == [1.0]
    with refused("UNIMPLEMENTED", "more than one response"):
        client.infer(model, count(2.0))
    all_let_go(served)


def test_stream_that_is_left_stops_its_servable(served: ServerHere) -> None:
    functions.CLOSED.clear()
    client = tritonclient.grpc.InferenceServerClient(served.address)
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("flood", count(1.0))
    answers.wait(3)
    client.stop_stream(cancel_requests=True)
    assert functions.CLOSED.wait(PATIENCE_S)
    client.close()
    all_let_go(served)


def test_stream_with_a_deadline_ends_at_it_though_its_servable_hangs(served: ServerHere, gate: Gate) -> None:
    with stub_of(served.address) as stub:
        parts: queue.Queue[float] = queue.Queue()
        with refused("DEADLINE_EXCEEDED"):
            for each in stub.ModelStreamInfer(
                iter([typed("pause", "x", "FP32", (1,), fp32_contents=[1.0])]), timeout=0.5
            ):
                parts.put(float(np.frombuffer(each.infer_response.raw_output_contents[0], np.float32)[0]))
    assert parts.qsize() <= 1
    gate.open()
    all_let_go(served)


def test_calls_go_on_while_graphs_are_declared_anew(
    served: ServerHere, client: tritonclient.grpc.InferenceServerClient
) -> None:
    over, seen, errors = threading.Event(), set[float](), list[Exception]()

    def call() -> None:
        while not over.is_set():
            try:
                seen.add(values_of(client.infer("outer", numbers(1.0)))[0])
            except Exception as error:
                errors.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for each in callers:
        each.start()
    once = graph("plain", "last: {call: quick, inputs: {x: x}}")
    twice = graph("plain", "first: {call: quick, inputs: {x: x}} | last: {call: quick, inputs: {x: first.y}}")
    folder = served.engine.spec.folder
    for turn in range(6):
        text = SERVER + FUNCTIONS + GRAPHS.replace(twice, twice if turn % 2 else once)
        served.engine.apply(parse_spec(text, folder=folder))
        eventually(lambda turn=turn: (4.0 if turn % 2 else 2.0) in seen, "the new graph answers")  # type: ignore[misc]
        seen.clear()
    over.set()
    for each in callers:
        each.join(PATIENCE_S)
    assert not errors, errors[0]


def test_ledger_of_a_graph_over_http_and_grpc_names_the_same_stages(served: ServerHere) -> None:
    with stub_of(served.address) as stub:
        ledger, told = asked(stub, "outer", 1.0)
    with httpx.Client(base_url=f"http://127.0.0.1:{served.host.http_port}", timeout=PATIENCE_S) as plain:
        answer = plain.post("/v2/models/outer/infer", json=body(1.0), headers={"vireo-ledger": "1"})
        without = plain.post("/v2/models/outer/infer", json=body(1.0))
    assert told == [4.0]
    names = [each["name"] for each in json.loads(answer.headers["vireo-ledger"])["stages"]]
    assert (
        names == [each["name"] for each in ledger["stages"]] == ["decode", "last", "last/first", "last/last", "encode"]
    )
    assert "vireo-ledger" not in without.headers
