"""Real servers for tests: in this process on a loop of their own, which is quick, or as `vireo serve`.

`TRANSPORTS` are the gRPC transports that every conformance test runs through.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from engine import Engine, Spec, parse_spec
from serving.embedded import EmbeddedHost
from tests.fakes import PATIENCE_S

TRANSPORTS = ["native", "grpcio"]
VIREO = Path(sys.executable).with_name("vireo")
PROJECT = Path(__file__).resolve().parents[2]
POLL_S = 0.005

Result = TypeVar("Result")


def spec_for(text: str, folder: Path, transport: str) -> Spec:
    """The spec in `text`, served by `transport`."""
    assert transport in TRANSPORTS
    spec = parse_spec(text, folder=folder)
    server = replace(spec.server, transport=transport)  # type: ignore[arg-type]
    return replace(spec, server=server)


def eventually(is_so: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Returns when `is_so`, which nobody announces."""
    end = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < end, f"it never came: {what}"
        time.sleep(POLL_S)


class ServerHere:
    """An embedded host in this process, on a thread with its own event loop."""

    def __init__(self, spec: Spec, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self.host = EmbeddedHost(spec)
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server-under-test", daemon=True)
        self._thread.start()
        try:
            self.run(self.host.start())
        except BaseException:
            self._end()
            raise
        self.port = self.host.grpc_port
        self._stopped = False

    @property
    def address(self) -> str:
        """Where gRPC clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def engine(self) -> Engine:
        """The engine that answers."""
        return self.host.engine

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Starts `work` on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs `work` on the server's loop."""
        return self.submit(work).result(self._patience_s)

    def tasks(self) -> Counter[str]:
        """The tasks of the server's loop, counted by the coroutine they run."""

        async def names() -> Counter[str]:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            return Counter(getattr(each.get_coro(), "__qualname__", "") for each in others)

        return self.run(names())

    def waiting(self, model: str) -> int:
        """Requests in the queue of a model."""
        return sum(count for (name, _), count in self.engine.waiting().items() if name == model)

    @property
    def in_flight(self) -> int:
        """Requests that somebody waits for, as the server sees it."""
        return self.host._dispatch.in_flight

    def stop(self) -> None:
        """Drains and closes; stopping twice is stopping once."""
        if not self._stopped:
            self._stopped = True
            self.run(self.host.stop())
            self._end()

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


class ServerProcess:
    """`vireo serve` as a user runs it. Raises AssertionError with its output where it does not come up."""

    def __init__(
        self,
        app: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [str(VIREO), "serve", str(app), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._changed = threading.Condition()
        self._reader.start()
        line = self.wait_for_line("vireo: serving", patience_s)
        self.address = re.split(r"gRPC(?: and HTTP)? on ", line)[1].split(",")[0].strip()
        self.http_address = re.split(r"HTTP on ", line)[-1].split(",")[0].strip()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """Everything it has written so far."""
        return "".join(self._lines)

    def wait_for_line(self, text: str, patience_s: float = PATIENCE_S, *, after: int = 0) -> str:
        """The first line with `text` in it, after so many."""

        def found() -> list[str]:
            return [line for line in self._lines[after:] if text in line]

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reader.is_alive(), patience_s)
        assert found(), f"no line has {text!r}:\n{self.output}"
        return found()[0]

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def changed(self, outcome: str, patience_s: float = PATIENCE_S) -> str:
        """Sends SIGHUP; the first line with `outcome` in it that comes after that."""
        before = len(self._lines)
        self.signal(signal.SIGHUP)
        return self.wait_for_line(outcome, patience_s, after=before)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """The exit status, once it has ended."""
        status = self._process.wait(patience_s)
        self._reader.join(PATIENCE_S)
        return status

    def kill(self) -> None:
        """Ends it in any case."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self.wait()


def vireo(*arguments: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a `vireo` command to its end, in `folder`."""
    return subprocess.run(
        [str(VIREO), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
    )
