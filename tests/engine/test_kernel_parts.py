"""Kernels compiled before a request waits for them: all that declare what they take; by a command, and for other processors."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import kernels
from engine.kernel_parts import KERNEL_PARTS
from tests.deploy.manifests import ROOT


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


def compiled(folder: Path, *words: str, **environment: str) -> str:
    """What `vireo compile` says of one small part."""
    command = [sys.executable, "-m", "serving.cli", "compile", *words, "hashing"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_", "VIREO_"))}
    ran = subprocess.run(
        command, cwd=ROOT, env={**inherited, "NUMBA_CACHE_DIR": str(folder), **environment},
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
