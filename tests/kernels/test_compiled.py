"""Kernels kept on disk are those of the sources as they are now."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "from kernels.sum import total; print(total(5), list(total.stats.cache_hits.values()))"
SUM = """
from kernels.compiled import kernel
from kernels.part import half

@kernel(cache=True)
def total(n):
    return half(n) + half(n)
"""
PART = """
from kernels.compiled import kernel

@kernel()
def half(n):
    return n * {factor}
"""


def _run(root: Path) -> str:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True, timeout=100
    )
    return run.stdout.strip()


def test_a_change_in_another_file_of_kernels_compiles_them_anew(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    (kernels / "__init__.py").touch()
    shutil.copy(ROOT / "kernels" / "compiled.py", kernels)
    (kernels / "sum.py").write_text(SUM)
    (kernels / "part.py").write_text(PART.format(factor=1))
    assert _run(tmp_path) == "10 []"
    assert _run(tmp_path) == "10 [1]", "what was compiled was not kept"
    (kernels / "part.py").write_text(PART.format(factor=3))
    assert _run(tmp_path) == "30 []"
