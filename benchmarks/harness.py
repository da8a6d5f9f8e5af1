"""Start a server on given cores, wait until it answers, load it, and tell what CPU it used meanwhile."""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.load.order import LoadOrder
from benchmarks.load.process import LoadProcess
from benchmarks.load.result import LoadResult
from benchmarks.process_cpu import cpu_seconds, machine_cpu_seconds

SERVER_CORE = 0
LOAD_CORE = 1
READY_S_MAX = 600.0
"""The first start on a machine compiles kernels, which takes minutes on a slow one; a server that ends is told at once."""
STOP_S_MAX = 20.0
PROBE_S = 0.05
NS_PER_S = 1e9
UNANSWERED = ("no answer before the drain ended", "not sent: too many in flight")


class ServerError(Exception):
    """A server did not come up, or went away; its own words are in the message."""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def grpc_ready(port: int, model: str) -> Callable[[], bool]:
    """A probe: whether the server on `port` is live and `model` is ready, by gRPC."""

    def probe() -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                live = stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=1.0).live
                return bool(live and stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=1.0).ready)
            except grpc.RpcError:
                return False

    return probe


def on_cores(core: int | tuple[int, ...], command: Sequence[str]) -> list[str]:
    """The command that runs `command` on this core, or on these."""
    cores = (core,) if isinstance(core, int) else core
    return ["taskset", "-c", ",".join(map(str, cores)), *command]


class ServerProcess:
    """A server in a process of its own, pinned to `core` or to several (None: not pinned), its output in a log file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        core: int | tuple[int, ...] | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = list(command)
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        pinned = command if core is None else on_cores(core, command)
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                pinned, stdout=out, stderr=out, env={**os.environ, **(environment or {})}, start_new_session=True
            )

    def wait_ready(self, probe: Callable[[], bool], *, patience_s: float = READY_S_MAX) -> None:
        """Return once `probe` says yes. Raises ServerError when the server ends or `patience_s` passes before; whatever is
        raised, the server is stopped."""
        give_up = time.monotonic() + patience_s
        try:
            while not probe():
                ended = self._child.poll() is not None
                if ended or time.monotonic() > give_up:
                    why = "ended before it was ready" if ended else f"is not ready after {patience_s:g} s"
                    raise ServerError(f"{' '.join(self.command)} {why}: {self.last_words()}")
                time.sleep(PROBE_S)
        except BaseException:
            self.stop()
            raise

    def last_words(self) -> str:
        """The end of the server's log."""
        return self._log.read_text(errors="replace")[-2000:].strip()

    @property
    def pid(self) -> int:
        """The server's own: pinning it makes no process of its own."""
        return self._child.pid

    def cpu_s(self) -> float:
        """CPU seconds so far, children included."""
        return cpu_seconds(self._child.pid)

    def stop(self) -> int:
        """SIGTERM, then SIGKILL to what is left of its session after STOP_S_MAX; the exit code."""
        if self._child.poll() is None:
            self._child.terminate()
        try:
            return self._child.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            return self._child.wait()

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class Measured:
    """A load and what it cost the server: CPU in microseconds for each answered request, and as a share of one core.

    `others_cpu_share`: what processes beside the server and the generator had, as a share of one core; NaN where the
    server's own is not known. The generator's idle spinning counts as theirs.
    """

    load: LoadResult
    server_cpu_us_per_request: float | None
    server_cpu_share: float
    others_cpu_share: float = math.nan


class Measurable(Protocol):
    """What is loaded: one process, or several that make up a service."""

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        ...


def measure(order: LoadOrder, server: Measurable) -> Measured:
    """Carry out `order` and read the server's CPU time at both ends of the measured window."""
    with LoadProcess(order) as load:
        sleep_until(load.window.begin_ns)
        before_s, all_before_s, began_ns = server.cpu_s(), machine_cpu_seconds(), time.monotonic_ns()
        sleep_until(load.window.end_ns)
        after_s, all_after_s, ended_ns = server.cpu_s(), machine_cpu_seconds(), time.monotonic_ns()
        result = load.finish()
    took_s = (ended_ns - began_ns) / NS_PER_S
    share = (after_s - before_s) / took_s
    others = (all_after_s - all_before_s) / took_s - share - result.generator.cpu_share
    window_s = (result.end_ns - result.begin_ns) / NS_PER_S
    answered_per_s = (result.requests - sum(result.errors.get(each, 0) for each in UNANSWERED)) / window_s
    return Measured(result, share * 1e6 / answered_per_s if answered_per_s else None, share, max(0.0, others))


def sleep_until(instant_ns: int) -> None:
    """Sleep until the monotonic clock shows `instant_ns`."""
    time.sleep(max(0.0, (instant_ns - time.monotonic_ns()) / NS_PER_S))


def python_module(module: str, *words: str) -> list[str]:
    """The command that runs one of our modules under this interpreter."""
    return [sys.executable, "-m", module, *words]
