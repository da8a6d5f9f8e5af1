"""The ledger, marks and priority as callers see them: through plain stubs, because tritonclient hides trailing metadata."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2 as pb

from engine import BATCH, INTERACTIVE, NEVER_NS, Deadline, Ledger, Request, Response, Stage, limits
from serving.asked import Asked, asked_by
from serving.codec import encode_response
from serving.json_codec import Wanted, encode_body
from serving.ledger import Timeline, encode_ledger, encode_marks, server_timing, timeline_of
from serving.trace_context import TraceParent, parse_traceparent
from tests.fakes import PATIENCE_S
from tests.serving.calls import Answers, count, message, numbers, refused, stub_of, typed
from tests.serving.models import FUNCTIONS
from tests.serving.servers import ServerHere

Start = Callable[[str], ServerHere]
Told = dict[str, Any]

SLACK_US = 200.0
SERVER = "server: {grpc_port: 0, http_port: 0, drain_s: 5}\n"
ASKING = (("vireo-ledger", "1"),)
NUMBERS = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}


def check(ledger: Told, *names: str) -> None:
    """The stages are these, and the critical ones sum up to the total."""
    stages = ledger["stages"]
    assert [each["name"] for each in stages] == list(names)
    critical_us = sum(each["wait_us"] + each["compute_us"] for each in stages if each["critical"])
    assert abs(critical_us - ledger["total_us"]) <= SLACK_US, ledger
    assert all(each["wait_us"] >= 0 and each["compute_us"] >= 0 for each in stages)
    assert "cut" not in ledger


def double(stub: Any, *metadata: tuple[str, str], timeout: float | None = None) -> dict[str, str]:  # noqa: ANN401
    """Calls `double`; the trailing metadata of its answer."""
    request = typed("double", "x", "FP32", (1, 2), fp32_contents=[1.0, 2.0])
    _, call = stub.ModelInfer.with_call(request, metadata=metadata, timeout=timeout)
    return {each.key: each.value for each in call.trailing_metadata()}


@pytest.fixture
def both(start: Start) -> ServerHere:
    """A server of functions on gRPC and HTTP."""
    return start(SERVER + FUNCTIONS)


# gRPC.


def test_ledger_comes_in_trailing_metadata_to_who_asks_for_it(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        assert double(stub) == double(stub, ("vireo-ledger", "0")) == {}
        before = time.monotonic()
        trailers = double(stub, *ASKING)
        took_us = (time.monotonic() - before) * 1e6
    ledger = json.loads(trailers["vireo-ledger"])
    check(ledger, "decode", "double", "encode")
    assert 0 < ledger["total_us"] < took_us
    (_, computed, _) = ledger["stages"]
    assert computed["rows"] == 1
    assert computed["compute_us"] > 0
    assert computed["mark"] == ""
    assert [each["remaining_us"] for each in ledger["stages"]] == [None] * 3


def test_remaining_time_falls_from_the_whole_budget(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        ledger = json.loads(double(stub, *ASKING, timeout=PATIENCE_S)["vireo-ledger"])
    remaining = [each["remaining_us"] for each in ledger["stages"]]
    assert PATIENCE_S * 1e6 * 1.1 > remaining[0] > remaining[1] > remaining[2] > 0


def test_answers_with_a_ledger_are_the_same_answers(server: ServerHere) -> None:
    raw = np.arange(6, dtype=np.float32)
    requests = [
        message("double", ("x", "FP32", (3, 2), raw.tobytes()), id=f"number {index}") for index in range(20)
    ] + [typed("double", "x", "FP32", (1, 2), fp32_contents=[1.0, 2.0])]
    with stub_of(server.address) as stub:
        for request in requests:
            assert stub.ModelInfer(request, metadata=ASKING) == stub.ModelInfer(request)


def test_compressed_request_gets_its_ledger_too(server: ServerHere) -> None:
    request = typed("double", "x", "FP32", (1, 2), fp32_contents=[1.0, 2.0])
    with stub_of(server.address) as stub:
        _, call = stub.ModelInfer.with_call(request, metadata=ASKING, compression=grpc.Compression.Gzip)
    check(json.loads(dict(call.trailing_metadata())["vireo-ledger"]), "decode", "double", "encode")


def test_failed_request_that_asked_fails_as_any_other(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        for metadata in ((), ASKING):
            with refused("INTERNAL", "no luck"):
                stub.ModelInfer(typed("faulty", "x", "FP32", (1,), fp32_contents=[1.0]), metadata=metadata)
            with refused("NOT_FOUND", "no-such-model"):
                stub.ModelInfer(message("no-such-model"), metadata=metadata)


def test_answer_too_large_to_send_is_refused_with_its_reason(start: Start) -> None:
    text = """
server: {grpc_port: 0, http_port: null, message_bytes_max: 65536}
functions:
  enormous:
    call: tests.serving.functions:enormous
    inputs: {x: {datatype: FP32, shape: [1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1000]}}
"""
    with stub_of(start(text).address) as stub, refused("RESOURCE_EXHAUSTED", "larger than max"):
        stub.ModelInfer(typed("enormous", "x", "FP32", (1,), fp32_contents=[100.0]), metadata=ASKING)


def test_every_answer_of_a_stream_has_its_own_ledger(server: ServerHere) -> None:
    requests = [
        typed("double", "x", "FP32", (1, 2), fp32_contents=[1.0, 2.0]),
        typed("countdown", "x", "FP32", (1,), fp32_contents=[3.0]),
    ]
    with stub_of(server.address) as stub:
        plain = list(stub.ModelStreamInfer(iter(requests)))
        asking = list(stub.ModelStreamInfer(iter(requests), metadata=ASKING))
    assert not any("vireo_ledger" in each.infer_response.parameters for each in plain)
    assert len(asking) == len(plain) == 4
    for answer in asking:
        response = answer.infer_response
        ledger = json.loads(response.parameters["vireo_ledger"].string_param)
        check(ledger, "decode", response.model_name, "encode")


def test_decoupled_answers_of_unmodified_tritonclient_are_as_before(server: ServerHere) -> None:
    answers = Answers()
    with tritonclient.grpc.InferenceServerClient(server.address) as client:
        client.start_stream(answers, headers=dict(ASKING))
        client.async_stream_infer("countdown", count(2.0))
        got = [float(each.as_numpy("y")[0]) for each in answers.wait(2)]
    assert got == [2.0, 1.0]


def test_malformed_wish_is_refused_and_names_its_header(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        with refused("INVALID_ARGUMENT", "header vireo-ledger", "expected 1 or 0", "'please'"):
            double(stub, ("vireo-ledger", "please"))
        with refused("INVALID_ARGUMENT", "header vireo-priority", "interactive or batch", "'urgent'"):
            double(stub, ("vireo-priority", "urgent"))
        with refused("INVALID_ARGUMENT", "header vireo-priority"):
            list(stub.ModelStreamInfer(iter(()), metadata=(("vireo-priority", ""),)))
        assert double(stub, ("vireo-unknown", "x"), ("traceparent", "nonsense"), ("tracestate", "a=b")) == {}


# HTTP.


@contextmanager
def http_of(server: ServerHere) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.host.http_port}", timeout=PATIENCE_S) as client:
        yield client


@pytest.mark.parametrize("http2", [False, True])
def test_ledger_comes_in_a_header_and_as_server_timing(both: ServerHere, transport: str, http2: bool) -> None:
    if http2 and transport == "grpcio":
        pytest.skip("HTTP/1.1 alone is spoken there")
    base = f"http://127.0.0.1:{both.host.http_port}"
    with httpx.Client(base_url=base, http1=not http2, http2=http2, timeout=PATIENCE_S) as client:
        plain = client.post("/v2/models/double/infer", json=NUMBERS)
        asked = client.post("/v2/models/double/infer", json=NUMBERS, headers={"Vireo-Ledger": "1"})
    assert plain.json() == asked.json()
    assert "vireo-ledger" not in plain.headers
    assert [each.split(";")[0].strip() for each in plain.headers["server-timing"].split(",")] == ["queue", "compute"]
    ledger = json.loads(asked.headers["vireo-ledger"])
    check(ledger, "decode", "double", "encode")
    timing = dict(each.strip().split(";dur=") for each in asked.headers["server-timing"].split(","))
    assert list(timing) == ["decode", "double", "encode", "total"]
    assert abs(sum(map(float, timing.values())) - 2 * float(timing["total"])) < 0.01
    assert abs(float(timing["total"]) - ledger["total_us"] / 1e3) < 0.01


def test_http_request_that_asks_wrongly_is_refused(both: ServerHere) -> None:
    with http_of(both) as client:
        for header in ("vireo-ledger", "vireo-priority"):
            answer = client.post("/v2/models/double/infer", json=NUMBERS, headers={header: "3"})
            assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
            assert header in answer.json()["error"]


# Priority.


@pytest.fixture
def requests_of(both: ServerHere, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Every request that reaches the engine of `both`."""
    seen: list[Request] = []
    submit = both.engine.submit

    def watched(request: Request, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        seen.append(request)
        return submit(request, *arguments, **named)

    monkeypatch.setattr(both.engine, "submit", watched)
    return seen


def test_priority_is_interactive_unless_the_caller_says_batch(both: ServerHere, requests_of: list[Request]) -> None:
    inputs = numbers(1.0, 2.0)
    inputs[0].set_shape([1, 2])
    with tritonclient.grpc.InferenceServerClient(both.address) as client:
        for priority in (0, 1, 2, 1000):
            client.infer("double", inputs, priority=priority)
        client.infer("double", inputs, parameters={"priority_of_mine": "batch"})
        client.infer("double", inputs, headers={"vireo-priority": "batch"})
        client.infer("double", inputs, headers={"vireo-priority": "interactive"}, priority=2)
    assert [each.priority for each in requests_of] == [
        INTERACTIVE, INTERACTIVE, BATCH, BATCH, INTERACTIVE, BATCH, INTERACTIVE,
    ]  # fmt: skip


def test_http_client_says_its_priority_as_the_protocol_has_it(both: ServerHere, requests_of: list[Request]) -> None:
    given = tritonclient.http.InferInput("x", [1, 2], "FP32").set_data_from_numpy(np.ones((1, 2), np.float32))
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{both.host.http_port}") as client:
        for priority in (0, 1, 2):
            client.infer("double", [given], priority=priority)
        client.infer("double", [given], headers={"vireo-priority": "batch"})
    assert [each.priority for each in requests_of] == [INTERACTIVE, INTERACTIVE, BATCH, BATCH]


@pytest.mark.parametrize("value", [-1, True, 1.5, "high", ""])
def test_priority_that_is_none_is_refused(both: ServerHere, value: object) -> None:
    with http_of(both) as client:
        answer = client.post("/v2/models/double/infer", json={**NUMBERS, "parameters": {"priority": value}})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert "'priority'" in answer.json()["error"]


@pytest.mark.parametrize(("value", "priority"), [("batch", BATCH), ("interactive", INTERACTIVE), (2**63, BATCH)])
def test_priority_may_be_a_word_or_large(
    both: ServerHere, requests_of: list[Request], value: str | int, priority: int
) -> None:
    request = typed("double", "x", "FP32", (1, 2), fp32_contents=[1.0, 2.0])
    if isinstance(value, str):
        request.parameters["priority"].string_param = value
    else:
        request.parameters["priority"].uint64_param = value
    with stub_of(both.address) as stub:
        for _ in range(2):  # the second is read by what the first taught
            stub.ModelInfer(request)
    assert [each.priority for each in requests_of] == [priority] * 2


def test_trace_reaches_the_request_only_where_it_is_well_formed(both: ServerHere, requests_of: list[Request]) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with stub_of(both.address) as stub:
        for given in (trace, trace.upper(), "00-" + "0" * 32 + "-b7ad6b7169203331-01", ""):
            double(stub, ("traceparent", given))
    assert [each.trace for each in requests_of] == [trace, None, None, None]


# Encoding.


def stage(index: int, *, critical: bool = False, name: str = "node") -> Stage:
    start_ns = index * 1_000_000
    return Stage(f"{name} {index}", start_ns, start_ns + 1000, start_ns + 500_000, 3, NEVER_NS, critical)


def test_ledger_of_many_stages_is_cut_and_says_so() -> None:
    stages = tuple(stage(index, critical=index % 20 == 0) for index in range(200))
    text = encode_ledger(Timeline(0, 200_000_000, stages))
    assert 3800 < len(text) <= limits.LEDGER_BYTES_MAX
    told = json.loads(text)
    assert told["cut"] is True
    kept = [int(each["name"].split()[1]) for each in told["stages"]]
    assert kept == sorted(kept)
    assert {*range(0, 200, 20)} <= set(kept)


def test_any_ledger_is_bounded_ascii_and_json() -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(300):
        name = "".join(chr(rng.choice([34, 92, 10, 65, 233, 0x2603, 0x1F600])) for _ in range(rng.randrange(1, 200)))
        stages = tuple(stage(index, critical=rng.random() < 0.5, name=name) for index in range(rng.randrange(60)))
        timeline = Timeline(0, 10**9, stages)
        text = encode_ledger(timeline)
        assert len(text) <= limits.LEDGER_BYTES_MAX
        assert text.isascii()
        assert text.isprintable()
        told = json.loads(text)
        assert ("cut" in told) == (len(told["stages"]) < len(stages))
        timing = server_timing(timeline)
        assert len(timing) <= limits.LEDGER_BYTES_MAX
        assert timing.isascii()


def test_stages_of_a_graph_lie_between_those_of_the_transport() -> None:
    inner = (
        Stage("a", 2000, 2500, 4000, 2, 9000, critical=True),
        Stage("b", 2000, 2000, 3000, 1, 9000, mark="late: default"),
        Stage("c", 4000, 4200, 7000, 1, 7000, critical=True),
    )
    ledger = Ledger(2000, 2500, 7100, 1, lambda: inner)
    response = Response("graph", 1, {}, ledger)
    timeline = timeline_of(Request("graph", {}, deadline=Deadline(50_000)), response, 1000, 8000)
    assert [each.name for each in timeline.stages] == ["decode", "a", "b", "c", "encode"]
    told = json.loads(encode_ledger(timeline))
    check(told, "decode", "a", "b", "c", "encode")
    assert told["total_us"] == 7.0
    assert told["stages"][2]["mark"] == "late: default"
    assert [each["remaining_us"] for each in told["stages"]] == [10.0, 9.0, 9.0, 7.0, 4.0]


def test_marks_are_a_parameter_of_either_form_of_answer_and_nothing_where_there_are_none() -> None:
    for marks, text in (
        ((), None),
        (("score: late: default",), "score: late: default"),
        (("a: x", "b: é"), "a: x; b: é"),
    ):
        response = Response("graph", 1, {}, Ledger(0), marks=marks)
        message = pb.ModelInferResponse.FromString(encode_response(response).SerializeToString())
        body = json.loads(encode_body(response, Wanted())[0])
        if text is None:
            assert not message.parameters
            assert "parameters" not in body
        else:
            assert message.parameters["vireo_marks"].string_param == text
            assert body["parameters"] == {"vireo_marks": text}


def test_marks_in_a_header_are_printable_and_bounded() -> None:
    assert encode_marks(("a: late: default", "b: failed: light")) == "a: late: default; b: failed: light"
    for marks in (("é\r\n: x",), ("x" * 5000,)):
        text = encode_marks(marks)
        assert text.isascii()
        assert text.isprintable()
        assert len(text) <= limits.MARKS_CHARS_MAX + 3


# What headers say.

IDS = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{IDS}-01", True),
        (f"00-{IDS}-00", False),
        (f"00-{IDS}-03", True),  # flags of later versions of the standard are ignored
        (f"01-{IDS}-01", True),
        (f"cc-{IDS}-01-what-the-future-will-be-like", True),
    ],
)
def test_traceparent_is_read(text: str, sampled: bool) -> None:
    found = parse_traceparent(text)
    assert found == TraceParent(IDS[:32], IDS[33:], sampled)
    assert str(found) == f"00-{IDS}-0{int(sampled)}"


@pytest.mark.parametrize(
    "text",
    [
        "", "00", IDS, f"00-{IDS}", f"00-{IDS}-1", f"00-{IDS}-01-", f"00-{IDS}-01-more", f"ff-{IDS}-01", f"0-{IDS}-01",
        f"00-{IDS.upper()}-01", f"00-{IDS}-0x", f" 00-{IDS}-01", f"00-{IDS}-01\n", f"01-{IDS}-01more", f"00_{IDS}_01",
        f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", f"cc-{IDS}-01-" + "x" * 1000,
    ],
)  # fmt: skip
def test_malformed_traceparent_is_as_good_as_none(text: str) -> None:
    assert parse_traceparent(text) is None
    assert asked_by({"traceparent": text, "tracestate": "a=b"}) == Asked()


def test_nothing_asked_is_nothing() -> None:
    assert asked_by({"tracestate": "a=b", "user-agent": "x"}) is None
    assert asked_by({"vireo-ledger": "1"}) == Asked(ledger=True)
