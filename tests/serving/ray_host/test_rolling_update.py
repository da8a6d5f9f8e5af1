"""A spec that changes under load, reached by replicas one after the other: no call fails, and no answer is of two specs."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.serving.ray_host.callers import calling
from tests.serving.ray_host.conftest import START_S, OnRay
from tests.serving.test_graph_surfaces import function
from tests.serving.test_graphs_over_wire import graph

PLACEMENT = "placement: {ingress: {replicas: 2, cpus: 0.5}, workers: {serves: [far], cpus: 0.5}}\n"


def _spec(call: str) -> str:
    nodes = "first: {call: near, inputs: {x: x}} | last: {call: far, inputs: {x: first.y}}"
    functions = function("near", call) + function("far", call)
    return (
        "server: {grpc_port: 0, http_port: 0, name: rolling}\nfunctions:\n"
        + functions
        + "graphs:\n"
        + graph("both", nodes)
        + PLACEMENT
    )


def test_update_under_load_fails_no_call_and_mixes_no_answer(on_ray: OnRay, tmp_path: Path) -> None:
    app = tmp_path / "app.yaml"
    app.write_text(_spec("double"), encoding="utf-8")
    server = on_ray(app)
    with calling(server.address, "both") as callers:
        callers.until_more(200)
        app.write_text(_spec("treble"), encoding="utf-8")
        server.signal(signal.SIGHUP)
        server.wait_for_line("app.yaml is applied", START_S)
        callers.until_all(lambda answers: answers[-1] == 9.0, "all are answered by the new spec")
        callers.until_more(200)
        server.signal(signal.SIGTERM)  # a drain: who is in it is answered
        assert server.wait(START_S) == 0, server.output
    for answers in callers.answers:
        until = answers.index(9.0)
        assert set(answers[:until]) == {4.0}
        served = [each for each in answers[until:] if not isinstance(each, str)]
        assert set(served) == {9.0}, "an answer of the former spec, or of both"
        assert not any(isinstance(each, str) for each in answers[: until + len(served)]), answers
