"""What commands that run for long share: signals that end them in order, trying again, progress on stderr, the server."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from engine import InvalidArgument, VireoError, limits

Result = TypeVar("Result")

_TERMINAL_S: Final = 0.2
_LOG_S: Final = 10.0
_HEARD_S: Final = 0.5
"""How long a signal may go unheard of."""


class Stopped(Exception):
    """A call was given up because the run is to stop."""


def patiently(call: Callable[[], Result], stop: threading.Event) -> Result:
    """What `call` gives, tried again for BATCH_PATIENCE_S_MAX where that can help. Raises what it raises; Stopped once `stop` is
    set."""
    began_s, delay_s = time.monotonic(), limits.BATCH_RETRY_S_MIN
    while True:
        try:
            return call()
        except VireoError as error:
            if not error.retryable or time.monotonic() - began_s > limits.BATCH_PATIENCE_S_MAX:
                raise
            if stop.wait(delay_s):
                raise Stopped from error
        delay_s = min(2 * delay_s, limits.BATCH_RETRY_S_MAX)


def result_of(future: Future[Result]) -> Result:
    """What it gives, for the thread that signals are for. A signal that comes just before a wait without an end, or to another
    thread, does not end that wait: Python would handle it when the future is done."""
    while not wait((future,), _HEARD_S).done:
        pass
    return future.result()


@contextmanager
def until_signal() -> Iterator[tuple[threading.Event, list[int]]]:
    """(set by SIGINT or SIGTERM, which of them came); a second one ends the process at once, as nothing needs it to live."""
    stop, caught = threading.Event(), []

    def end(number: int, frame: object) -> None:
        caught.append(number)
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop, caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Told(Protocol):
    """How far a run is."""

    def line(self) -> str:
        """For a log."""

    def bar(self) -> str:
        """For a terminal."""


class Said:
    """Progress of `command` on stderr: a line that is drawn again and again on a terminal, else one line now and then."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._terminal = sys.stderr.isatty()
        self._due_s = time.monotonic() + (0.0 if self._terminal else _LOG_S)

    def __call__(self, progress: Told) -> None:
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + (_TERMINAL_S if self._terminal else _LOG_S)
            text = f"\r\x1b[K{progress.bar()}" if self._terminal else f"{self._command}: {progress.line()}\n"
            print(text, end="", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Says something else, which stays."""
        self.end()
        print(f"{self._command}: {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Takes the line away."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The server of a run, `target` HOST:PORT or a URL, and how it is spoken to: with a certificate to trust (TLS), with a bearer
    token."""

    target: str
    ca: Path | None = None
    token: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Of each request: its class, behind those that somebody waits for, and the token."""
        return {"vireo-priority": "batch"} | ({} if self.token is None else {"authorization": f"Bearer {self.token}"})


def token_in(variable: str | None) -> str | None:
    """The bearer token in the environment variable that `--token-env` names. Raises InvalidArgument where it is not set."""
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise InvalidArgument(f"--token-env: {variable} is not set")
    return token
