"""The whole generator, by either engine, in its own process, against a real grpc.aio server in another. No speed is asserted."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from benchmarks.harness import free_port, sleep_until
from benchmarks.load.frames import join_frames
from benchmarks.load.order import Engine, LoadOrder, Protocol
from benchmarks.load.process import LoadError, LoadProcess, command_of, run_load
from benchmarks.load.result import LoadResult
from benchmarks.load.samples import load_samples
from benchmarks.load.statuses import OK
from tests.benchmarks.load.engines import engine
from tests.benchmarks.load.scripted_server import METHOD

__all__ = ["engine"]  # a fixture

SEED = 5
RATE_PER_S = 600.0


@dataclass
class Scripted:
    """A scripted server and where its frames may be written."""

    child: subprocess.Popen[str]
    port: int
    folder: Path
    engine: Engine

    def order(self, *messages: bytes, rate: float | None = RATE_PER_S, callers: int | None = None) -> LoadOrder:
        frames = self.folder / "requests.frames"
        frames.write_bytes(join_frames(messages))
        return LoadOrder(
            port=self.port,
            frames=str(frames),
            path=METHOD,
            rate_per_s=rate,
            callers=callers,
            duration_s=0.6,
            warmup_s=0.1,
            drain_s=2.0,
            seed=SEED,
            spin_us=500,
            engine=self.engine,
        )


@pytest.fixture
def server(tmp_path: Path, engine: Engine) -> Iterator[Scripted]:
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.load.scripted_server", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield Scripted(child, port, tmp_path, engine)
        child.kill()


def test_counts_add_up_and_the_warm_up_is_left_out(server: Scripted) -> None:
    samples = server.folder / "samples.npz"
    result = run_load(replace(server.order(b"o"), samples=str(samples)))
    assert result.engine is server.engine
    assert result.fallback is None
    everything = load_samples(samples)
    kept = everything.between(result.begin_ns, result.end_ns)
    assert result.errors == {}
    assert result.ok == result.requests == len(kept.due_ns)
    assert len(kept.due_ns) < len(everything.due_ns)
    assert abs(result.requests - 360) < 5 * 19, f"seed {SEED}"
    assert np.all(everything.status == OK)
    assert np.all(everything.done_ns > everything.sent_ns)


def test_errors_are_counted_by_code(server: Scripted) -> None:
    result = run_load(server.order(b"o", b"e", b"o", b"o"))
    assert result.ok + sum(result.errors.values()) == result.requests
    assert set(result.errors) == {"RESOURCE_EXHAUSTED"}
    assert result.errors["RESOURCE_EXHAUSTED"] == pytest.approx(result.requests / 4, abs=1)
    assert result.goodput_share == pytest.approx(0.75, abs=0.01)


def test_stall_is_felt_by_every_request_that_was_due_in_it(server: Scripted) -> None:
    samples = server.folder / "samples.npz"
    messages = [b"o"] * 150 + [b"s"] + [b"o"] * 1000
    result = run_load(replace(server.order(*messages), samples=str(samples), deadline_ms=50.0))
    assert server.child.stdout is not None
    began_ns, ended_ns = map(int, server.child.stdout.readline().split())
    stalled = load_samples(samples).between(began_ns, ended_ns)
    assert len(stalled.due_ns) > 40, f"seed {SEED}"
    assert np.all(stalled.done_ns >= ended_ns)
    assert np.all(stalled.latency_ns >= ended_ns - stalled.due_ns)
    tail_ms = float(np.percentile(load_samples(samples).latency_ns, 99)) / 1e6
    assert tail_ms > 150
    assert result.goodput_share < 0.95


def test_generator_that_was_stopped_refuses_a_verdict(server: Scripted) -> None:
    order = replace(server.order(b"o", rate=1500.0), target_ms=10_000.0)
    with subprocess.Popen([*command_of(order), "--announce"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        window = msgspec.json.decode(child.stdout.readline())
        sleep_until(window["begin_ns"] + 100_000_000)
        os.kill(child.pid, signal.SIGSTOP)
        sleep_until(window["begin_ns"] + 300_000_000)
        os.kill(child.pid, signal.SIGCONT)
        result = msgspec.json.decode(child.stdout.read(), type=LoadResult)
    assert child.returncode == 3
    assert result.verdict == "invalid: generator late"
    assert result.generator.lateness_max_ms > 100


def test_requests_without_answer_are_errors_and_end_the_run(server: Scripted) -> None:
    result = run_load(replace(server.order(b"o", b"o", b"w"), drain_s=0.2))
    assert set(result.errors) == {"no answer before the drain ended"}
    assert result.ok + sum(result.errors.values()) == result.requests


def test_deadline_that_we_send_comes_back_as_its_code(server: Scripted) -> None:
    result = run_load(replace(server.order(b"o", b"w"), timeout_ms=100))
    assert set(result.errors) == {"DEADLINE_EXCEEDED"}
    assert result.errors["DEADLINE_EXCEEDED"] == pytest.approx(result.requests / 2, abs=1)


def test_mebibyte_answers_pass_through_a_small_window(server: Scripted) -> None:
    result = run_load(replace(server.order(b"b", rate=60.0), window_bytes=65_535))
    assert result.errors == {}
    assert result.ok == result.requests > 20


def test_mebibyte_requests_pass_through_the_servers_window(server: Scripted) -> None:
    result = run_load(replace(server.order(b"o" * 2**20, b"o", rate=60.0), connections=2))
    assert result.errors == {}
    assert result.ok == result.requests > 20


def test_server_that_dies_turns_the_rest_into_errors(server: Scripted) -> None:
    with LoadProcess(replace(server.order(b"o"), duration_s=2.0)) as load:
        sleep_until(load.window.begin_ns + 1_000_000_000)  # long enough for answers on a machine busy with other things
        server.child.kill()
        result = load.finish()
    assert 0 < result.ok < result.requests
    assert set(result.errors) == {"UNAVAILABLE"}
    assert result.ok + result.errors["UNAVAILABLE"] == result.requests
    assert result.generator.faults


def test_closed_loop_has_every_caller_wait_for_its_answer(server: Scripted) -> None:
    samples = server.folder / "samples.npz"
    result = run_load(replace(server.order(b"o", rate=None, callers=3), samples=str(samples)))
    rows = load_samples(samples)
    in_flight = [int(np.sum((rows.due_ns <= at) & (rows.done_ns > at))) for at in rows.due_ns[3:-3:7]]
    assert result.errors == {}
    assert result.ok > 100
    assert max(in_flight) <= 3


def test_missing_server_is_an_error_and_not_a_result(tmp_path: Path, engine: Engine) -> None:
    frames = tmp_path / "requests.frames"
    frames.write_bytes(join_frames([b"o"]))
    with pytest.raises(LoadError, match="ConnectionRefused"):
        run_load(LoadOrder(port=free_port(), frames=str(frames), rate_per_s=10, engine=engine))


def test_interrupted_generator_ends_at_once(server: Scripted) -> None:
    order = replace(server.order(b"o"), duration_s=60.0)
    command = [*command_of(order), "--announce"]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so would a child
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(10) != 0


class Answers(BaseHTTPRequestHandler):
    """Answers like an inference server; each tenth request gets 503, each seventh closes the connection."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Answers.asked += 1
        self.close_connection = Answers.asked % 7 == 0
        self.send_response(503 if Answers.asked % 10 == 0 else 200)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"fine")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_http_counts_add_up_over_closing_connections_and_errors(tmp_path: Path) -> None:
    call = service_pb2.ModelInferRequest(model_name="fraud")
    call.inputs.add(name="features", datatype="FP32", shape=[1, 2])
    call.raw_input_contents.append(bytes(8))
    frames = tmp_path / "requests.frames"
    frames.write_bytes(join_frames([call.SerializeToString()]))
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        order = LoadOrder(
            port=web.server_address[1],
            frames=str(frames),
            protocol=Protocol.HTTP,
            rate_per_s=200.0,
            duration_s=1.0,
            warmup_s=0.2,
            seed=SEED,
            connections=16,
            spin_us=500,
        )
        result = run_load(order)
        web.shutdown()
    assert set(result.errors) == {"HTTP 503"}
    assert result.ok + result.errors["HTTP 503"] == result.requests
    assert result.errors["HTTP 503"] == pytest.approx(result.requests / 10, abs=3)
