"""A rival whose transport is compiled as well: PyPI's pygrpc-native, its low-level NativeGrpcFront, doing the same work bare.

    python -m benchmarks.peers.native_front install      # once; some 235 MB into benchmarks/peers/.venv-native-front

It lives in an environment of its own, with the versions of onnxruntime, numpy and protobuf that are installed here, so
that nothing but the transport differs. Benchmarks call `start_native_front`. No TLS, limits or drain: it is a measure,
not a server to deploy.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.fraud_inputs import MODEL
from benchmarks.harness import SERVER_CORE, ServerProcess, free_port, grpc_ready
from benchmarks.peers.environments import NotInstalledError
from benchmarks.servers import Server

NAME = "NativeGrpcFront"
PACKAGE = "pygrpc-native==0.5.0"
SAME_AS_HERE = ("numpy", "onnxruntime", "protobuf")
TRITONCLIENT = "tritonclient[grpc]"
FOLDER = Path(__file__).with_name(".venv-native-front")
SERVER = Path(__file__).with_name("native_front_server.py")
INSTALL = "python -m benchmarks.peers.native_front install"


@dataclass(frozen=True, slots=True)
class FrontEnvironment:
    """The virtual environment under `folder`. It is whole once `installed` says so."""

    folder: Path = FOLDER

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether what is there was made of the packages wanted now."""
        return self._mark.exists() and self._mark.read_text() == made_of()

    def check_installed(self) -> None:
        """Raises NotInstalledError where there is nothing to start."""
        if not self.installed:
            raise NotInstalledError(f"{NAME} is not installed; '{INSTALL}' does that")

    def install(self, say: Callable[[str], None] = print) -> None:
        """Make it anew. Raises CalledProcessError where pip fails."""
        shutil.rmtree(self.folder, ignore_errors=True)
        say(f"an environment with {', '.join(wanted())}")
        subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted()], check=True)
        self._mark.write_text(made_of())
        say(f"{NAME} is in {self.folder}")

    @property
    def _mark(self) -> Path:
        return self.folder / "complete"


def wanted() -> list[str]:
    """What pip is asked for."""
    same = [f"{name}=={version(name)}" for name in SAME_AS_HERE]
    return [PACKAGE, *same, f"{TRITONCLIENT}=={version('tritonclient')}"]


def made_of() -> str:
    """What an environment made now would be made of."""
    return "\n".join([f"Python {sys.version_info.major}.{sys.version_info.minor}", *wanted(), ""])


def server_command(environment: FrontEnvironment, *, model_file: Path, port: int) -> list[str]:
    """The command line; isolated (-I), so that no path of ours leads the rival to our packages."""
    return [str(environment.python), "-I", str(SERVER), "--port", str(port), "--model", str(model_file)]


def start_native_front(*, model_file: Path, out: Path, model: str = MODEL) -> Server:
    """The rival on a free port, ready, pinned to the server's core; `model` is the name that its readiness is asked by.

    Raises NotInstalledError where `install` was never run, ServerError when it does not come up.
    """
    environment, port = FrontEnvironment(), free_port()
    environment.check_installed()
    command = server_command(environment, model_file=model_file, port=port)
    process = ServerProcess(command, log=out / f"{NAME}.log", core=SERVER_CORE)
    process.wait_ready(grpc_ready(port, model))
    return Server(NAME, process, port, None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.native_front",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("install", help="make its environment, or make it again")
    parser.parse_args(arguments)
    FrontEnvironment().install()
    return 0


if __name__ == "__main__":
    sys.exit(main())
