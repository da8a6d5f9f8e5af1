"""The Open Inference Protocol in plain HTTP and JSON, and what becomes of requests that meet, wait or are left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest

from engine import DATATYPES, Array
from tests.fakes import PATIENCE_S, Gate
from tests.serving import functions
from tests.serving.calls import pair
from tests.serving.models import MEETING, SERVER, edge_values, identity_of
from tests.serving.over_http.bodies import (
    HEADER_LENGTH,
    SIMPLE,
    as_json,
    asking,
    check_refused,
    is_right,
    numbers,
    raw_content,
    simple_binary,
    simple_body,
    tensor,
    values_of,
)
from tests.serving.over_http.conftest import client_of
from tests.serving.over_http.wire import Connect, request
from tests.serving.servers import ServerHere, eventually
from tests.serving.test_scheduling import FULL

GATED = "/v2/models/gated/infer"


def _identity(http: httpx.Client, datatype: str, shape: tuple[int, ...], data: object, **more: Any) -> Any:  # noqa: ANN401
    body = asking(tensor("x", datatype, shape, data), **more)
    return values_of(http.post(f"/v2/models/{identity_of(datatype)}/infer", content=json.dumps(body).encode()))


# JSON.


def test_answer_names_model_version_id_and_each_output(http: httpx.Client) -> None:
    answer = http.post(SIMPLE, json=simple_body(id="an id"))
    told = answer.json()
    assert (told["model_name"], told["model_version"], told["id"]) == ("simple", "1", "an id")
    assert [(each["name"], each["datatype"], each["shape"]) for each in told["outputs"]] == [
        ("OUTPUT0", "INT32", [1, 16]),
        ("OUTPUT1", "INT32", [1, 16]),
    ]
    assert answer.headers["content-type"] == "application/json"
    assert "id" not in http.post(SIMPLE, json=simple_body()).json()


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]])
def test_nested_and_flat_data_mean_the_same(http: httpx.Client, data: object) -> None:
    assert _identity(http, "INT8", (2, 2), data) == [1, 2, 3, 4]


def test_nested_strings_are_flattened_too(http: httpx.Client) -> None:
    assert _identity(http, "BYTES", (2, 2), [["a", "ü"], ["☃", ""]]) == ["a", "ü", "☃", ""]


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16"])
def test_nan_and_infinities_go_in_and_come_out(http: httpx.Client, datatype: str) -> None:
    nan, up, down, one = _identity(http, datatype, (2, 2), [float("nan"), float("inf"), float("-inf"), 1.5])
    assert (nan != nan, up, down, one) == (True, float("inf"), float("-inf"), 1.5)


def test_nan_is_written_as_triton_writes_it(http: httpx.Client) -> None:
    body = b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[NaN,Infinity,-Infinity,1]}]}'
    answer = http.post("/v2/models/identity_fp32/infer", content=body)
    assert re.search(r'"data":\[NaN,Infinity,-Infinity,1\.0\]', answer.text), answer.text


def test_text_that_says_nan_stays_text(http: httpx.Client) -> None:
    assert _identity(http, "BYTES", (1, 2), ["NaN", "Infinity"]) == ["NaN", "Infinity"]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_travel_as_json_numbers(http: httpx.Client, datatype: str) -> None:
    assert _identity(http, datatype, (2, 2), [0, -2, 0.5, 1.0009765625])[:3] == [0, -2, 0.5]


def test_half_floats_are_rounded_to_the_nearest(http: httpx.Client) -> None:
    assert _identity(http, "BF16", (2, 2), [1.001, 3.1415926, 1e38, 0]) == pytest.approx(
        [1.0, 3.140625, 1e38, 0], rel=2**-8
    )
    assert _identity(http, "FP16", (1, 2), [3.1415926, 0]) == [float(np.float16(3.1415926)), 0]


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("INT64", [2**53 + 1, -(2**63), 2**63 - 1, -1]), ("UINT64", [2**53 + 1, 0, 2**64 - 1, 2**63])],
)
def test_integers_beyond_what_a_double_holds_stay_exact(http: httpx.Client, datatype: str, values: list[int]) -> None:
    assert _identity(http, datatype, (2, 2), values) == values


def test_doubles_stay_exact(http: httpx.Client) -> None:
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308]
    assert _identity(http, "FP64", (2, 2), values) == values


def test_single_floats_read_back_as_the_same_bits(http: httpx.Client) -> None:
    given = np.random.default_rng(7).standard_normal(1000, np.float32)
    got = _identity(http, "FP32", (500, 2), given.tolist())
    np.testing.assert_array_equal(np.array(got, np.float32), given)


def test_unknown_keys_and_nulls_are_passed_over(http: httpx.Client) -> None:
    body = simple_body(parameters=None, outputs=None, id=None, something={"else": [1]})
    assert is_right(http.post(SIMPLE, json=body))


def test_outputs_come_alone_and_in_the_order_asked_for(http: httpx.Client) -> None:
    answer = http.post(SIMPLE, json=simple_body(outputs=[{"name": "OUTPUT1"}, {"name": "OUTPUT0"}]))
    assert [each["name"] for each in answer.json()["outputs"]] == ["OUTPUT1", "OUTPUT0"]


def test_version_in_the_path_chooses(http: httpx.Client) -> None:
    body = asking(tensor("x", "FP32", (1, 2), [1, 1]))
    answers = [http.post(f"/v2/models/versions{each}/infer", json=body).json() for each in ("", "/versions/2")]
    assert [each["model_version"] for each in answers] == ["3", "2"]


# Raw content.


def test_body_of_raw_content_alone_is_one_row(http: httpx.Client) -> None:
    sent = np.array([1.5, -2], np.float32).tobytes()
    answer = http.post("/v2/models/double/infer", content=sent, headers={HEADER_LENGTH: "0"})
    told, raw = _split(answer)
    assert np.frombuffer(raw, np.float32).tolist() == [3.0, -4.0]
    assert told["outputs"][0]["shape"] == [1, 2]


@pytest.mark.parametrize(
    ("batchable", "shape", "filled"),
    [("true", "[-1, -1]", [1, 6]), ("false", "[2, -1]", [2, 3]), ("false", "[-1]", [6])],
)
def test_body_of_raw_content_alone_fills_a_free_dimension(
    start: Callable[[str], ServerHere], batchable: str, shape: str, filled: list[int]
) -> None:
    text = MEETING.replace("meeting", "double").replace("[-1, 1]", shape).replace("batchable: true", "batchable: ")
    server = start(f"{SERVER}\n{text.replace('batchable: ', f'batchable: {batchable}')}")
    values = np.arange(6, dtype=np.float32)
    with client_of(server) as client:
        answer = client.post("/v2/models/double/infer", content=values.tobytes(), headers={HEADER_LENGTH: "0"})
        told, raw = _split(answer)
        assert (told["outputs"][0]["shape"], raw) == (filled, (values * 2).tobytes())
        answer = client.post("/v2/models/double/infer", content=bytes(7), headers={HEADER_LENGTH: "0"})
        check_refused(answer, 400, "input 'x'", "FP32 of shape", "got 7")


def test_body_of_raw_text_alone_is_one_string(http: httpx.Client) -> None:
    answer = http.post("/v2/models/shout/infer", content=b"hello", headers={HEADER_LENGTH: "0"})
    assert _split(answer)[1] == b"\x05\0\0\0HELLO"


def _split(answer: httpx.Response) -> tuple[Any, bytes]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream"), answer.text
    length = int(answer.headers[HEADER_LENGTH])
    return json.loads(answer.content[:length]), answer.content[length:]


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_content_comes_back_byte_for_byte(http: httpx.Client, datatype: str) -> None:
    content = raw_content(edge_values(datatype))
    sized = {"parameters": {"binary_data_size": len(content)}}
    header = json.dumps(
        asking({"name": "x", "datatype": datatype, "shape": [2, 2], **sized}, parameters={"binary_data_output": True})
    ).encode()
    path = f"/v2/models/{identity_of(datatype)}/infer"
    told, raw = _split(http.post(path, content=header + content, headers={HEADER_LENGTH: str(len(header))}))
    assert raw == content
    assert told["outputs"][0]["parameters"] == {"binary_data_size": len(content)}


def test_binary_request_is_answered_in_json_unless_it_asks_otherwise(http: httpx.Client) -> None:
    body, length = simple_binary()
    assert is_right(http.post(SIMPLE, content=body, headers={HEADER_LENGTH: length}))


def test_header_length_of_the_whole_body_is_all_json(http: httpx.Client) -> None:
    body = json.dumps(simple_body()).encode()
    assert is_right(http.post(SIMPLE, content=body, headers={HEADER_LENGTH: str(len(body))}))


# What HTTP says about it.


def test_answer_tells_how_long_it_waited_and_computed(http: httpx.Client) -> None:
    timing = http.post(SIMPLE, json=simple_body()).headers["server-timing"]
    assert re.fullmatch(r"queue;dur=\d+\.\d{3}, compute;dur=\d+\.\d{3}", timing)


def test_path_that_is_not_served_says_where_to_look(http: httpx.Client) -> None:
    for path in ("/", "/v1/models/simple", "/v2/models/simple/guess", "/v2/"):
        check_refused(http.get(path), 404, f"nothing is served at '{path}'", "/docs")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", SIMPLE, "POST"),
        ("PUT", SIMPLE, "POST"),
        ("POST", "/v2/models/simple", "GET, HEAD"),
        ("DELETE", "/v2", "GET, HEAD"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
        ("GET", "/v2/repository/index", "POST"),
    ],
)
def test_wrong_method_is_told_the_right_ones(http: httpx.Client, method: str, path: str, allowed: str) -> None:
    answer = http.request(method, path)
    check_refused(answer, 405, f"{method} '{path}'", f"allowed is {allowed}")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/v2", "/livez", "/docs", "/v2/models/simple/config", "/none"])
def test_head_is_get_without_a_body(http: httpx.Client, path: str) -> None:
    got, head = http.get(path), http.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


def test_connection_serves_after_a_head(connect: Connect) -> None:
    connection = connect()
    connection.send(request("HEAD", "/livez"))
    assert connection.read(bodiless=True).status == 200
    assert connection.ask(request("GET", "/livez")).body == b"ok\n"


def test_model_names_are_sorted_and_complete(http: httpx.Client) -> None:
    names = http.get("/v2/models").json()["models"]
    assert names == sorted(names)
    assert {"simple", "double", "versions"} <= set(names)


# Requests that meet.


class Asking:
    """Sends requests, each from a thread and over a connection of its own: httpx lets one thread read for all."""

    def __init__(self, server: ServerHere) -> None:
        self._server = server
        self._threads = ThreadPoolExecutor(40)

    def gated(self, *values: float, **headers: str) -> Future[httpx.Response]:
        """Asks `gated`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._threads.submit(self._post, numbers(*values), sent)

    def _post(self, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        with client_of(self._server) as client:
            return client.post(GATED, json=body, headers=headers)

    def end(self) -> None:
        """Waits until all are answered."""
        self._threads.shutdown()


@pytest.fixture
def ask(server: ServerHere, gate: Gate) -> Iterator[Asking]:
    """Sends requests; in the end the gate is opened and all are answered."""
    made = Asking(server)
    yield made
    gate.open()
    made.end()


@pytest.fixture
def held(ask: Asking, gate: Gate) -> Future[httpx.Response]:
    """One request (of value 1) is being computed and held at the gate, where the next ones wait behind it."""
    first = ask.gated(1.0)
    gate.wait_entered()
    return first


def _counted(server: ServerHere, model: str = "gated") -> tuple[int, int]:
    ((_, _, counted),) = server.engine.statistics(model)
    return counted.executions, counted.rows


def _result(answer: Future[httpx.Response]) -> httpx.Response:
    return answer.result(PATIENCE_S)


def test_requests_that_wait_are_computed_together(
    server: ServerHere, gate: Gate, ask: Asking, held: Future[httpx.Response]
) -> None:
    executions, rows = _counted(server)
    answers = {value: ask.gated(value, value + 0.5) for value in range(2, 22)}
    eventually(lambda: server.waiting("gated") == 20, "twenty wait")
    gate.open()
    for value, answer in answers.items():
        assert values_of(_result(answer)) == [2 * value, 2 * value + 1]
    assert values_of(_result(held)) == [2.0]
    eventually(lambda: _counted(server) == (executions + 2, rows + 41), "one batch of twenty requests, and the first")


def test_answers_of_a_batch_equal_single_ones_bit_for_bit(http: httpx.Client, server: ServerHere) -> None:
    bodies = [_whole(*pair(1 + seed % 3, seed)) for seed in range(64)]
    single = [http.post(SIMPLE, json=each).content for each in bodies]
    with ThreadPoolExecutor(16) as threads:
        together = [each.content for each in threads.map(partial(_post, server), bodies)]
    assert together == single


def _whole(left: Array, right: Array) -> dict[str, Any]:
    return asking(as_json("INPUT0", left), as_json("INPUT1", right))


def _post(server: ServerHere, body: dict[str, Any]) -> httpx.Response:
    with client_of(server) as client:
        return client.post(SIMPLE, json=body)


def test_bad_request_fails_alone_and_its_batch_is_answered(
    server: ServerHere, gate: Gate, ask: Asking, held: Future[httpx.Response]
) -> None:
    answers = [ask.gated(each) for each in (2.0, -3.0, 4.0)]
    eventually(lambda: server.waiting("gated") == 3, "three wait")
    gate.open()
    good, bad, other = (_result(each) for each in answers)
    assert (values_of(good), values_of(other)) == ([4.0], [8.0])
    check_refused(bad, 400, "x must not be negative")


# Nobody waits any more.


def _check_never_computed(server: ServerHere, gate: Gate, ask: Asking, held: Future[httpx.Response]) -> None:
    """Only the request that was held, and the one that this sends, reach the function."""
    eventually(lambda: server.in_flight == 1, "the server has seen that nobody waits")
    gate.open()
    assert values_of(_result(ask.gated(9.0))) == [18.0]
    assert values_of(_result(held)) == [2.0]
    assert functions.COMPUTED == [1.0, 9.0]


def test_request_whose_timeout_parameter_is_over_is_told_and_never_computed(
    http: httpx.Client, server: ServerHere, gate: Gate, ask: Asking, held: Future[httpx.Response]
) -> None:
    answer = http.post(GATED, json={**numbers(2.0), "parameters": {"timeout": 50_000}})
    check_refused(answer, 504, "model 'gated'", "deadline passed")
    _check_never_computed(server, gate, ask, held)


def test_request_whose_timeout_header_is_over_is_told_and_never_computed(
    server: ServerHere, gate: Gate, ask: Asking, held: Future[httpx.Response]
) -> None:
    check_refused(_result(ask.gated(2.0, X_Request_Timeout_Ms="50")), 504, "model 'gated'", "deadline passed")
    _check_never_computed(server, gate, ask, held)


def test_sooner_of_two_timeouts_counts(
    http: httpx.Client, server: ServerHere, gate: Gate, ask: Asking, held: Future[httpx.Response]
) -> None:
    body = {**numbers(2.0), "parameters": {"timeout": 3_600_000_000}}
    check_refused(http.post(GATED, json=body, headers={"X-Request-Timeout-Ms": "50"}), 504, "deadline passed")
    _check_never_computed(server, gate, ask, held)


def test_timeout_of_nothing_is_over_at_once(http: httpx.Client) -> None:
    check_refused(http.post(SIMPLE, json=simple_body(), headers={"X-Request-Timeout-Ms": "0"}), 504, "deadline")


def test_ample_timeouts_change_nothing(http: httpx.Client) -> None:
    body = simple_body(parameters={"timeout": 60_000_000})
    assert is_right(http.post(SIMPLE, json=body, headers={"X-Request-Timeout-Ms": "60000"}))
    assert is_right(http.post(SIMPLE, json=simple_body(parameters={"timeout": 0})))


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "", "9" * 40])
def test_timeout_header_that_is_no_number_is_refused(http: httpx.Client, value: str) -> None:
    answer = http.post(SIMPLE, json=simple_body(), headers={"X-Request-Timeout-Ms": value})
    check_refused(answer, 400, "x-request-timeout-ms", "expected a whole number", f"'{value}'")


def test_request_of_a_client_that_disconnects_while_it_waits_is_never_computed(
    connect: Connect, server: ServerHere, gate: Gate, ask: Asking, held: Future[httpx.Response]
) -> None:
    leaving = [connect() for _ in range(10)]
    for value, each in enumerate(leaving, 2):
        each.send(request("POST", GATED, json.dumps(numbers(value)).encode()))
    eventually(lambda: server.waiting("gated") == 10, "ten wait")
    for each in leaving:
        each.close()
    _check_never_computed(server, gate, ask, held)


# Too much.


def test_full_queue_refuses_and_says_when_to_try_again(start: Callable[[str], ServerHere], gate: Gate) -> None:
    server = start(f"server: {{grpc_port: null, http_port: null}}\n{FULL}")
    with client_of(server) as client:
        ask = Asking(server)
        answers = [ask.gated(1.0)]
        gate.wait_entered()
        answers += [ask.gated(each) for each in (2.0, 3.0)]
        eventually(lambda: server.waiting("gated") == 2, "the queue is full")
        refused = client.post(GATED, json=numbers(4.0))
        check_refused(refused, 429, "model 'gated'", "queue is full, 2 requests wait, at most 2 may")
        assert int(refused.headers["retry-after"]) >= 1
        assert 0 < int(refused.headers["retry-after-ms"]) <= 1000 * int(refused.headers["retry-after"])
        gate.open()
        assert [values_of(_result(each)) for each in answers] == [[2.0], [4.0], [6.0]]
        assert values_of(client.post(GATED, json=numbers(5.0))) == [10.0]
        ask.end()
