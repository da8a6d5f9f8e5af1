"""Compile a C++ source of ours when it is first needed; what was compiled is kept in .cache, keyed by its source.

$(.venv/bin/python -m benchmarks.load.native.build) 9000        # the null server on port 9000
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
ROOT = SOURCES.parents[2]
CACHE = ROOT / ".cache" / "native"
FLAGS = ("-O2", "-std=c++17", "-Wall", "-Wextra", f"-I{ROOT}")
LIBRARY_FLAGS = ("-shared", "-fPIC")
COMPILE_S_MAX = 120.0
TOLD_CHARACTERS_MAX = 2000


class BuildError(Exception):
    """There is no compiler, or it failed; trying again does not help."""


def library(source: Path, *, cache: Path = CACHE, compiler: str | None = None) -> Path:
    """The shared library made of `source`, which may include the headers in this folder. See `program`."""
    return _built(source, (*FLAGS, *LIBRARY_FLAGS), cache / f"{source.stem}-{{}}.so", compiler)


def program(source: Path, *, cache: Path = CACHE, compiler: str | None = None) -> Path:
    """The program made of `source`, compiled unless `cache` has it; any number of processes may ask at a time.

    `compiler` is by default what $CXX says, else `c++`. Raises BuildError.
    """
    return _built(source, FLAGS, cache / f"{source.stem}-{{}}", compiler)


def _built(source: Path, flags: tuple[str, ...], named: Path, compiler: str | None) -> Path:
    made = named.with_name(named.name.format(key_of(source, flags)))
    if not made.exists():
        _compile(source, flags, made, compiler or os.environ.get("CXX") or "c++")
    return made


def key_of(source: Path, flags: tuple[str, ...]) -> str:
    """Names what comes of `source`: another source, header, flag or machine gives another key."""
    parts = [platform.machine(), *flags, source.name, source.read_text()]
    for header in sorted(SOURCES.glob("*.hpp")):
        parts += [header.name, header.read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _compile(source: Path, flags: tuple[str, ...], made: Path, compiler: str) -> None:
    """Compile beside `made` and move into place, so that nobody sees half a file."""
    if shutil.which(compiler) is None:
        raise BuildError(f"no C++ compiler: {compiler} is not there")
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            fresh = Path(folder) / made.name
            command = [compiler, *flags, str(source), "-o", str(fresh)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S_MAX, check=False)
            if done.returncode != 0:
                raise BuildError(f"{' '.join(command)}: {done.stderr[:TOLD_CHARACTERS_MAX].strip()}")
            fresh.replace(made)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{source.name} cannot be compiled: {error}") from error


if __name__ == "__main__":
    print(program(SOURCES / "null_server.cpp"))
