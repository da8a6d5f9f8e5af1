"""A graph whose nodes are in other replicas: the same answers, errors, deadlines, cancellations and streams over the hop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from tests.fakes import PATIENCE_S
from tests.serving import functions
from tests.serving.calls import Answers, count, numbers, refused, stub_of, typed
from tests.serving.ray_host.callers import calling
from tests.serving.ray_host.conftest import OnRay, replicas_of, until_replaced
from tests.serving.servers import ServerProcess, eventually
from tests.serving.test_graph_surfaces import asked, body, function
from tests.serving.test_graphs_over_wire import LONE, flowing, graph, values_of
from tests.serving.test_ledger import check

APP = (
    "server: {grpc_port: 0, http_port: 0, name: %s}\n"
    "functions:\n"
    + function("near", "double")
    + function("far", "double")
    + function("failing", "faulty")
    + function("held", "meeting", "    inline_us_max: 0\n")
    + flowing("countdown", "countdown")
    + "  shout:\n    call: tests.serving.functions:shout\n    batchable: true\n"
    "    inputs: {text: {datatype: BYTES, shape: [-1, 1]}}\n    outputs: {loud: {datatype: BYTES, shape: [-1, 1]}}\n"
    "graphs:\n"
    + graph("mixed", "first: {call: near, inputs: {x: x}} | last: {call: far, inputs: {x: first.y}}")
    + graph("broken", "last: {call: failing, inputs: {x: x}}")
    + graph("patient", "last: {call: held, inputs: {x: x}, timeout_ms: 40, on_late: {default: {y: -1}}}")
    + graph("hung", "last: {call: held, inputs: {x: x}}")
    + graph("count", "last: {call: countdown, inputs: {x: x}}", inputs=LONE)
)
PLACEMENT = """
placement:
  ingress: {replicas: 2, cpus: 0.5}
  workers: {serves: [far, failing, held, countdown, shout], replicas: 2, cpus: 0.5}
"""


@pytest.fixture(scope="module", params=["embedded", "ray"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, meeting: Path
) -> Iterator[ServerProcess]:
    """The same spec on one host or the other."""
    app = tmp_path_factory.mktemp(request.param) / "app.yaml"
    app.write_text(APP % "placed" + PLACEMENT, encoding="utf-8")
    if request.param == "ray":
        on_ray: OnRay = request.getfixturevalue("on_ray")
        yield on_ray(app)
        return
    server = ServerProcess(app, environment={functions.MEETING_VARIABLE: str(meeting)})
    yield server
    server.kill()


@pytest.fixture
def client(served: ServerProcess) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    """Its client over gRPC."""
    with tritonclient.grpc.InferenceServerClient(served.address) as made:
        yield made


@pytest.fixture
def closed(meeting: Path) -> Iterator[Path]:
    """Holds the function `held` until the file `open` is made in this folder, and lets it go at the end."""
    for name in (functions.ENTERED, functions.OPEN):
        (meeting / name).unlink(missing_ok=True)
    yield meeting
    (meeting / functions.OPEN).touch()


def test_answers_are_the_same(served: ServerProcess, client: tritonclient.grpc.InferenceServerClient) -> None:
    assert values_of(client.infer("mixed", numbers(1.0, 2.0))) == [4.0, 8.0]
    assert values_of(client.infer("far", numbers(3.0))) == [6.0]
    answer = httpx.post(f"http://{served.http_address}/v2/models/mixed/infer", json=body(5.0), timeout=PATIENCE_S)
    assert answer.json()["outputs"][0]["data"] == [20.0]
    wide = np.arange(1 << 18, dtype=np.float32)
    assert values_of(client.infer("far", numbers(*wide[:50_000]))) == [2 * each for each in range(50_000)]
    text = tritonclient.grpc.InferInput("text", [2, 1], "BYTES")
    text.set_data_from_numpy(np.array([["ann"], ["b" * 3000]], object))
    assert [len(each) for each in client.infer("shout", [text]).as_numpy("loud").ravel()] == [3, 3000]


def test_errors_are_the_same(client: tritonclient.grpc.InferenceServerClient) -> None:
    with refused("INTERNAL", "graph 'broken', node 'last': model 'failing' version 1: ", "RuntimeError: no luck"):
        client.infer("broken", numbers(1.0))
    with refused("INVALID_ARGUMENT", "expected datatype FP32, got FP64"):
        wrong = tritonclient.grpc.InferInput("x", [1, 1], "FP64")
        wrong.set_data_from_numpy(np.zeros((1, 1)))
        client.infer("far", [wrong])


def test_streams_are_the_same(client: tritonclient.grpc.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("count", count(3.0))
    assert [values_of(each) for each in answers.wait(3)] == [[3.0], [2.0], [1.0]]
    client.async_stream_infer("count", count(2.5))
    (*fine, failed) = answers.wait(6)[3:]
    assert [values_of(each) for each in fine] == [[2.0], [1.0]]
    assert "node 'last': " in str(failed.message())
    client.stop_stream()


def test_deadlines_and_cancellations_reach_the_work(
    served: ServerProcess, client: tritonclient.grpc.InferenceServerClient, closed: Path
) -> None:
    assert values_of(client.infer("patient", numbers(1.0))) == [-1.0]
    with refused("DEADLINE_EXCEEDED"), stub_of(served.address) as stub:
        stub.ModelInfer(typed("hung", "x", "FP32", (1, 1), fp32_contents=[1.0]), timeout=0.3)
    answers = Answers()
    call = client.async_infer("hung", numbers(1.0), answers)
    eventually((closed / functions.ENTERED).exists, "the function is at work")
    call.cancel()
    assert isinstance(answers.wait(1)[0], InferenceServerException)
    (closed / functions.OPEN).touch()
    assert values_of(client.infer("hung", numbers(2.0))) == [4.0]


def test_ledger_tells_of_every_node(served: ServerProcess) -> None:
    with stub_of(served.address) as stub:
        ledger, values = asked(stub, "mixed", 1.0)
    assert values == [4.0]
    stages = [each["name"] for each in ledger["stages"]]
    inner = [each for each in stages if "/" in each]
    assert [each for each in stages if each not in inner] == ["decode", "first", "last", "encode"]
    check(ledger, *stages)
    assert inner in ([], ["last/workers"]), json.dumps(ledger)


def test_replica_that_is_killed_costs_no_more_than_a_thousandth(served: ServerProcess) -> None:
    if not (workers := replicas_of("placed", "workers")):
        pytest.skip("the embedded host has no replicas")
    with calling(served.address, "mixed") as callers:
        callers.until_more(500)
        os.kill(workers[0], signal.SIGKILL)
        until_replaced("placed", "workers", workers[0])
        callers.until_more(500)
    assert set(callers.answers[0]) <= {4.0, *callers.failures()}
    assert len(callers.failures()) <= callers.calls() / 1000, callers.failures()[:3]


def test_door_that_is_killed_takes_only_the_calls_in_it_along(served: ServerProcess) -> None:
    if not (doors := replicas_of("placed", "ingress")):
        pytest.skip("the embedded host has no replicas")
    with calling(served.address, "mixed") as callers:
        callers.until_more(500)
        os.kill(doors[0], signal.SIGKILL)
        until_replaced("placed", "ingress", doors[0])
        callers.until_more(500)
    assert len(callers.failures()) <= len(callers.answers), callers.failures()[:3]
    assert all(answers[-1] == 4.0 for answers in callers.answers)
