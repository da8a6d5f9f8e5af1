"""Run the generator as a child process, so that nothing of the caller's can slow it down."""

import subprocess
import sys
from dataclasses import dataclass, fields
from types import TracebackType

import msgspec

from benchmarks.load.order import LoadOrder
from benchmarks.load.result import LoadResult

EXIT_S_MAX = 60.0


class LoadError(Exception):
    """The generator could not do its work, mostly because no server answered."""


@dataclass(frozen=True, slots=True)
class MeasuredWindow:
    """When the generator measures, on the system-wide monotonic clock."""

    begin_ns: int
    end_ns: int


def command_of(order: LoadOrder) -> list[str]:
    """The command line that carries out `order`."""
    words = [sys.executable, "-m", "benchmarks.load"]
    for field in fields(order):
        value = getattr(order, field.name)
        if value is not None:
            name = "rate" if field.name == "rate_per_s" else field.name.replace("_", "-")
            words += [f"--{name}", str(value)]
    return words


class LoadProcess:
    """A generator at work. `window` is known at once, `finish` waits for the figures."""

    def __init__(self, order: LoadOrder) -> None:
        command = [*command_of(order), "--announce"]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise LoadError(self._child.communicate()[1].decode().strip())
        self.pid = self._child.pid
        self.window = msgspec.json.decode(line, type=MeasuredWindow)

    def finish(self) -> LoadResult:
        """Wait for the end of the run. Raises LoadError when it broke down."""
        out, err = self._child.communicate()
        if not out:
            raise LoadError(err.decode().strip())
        return msgspec.json.decode(out, type=LoadResult)

    def __enter__(self) -> "LoadProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait(EXIT_S_MAX)


def run_load(order: LoadOrder) -> LoadResult:
    """Carry out `order` in a child process and wait for it."""
    with LoadProcess(order) as load:
        return load.finish()
