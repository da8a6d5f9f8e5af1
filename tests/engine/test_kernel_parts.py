"""Kernels compiled before a request waits for them: all that declare what they take; by a command, and for other processors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import kernels
from engine.kernel_parts import KERNEL_PARTS
from tests.deploy.manifests import ROOT
from tests.fakes import PATIENCE_S


def test_every_module_whose_kernels_declare_what_they_take_is_a_part() -> None:
    declaring = set()
    for each in iter_modules(kernels.__path__):
        if each.ispkg or each.name.startswith("reference"):
            continue
        module = import_module(f"kernels.{each.name}")
        own = [found for found in vars(module).values() if getattr(found, "__module__", None) == module.__name__]
        if any(hasattr(found, "compile_declared") for found in own):
            declaring.add(each.name)
    assert set(KERNEL_PARTS) == declaring


COMMAND = [sys.executable, "-m", "serving.cli", "compile"]


def kept_in(folder: Path) -> dict[str, str]:
    """An environment."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_", "VIREO_"))}
    return {**inherited, "NUMBA_CACHE_DIR": str(folder)}


def compiled(folder: Path, *words: str, **environment: str) -> str:
    """What `vireo compile` says of one small part."""
    ran = subprocess.run(
        [*COMMAND, *words, "hashing"], cwd=ROOT, env=kept_in(folder) | environment,
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return ran.stdout


def kept(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def test_what_is_compiled_ahead_is_found_by_whoever_comes_later(tmp_path: Path) -> None:
    assert "[1/1] hashing" in compiled(tmp_path, "--cpu", "x86-64-v3")
    before = kept(tmp_path)
    assert len(before) == 2
    compiled(tmp_path, NUMBA_CPU_NAME="x86-64-v3", NUMBA_CPU_FEATURES="")  # as `kernels` sets them
    assert kept(tmp_path) == before
    compiled(tmp_path, "--cpu", "x86-64-v4")  # which need not run here
    assert len(kept(tmp_path)) == 4
    assert before.items() <= kept(tmp_path).items()


def test_killed_it_leaves_nothing_running_and_goes_on_when_run_again(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "hashing", "bitsets"], cwd=ROOT, env=kept_in(tmp_path), stdout=subprocess.PIPE, start_new_session=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"[1/2]")  # one of its processes waits for work, one may have some
        process.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert "[1/1] hashing" in compiled(tmp_path)
