"""Where and from what a figure was measured: machine, versions, commit."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "confluent-kafka", "faiss-cpu", "grpcio", "h2corn", "hdrhistogram", "httptools", "numba", "numpy", "onnxruntime", "protobuf",
    "pyarrow", "torch", "triton", "uvicorn", "uvloop",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Machine:
    """`commit` ends in "-dirty" when the tree held changes; None outside a git checkout with a commit."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    packages: dict[str, str]
    commit: str | None


def describe_machine() -> Machine:
    """This machine, now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()),
        cores=os.cpu_count() or 1,
        memory_gib=round(memory, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        packages=installed(PACKAGES),
        commit=git_commit(),
    )


def cpu_model(cpuinfo: str) -> str:
    """The processor's name, with family and model since virtual machines often hide the name."""
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    name = known.get("model name", platform.machine())
    return f"{name} (family {known['cpu family']}, model {known['model']})" if "cpu family" in known else name


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """The versions of those of `names` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of this checkout."""
    told = _git("rev-parse", "HEAD")
    if told is None:
        return None
    return told + ("-dirty" if _git("status", "--porcelain") else "")


def _git(*words: str) -> str | None:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
