"""`vireo serve APP.yaml --host ray`: what is served, changed and ended as on the embedded host."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import tritonclient.grpc

from tests.fakes import PATIENCE_S
from tests.serving.calls import numbers, refused
from tests.serving.ray_host.conftest import START_S, OnRay
from tests.serving.test_graph_surfaces import body, function

APP = "server: {grpc_port: 0, http_port: 0, name: plainly}\nfunctions:\n" + function("double", "double")
CHAIN = """
graphs:
  twice:
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    nodes:
      first: {call: double, inputs: {x: x}}
      second: {call: double, inputs: {x: first.y}}
    outputs: {y: second.y}
"""


def test_spec_is_served_changed_by_sighup_and_drained_by_sigterm(on_ray: OnRay, tmp_path: Path) -> None:
    app = tmp_path / "app.yaml"
    app.write_text(APP, encoding="utf-8")
    server = on_ray(app)
    with tritonclient.grpc.InferenceServerClient(server.address) as client:
        assert client.is_server_ready()
        assert client.infer("double", numbers(1.0, 2.0)).as_numpy("y").ravel().tolist() == [2.0, 4.0]
        with refused("NOT_FOUND", "twice"):
            client.infer("twice", numbers(1.0))
        app.write_text(APP + CHAIN, encoding="utf-8")
        server.signal(signal.SIGHUP)
        server.wait_for_line("app.yaml is applied", START_S)
        assert client.infer("twice", numbers(1.0)).as_numpy("y").ravel().tolist() == [4.0]
        app.write_text(APP + CHAIN.replace("first.y", "nobody.y"), encoding="utf-8")
        server.signal(signal.SIGHUP)
        assert "nobody" in server.wait_for_line("is not applied", START_S)
        assert client.infer("twice", numbers(1.0)).as_numpy("y").ravel().tolist() == [4.0]
    answer = httpx.post(f"http://{server.http_address}/v2/models/twice/infer", json=body(3.0), timeout=PATIENCE_S)
    assert answer.json()["outputs"][0]["data"] == [12.0]
    server.signal(signal.SIGTERM)
    assert server.wait(START_S) == 0, server.output
