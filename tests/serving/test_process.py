"""`vireo serve` as a process: how it starts, how it ends, and what callers see meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from tests.fakes import PATIENCE_S
from tests.serving.calls import given, numbers, pair, refused, simple_inputs
from tests.serving.functions import ENTERED, MEETING_VARIABLE, OPEN, wait_for_file
from tests.serving.models import MEETING, simple, write_model
from tests.serving.servers import PROJECT, VIREO, ServerProcess, eventually, vireo

Serve = Callable[..., ServerProcess]

BOTH = "server: {grpc_port: 0, http_port: 0}\n"
SLOW_MODULE = """
import os, time
from pathlib import Path

def f(x):
    return {"y": x}

Path("entered").touch()
while not Path("open").exists():
    time.sleep(0.01)
"""
SLOW = """
functions:
  slow: {call: "slow_to_import:f", inputs: {x: {datatype: FP32, shape: [1]}}, outputs: {y: {datatype: FP32, shape: [1]}}}
"""


def _http(server: ServerProcess) -> str:
    return "http://" + server.wait_for_line("vireo: serving").split("HTTP on ")[1].strip()


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def _app(folder: Path, text: str) -> Path:
    path = folder / "app.yaml"
    path.write_text(text)
    return path


def _ask_http(url: str, value: float) -> object:
    """The y of `meeting` over HTTP, or the status it is refused with."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}]}
    request = urllib.request.Request(f"{url}/v2/models/meeting/infer", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["outputs"][0]["data"]
    except urllib.error.HTTPError as error:
        return error.code


def _ask_grpc(address: str, value: float) -> object:
    """The y of `meeting` over gRPC."""
    with InferenceServerClient(address) as client:
        return client.infer("meeting", numbers(value)).as_numpy("y").ravel().tolist()


@pytest.mark.parametrize("front", ["grpc", "http"])
def test_sigterm_finishes_what_is_in_flight_and_admits_nothing_more(front: str, serve: Serve, tmp_path: Path) -> None:
    server = serve(_app(tmp_path, BOTH + MEETING), **{MEETING_VARIABLE: str(tmp_path)})
    http = _http(server)
    ask, place = (_ask_grpc, server.address) if front == "grpc" else (_ask_http, http)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, place, 4.0)
        wait_for_file(tmp_path / ENTERED)
        server.signal(signal.SIGTERM)
        eventually(lambda: _get(f"{http}/readyz")[0] == 503, "the server is not ready any more")
        assert _ask_http(http, 5.0) == 503
        with refused("UNAVAILABLE", "shutting down"):
            _ask_grpc(server.address, 5.0)
        assert not answer.done()
        (tmp_path / OPEN).touch()
        assert answer.result(PATIENCE_S) == [8.0]
    assert server.wait() == 0


def test_sigterm_does_not_wait_for_ever(serve: Serve, tmp_path: Path) -> None:
    app = _app(tmp_path, "server: {grpc_port: 0, http_port: 0, drain_s: 0.1}\n" + MEETING)
    server = serve(app, **{MEETING_VARIABLE: str(tmp_path)})
    with InferenceServerClient(server.address) as client:
        client.async_infer("meeting", numbers(4.0), lambda result, error: None)
        wait_for_file(tmp_path / ENTERED)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_probes_answer_and_requests_are_refused_while_models_load(tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text(SLOW_MODULE)
    port = _free_port()
    app = _app(tmp_path, f"server: {{grpc_port: null, http_port: {port}}}\n{SLOW}")
    with _started(app) as process:
        wait_for_file(tmp_path / "entered")
        assert _get(f"http://127.0.0.1:{port}/livez")[0] == 200
        status, told = _get(f"http://127.0.0.1:{port}/readyz")
        assert (status, "slow: loading" in told) == (503, True), told
        assert _get(f"http://127.0.0.1:{port}/v2/models/slow/ready")[0] == 503
        (tmp_path / "open").touch()
        eventually(lambda: _get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "the model is loaded")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_sigterm_ends_a_start_whatever_is_loading(tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text(SLOW_MODULE)
    server = f"server: {{grpc_port: 0, http_port: 0, drain_s: {10 * PATIENCE_S}}}\n"
    with _started(_app(tmp_path, server + SLOW)) as process:
        wait_for_file(tmp_path / "entered")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def _started(app: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(VIREO), "serve", str(app)],
        cwd=app.parent,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


def test_a_server_killed_in_mid_work_serves_again(serve: Serve, tmp_path: Path) -> None:
    write_model(tmp_path / "models", "simple", simple())
    app = _app(tmp_path, f"{BOTH}repository: {{path: models}}\n{MEETING}")
    first = serve(app, **{MEETING_VARIABLE: str(tmp_path)})
    with InferenceServerClient(first.address) as client:
        client.async_infer("meeting", numbers(4.0), lambda result, error: None)
        wait_for_file(tmp_path / ENTERED)
        first.kill()
    again = serve(app, **{MEETING_VARIABLE: str(tmp_path)})
    left, right = pair()
    with InferenceServerClient(again.address) as client:
        result = client.infer("simple", simple_inputs(left, right))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)


@pytest.mark.parametrize("front", ["grpc", "http"])
def test_a_taken_port_is_told_before_any_model_loads(front: str, tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text(SLOW_MODULE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = vireo("serve", _app(tmp_path, BOTH + SLOW), f"--{front}-port", str(port), folder=tmp_path)
    assert ended.returncode == 1
    assert f"server.{front}_port: cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "entered").exists()


def test_a_function_beside_the_spec_is_found_from_any_folder(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text("def f(x):\n    return {'y': x + 1}\n")
    assert Path.cwd() != tmp_path
    server = serve(_app(tmp_path, BOTH + SLOW))
    with InferenceServerClient(server.address) as client:
        x = np.array([1.5], np.float32)
        assert client.infer("slow", [given("x", x, "FP32")]).as_numpy("y").tolist() == [2.5]


def test_sighup_applies_the_spec_as_it_is_then(serve: Serve, tmp_path: Path) -> None:
    app = _app(tmp_path, BOTH + MEETING)
    server = serve(app, **{MEETING_VARIABLE: str(tmp_path)})
    (tmp_path / OPEN).touch()
    http = _http(server)
    assert _ask_http(http, 4.0) == [8.0]
    app.write_text(BOTH + MEETING.replace("meeting:", "encounter:"))
    server.signal(signal.SIGHUP)
    eventually(lambda: _ask_http(http, 4.0) == 404, "the function is gone")
    assert _get(f"{http}/v2/models/encounter")[0] == 200
    app.write_text("functions: {encounter: 7}")
    server.signal(signal.SIGHUP)
    app.write_text(BOTH + MEETING)
    server.signal(signal.SIGHUP)
    eventually(lambda: _ask_http(http, 4.0) == [8.0], "it is back, whatever was wrong between")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
