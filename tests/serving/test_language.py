"""The OpenAI API over HTTP/1.1 and HTTP/2, and `vireo.v1.Generation`: answers, streams, errors, and callers who leave."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from engine import BATCH, Deadline
from protos.vireo.v1 import generation_pb2 as pb
from protos.vireo.v1.generation_pb2_grpc import GenerationStub
from tests.fakes import PATIENCE_S
from tests.language import MADE, Bigrams
from tests.serving.servers import ServerHere, eventually, spec_for

SPEC = """
server: {grpc_port: 0, http_port: 0}
language_models:
  again: {call: 'tests.language:Bigrams', answers: {bytes_max: 100000, ttl_s: 60, always: true}}
  parrot: {call: 'tests.language:Bigrams', calls_max: 3}
"""
BODY = {"model": "parrot", "prompt": "the cat sat on", "max_tokens": 6}
ENDLESS = {"model": "parrot", "prompt": "a b", "stream": True}
SEED = random.randrange(1 << 32)


@pytest.fixture(scope="module")
def running(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHere]:
    """A server with the parrot."""
    made = ServerHere(spec_for(SPEC, tmp_path_factory.mktemp("language"), transport))
    yield made
    made.stop()


@pytest.fixture(params=["http1", "http2"])
def dial(running: ServerHere, transport: str, request: pytest.FixtureRequest) -> Callable[[], httpx.Client]:
    """Connects to that server by either version of HTTP."""
    two = request.param == "http2"
    if two and transport == "grpcio":
        pytest.skip("uvicorn speaks HTTP/1.1 alone")
    url = f"http://127.0.0.1:{running.host.http_port}"
    return lambda: httpx.Client(http1=not two, http2=two, base_url=url, timeout=30, verify=False)


@pytest.fixture
def client(dial: Callable[[], httpx.Client]) -> Iterator[httpx.Client]:
    """Of that server."""
    with dial() as made:
        yield made


@pytest.fixture
def stub(running: ServerHere) -> Iterator[GenerationStub]:
    """Of the gRPC service."""
    with grpc.insecure_channel(running.address) as channel:
        yield GenerationStub(channel)  # type: ignore[no-untyped-call]


def model() -> Bigrams:
    """The one that the server under test made."""
    return MADE[-1]


def words(lines: list[str]) -> str:
    """What the events of a stream say."""
    assert lines[-1] == "data: [DONE]"
    return " ".join(json.loads(each[6:])["choices"][0]["text"] for each in lines[:-1])


def test_an_answer_comes_whole_or_as_events(client: httpx.Client) -> None:
    whole = client.post("/v1/completions", json=BODY)
    assert whole.json()["choices"][0]["text"] == "the cat sat on the cat"
    with client.stream("POST", "/v1/completions", json={**BODY, "stream": True}) as streamed:
        assert streamed.headers["content-type"] == "text/event-stream"
        assert "content-length" not in streamed.headers
        assert words([line for line in streamed.iter_lines() if line]) == "the cat sat on the cat"


def test_models_and_adapters_are_told(client: httpx.Client) -> None:
    model().adapters[:] = ["org/pirate"]
    listed = client.get("/v1/models").json()
    cards = [(each["id"], each["parent"]) for each in listed["data"]]
    assert cards == [("again", None), ("parrot", None), ("org/pirate", "parrot")]
    assert client.get("/v1/models/org/pirate").json()["root"] == "parrot"
    assert client.get("/v1/models/parot").json()["error"]["message"].endswith("nearest: 'parrot'")


@pytest.mark.parametrize("streams", [False, True])
def test_a_kept_answer_is_told_and_can_be_refused(client: httpx.Client, streams: bool) -> None:
    body = {**BODY, "model": "again", "prompt": f"a b {uuid.uuid4()}", "stream": streams}
    plain: dict[str, str] = {}
    asked = [
        plain,
        plain,
        {"cache-control": "max-age=0, No-Cache"},
        {"cache-control": "no-store"},
        {"vireo-tenant": "b"},
    ]
    answers = [client.post("/v1/completions", json=body, headers=headers) for headers in asked]
    assert [each.headers.get("vireo-cache") for each in answers] == ["miss", "hit", None, None, "miss"]
    assert len({each.content for each in answers}) == 1
    assert len({each.headers["content-type"] for each in answers}) == 1
    text = client.get("/metrics").text
    counts = {line.split("{")[0]: float(line.split()[-1]) for line in text.splitlines() if '{model="again"}' in line}
    kept = ("hits_total", "misses_total", "entries", "bytes")
    assert all(counts[f"vireo_language_cache_{each}"] >= 1 for each in kept)
    assert 'vireo_language_cache_bytes{model="parrot"}' not in text


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/v1/completions", b"{", 400, {"type": "invalid_request_error", "code": None}),
        ("/v1/completions", b"[" * 1_000_000, 400, {"type": "invalid_request_error"}),
        ("/v1/completions", b"[]", 400, {"type": "invalid_request_error"}),
        ("/v1/completions", b"{}", 400, {"message": "request body: 'model' must be a text, got 'None'"}),
        ("/v1/completions", {**BODY, "model": "parot"}, 404, {"code": "model_not_found", "param": "model"}),
        ("/v1/completions", {**BODY, "prompt": ""}, 400, {"message": "prompt: it has no words"}),
        ("/v1/completions", {**BODY, "prompt": "", "stream": True}, 400, {"message": "prompt: it has no words"}),
        ("/v1/completions", {**BODY, "prompt": "teapot"}, 418, {"message": "I am one"}),
        ("/v1/embeddings", {**BODY, "input": "x"}, 400, {"type": "invalid_request_error"}),
    ],
)
def test_errors_have_the_form_of_the_openai_api(
    client: httpx.Client, path: str, body: bytes | dict[str, Any], status: int, error: dict[str, Any]
) -> None:
    given = client.post(path, content=body if isinstance(body, bytes) else json.dumps(body))
    assert given.status_code == status
    assert error.items() <= given.json()["error"].items()


def test_a_deadline_before_the_first_word_has_its_status(client: httpx.Client) -> None:
    model().open.clear()
    try:
        for body in (BODY, {**BODY, "stream": True}):
            late = client.post("/v1/completions", json=body, headers={"x-request-timeout-ms": "10"})
            assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
    finally:
        model().open.set()


def test_a_deadline_within_a_stream_is_told_in_its_last_event(client: httpx.Client, running: ServerHere) -> None:
    with client.stream("POST", "/v1/completions", json=ENDLESS, headers={"x-request-timeout-ms": "200"}) as streamed:
        last = [line for line in streamed.iter_lines() if line][-1]
    assert json.loads(last[6:])["error"]["code"] == "timeout"
    eventually(lambda: model().under_way == 0 and running.in_flight == 0, "nothing is under way")


def test_a_caller_who_leaves_frees_what_it_held(dial: Callable[[], httpx.Client], running: ServerHere) -> None:
    with dial() as client, client.stream("POST", "/v1/completions", json=ENDLESS) as streamed:
        lines = streamed.iter_lines()  # kept: the client closes the stream with it
        assert next(lines)
        assert model().under_way == 1
    eventually(lambda: model().under_way == 0 and running.in_flight == 0, "nothing is under way")


def test_random_disconnects_leak_nothing(dial: Callable[[], httpx.Client], running: ServerHere) -> None:
    chance = random.Random(SEED)
    before = running.tasks()
    for _ in range(200):
        if chance.random() < 0.3:
            with dial() as client, pytest.raises(httpx.TimeoutException):
                client.post("/v1/completions", json={**ENDLESS, "stream": False}, timeout=chance.uniform(0.001, 0.01))
            continue
        with dial() as client, client.stream("POST", "/v1/completions", json=ENDLESS) as streamed:
            lines = streamed.iter_lines()
            for _ in range(chance.randrange(4)):
                next(lines)
    eventually(lambda: model().under_way == 0 and running.in_flight == 0, f"nothing is under way (seed {SEED})")
    eventually(lambda: running.tasks() == before, f"no task is left (seed {SEED})")
    assert running.engine.language_models.statistics()[0][1].under_way == 0


def test_more_calls_than_allowed_are_told_when_to_come_again(
    dial: Callable[[], httpx.Client], running: ServerHere
) -> None:
    with ExitStack() as open_calls:
        for _ in range(3):
            open_calls.enter_context(open_calls.enter_context(dial()).stream("POST", "/v1/completions", json=ENDLESS))
        refused = open_calls.enter_context(dial()).post("/v1/completions", json=BODY)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["type"] == "rate_limit_error"
    eventually(lambda: running.in_flight == 0, "nothing is under way")


def test_what_headers_say_reaches_the_model(client: httpx.Client) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"vireo-tenant": "acme", "vireo-priority": "batch", "x-request-id": "r1", "traceparent": trace}
    client.post("/v1/completions", json=BODY, headers=headers)
    asked = model().asked[-1]
    assert (asked.tenant, asked.priority, asked.id, asked.trace) == ("acme", BATCH, "r1", trace)
    assert asked.deadline is Deadline.NEVER


def test_metrics_count_calls_by_outcome(client: httpx.Client) -> None:
    client.post("/v1/completions", json=BODY)
    text = client.get("/metrics").text
    assert 'vireo_language_ready{model="parrot"} 1.0' in text
    assert 'vireo_language_calls_total{model="parrot",outcome="ok"}' in text
    assert 'vireo_language_first_seconds_count{model="parrot"}' in text


def request(body: dict[str, Any], kind: int = pb.GENERATION_KIND_COMPLETION) -> pb.GenerateRequest:
    """A message with `body`."""
    return pb.GenerateRequest(kind=kind, body=json.dumps(body).encode())  # type: ignore[arg-type]


def test_grpc_answers_whole_and_in_events(stub: GenerationStub) -> None:
    whole = stub.Generate(request(BODY))
    assert (whole.status, json.loads(whole.body)["choices"][0]["text"]) == (200, "the cat sat on the cat")
    events = list(stub.Stream(request(BODY)))
    assert " ".join(json.loads(each.data)["choices"][0]["text"] for each in events) == "the cat sat on the cat"
    assert [each.id for each in stub.ListModels(pb.ListModelsRequest()).models][:2] == ["again", "parrot"]


def test_grpc_knows_events_by_every_end_of_a_line(tmp_path: Path, transport: str) -> None:
    text = SPEC.replace("tests.language:Bigrams", "tests.language:CarriageReturns")
    running = ServerHere(spec_for(text, tmp_path, transport))
    with grpc.insecure_channel(running.address) as channel:
        events = list(GenerationStub(channel).Stream(request({**BODY, "stream": True})))  # type: ignore[no-untyped-call]
    running.stop()
    assert [json.loads(each.data)["choices"][0]["text"] for each in events] == ["the", "cat", "sat", "on", "the", "cat"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (request({**BODY, "model": "parot"}), grpc.StatusCode.NOT_FOUND),
        (request({**BODY, "prompt": ""}), grpc.StatusCode.INVALID_ARGUMENT),
        (request({**BODY, "stream": True}), grpc.StatusCode.INVALID_ARGUMENT),
        (request({**BODY, "stream": "yes"}), grpc.StatusCode.INVALID_ARGUMENT),
        (request(BODY, kind=99), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_grpc_errors_are_statuses(stub: GenerationStub, message: pb.GenerateRequest, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Generate(message)
    assert raised.value.code() is code


def test_a_grpc_stream_that_is_cancelled_or_late_frees_what_it_held(stub: GenerationStub, running: ServerHere) -> None:
    stream = stub.Stream(request(ENDLESS))
    assert next(stream).data
    stream.cancel()
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.Stream(request(ENDLESS), timeout=0.2))
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: model().under_way == 0 and running.in_flight == 0, "nothing is under way")


def test_a_server_that_stops_lets_a_stream_end(transport: str, tmp_path: Path) -> None:
    server = ServerHere(spec_for(SPEC, tmp_path, transport))
    url = f"http://127.0.0.1:{server.host.http_port}/v1/completions"
    with httpx.stream("POST", url, json={**BODY, "max_tokens": 2_000, "stream": True}, timeout=30) as streamed:
        lines = streamed.iter_lines()
        assert next(lines)
        stopping = server.submit(server.host.stop())
        assert words([line for line in lines if line])
        stopping.result(PATIENCE_S)
    assert model().closed
    server.stop()
