"""Language models in replicas of their own: the same over the hop, and none there while nobody calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import functions
from tests.serving.ray_host.conftest import START_S, OnRay, replicas_of
from tests.serving.ray_host.speakers import LEFT
from tests.serving.servers import ServerProcess, eventually
from tests.serving.test_graph_surfaces import body, function
from tests.serving.test_language import words

APP = (
    "server: {grpc_port: 0, http_port: 0, name: speaking}\n"
    "functions:\n" + function("near", "double") + "language_models:\n"
    "  chat: {call: 'tests.serving.ray_host.speakers:Speaker', calls_max: 2}\n"
    "  rare: {call: 'tests.serving.ray_host.speakers:Speaker'}\n"
    "placement:\n"
    "  ingress: {cpus: 0.5}\n"
    "  chatting: {serves: [chat], cpus: 0.5}\n"
    "  resting:\n    serves: [rare]\n    cpus: 0.5\n"
    "    autoscaling: {replicas_min: 0, replicas_max: 1, calls_target: 8.0, calm_s: 1.0}\n"
)
CALL = {"model": "chat", "prompt": "the cat sat on", "max_tokens": 6}
ENDLESS = {"model": "chat", "prompt": "a b", "stream": True}


@pytest.fixture(scope="module", params=["embedded", "ray"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, meeting: Path
) -> Iterator[ServerProcess]:
    """The same spec on one host or the other."""
    app = tmp_path_factory.mktemp(request.param) / "app.yaml"
    app.write_text(APP, encoding="utf-8")
    if request.param == "ray":
        on_ray: OnRay = request.getfixturevalue("on_ray")
        yield on_ray(app)
        return
    server = ServerProcess(app, environment={functions.MEETING_VARIABLE: str(meeting)})
    yield server
    server.kill()


@pytest.fixture
def client(served: ServerProcess) -> Iterator[httpx.Client]:
    """Its client over HTTP."""
    with httpx.Client(base_url=f"http://{served.http_address}", timeout=START_S) as made:
        yield made


def _told(client: httpx.Client, call: dict[str, object], **headers: str) -> httpx.Response:
    return client.post("/v1/completions", json=call, headers=headers)


def test_answers_and_streams_are_the_same(client: httpx.Client) -> None:
    assert _told(client, CALL).json()["choices"][0]["text"] == "the cat sat on the cat"
    with client.stream("POST", "/v1/completions", json={**CALL, "stream": True}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert words([each for each in answer.iter_lines() if each]) == "the cat sat on the cat"
    assert {each["id"] for each in client.get("/v1/models").json()["data"]} == {"chat", "rare"}


def test_errors_are_the_same(client: httpx.Client) -> None:
    assert _told(client, {**CALL, "prompt": ""}).json()["error"]["message"] == "prompt: it has no words"
    teapot = _told(client, {**CALL, "prompt": "teapot"})
    assert (teapot.status_code, teapot.headers["x-pot"]) == (418, "tea")
    refused = client.post("/v1/embeddings", json={"model": "chat", "input": "x"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "answers no embedding calls" in refused.json()["error"]["message"]


def test_deadlines_and_callers_who_leave_reach_the_model(client: httpx.Client, meeting: Path) -> None:
    for leave_early in (True, False):
        (meeting / LEFT).unlink(missing_ok=True)
        headers = {} if leave_early else {"x-request-timeout-ms": "400"}
        with client.stream("POST", "/v1/completions", json=ENDLESS, headers=headers) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            if not leave_early:
                assert "deadline passed" in [each for each in lines if each][-1]
        eventually((meeting / LEFT).exists, "the model stops", START_S)
    assert _told(client, CALL).status_code == 200


def test_one_that_nobody_calls_has_no_replica_until_somebody_does(client: httpx.Client) -> None:
    rare = {**CALL, "model": "rare"}
    if not replicas_of("speaking", "chatting"):
        pytest.skip("the embedded host has no replicas")
    eventually(lambda: not replicas_of("speaking", "resting"), "it rests", START_S)
    hurried = _told(client, rare, **{"x-request-timeout-ms": "300"})
    assert (hurried.status_code, hurried.headers["retry-after"]) == (503, "10")
    assert "language model 'rare': deployment 'resting' was at rest" in hurried.json()["error"]["message"]
    assert client.get("/readyz").status_code == 200
    assert client.post("/v2/models/near/infer", json=body(3.0)).json()["outputs"][0]["data"] == [6.0]
    assert _told(client, rare).json()["choices"][0]["text"] == "the cat sat on the cat"
    assert len(replicas_of("speaking", "resting")) == 1
