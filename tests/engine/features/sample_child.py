"""The process that a test kills while it writes samples: of 500 and of 900 rows by turns, each row telling of which."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.features.sample_file import SampleFile
from engine.features.skew import ServedRow
from tests.engine.features.streams import whole_view

SIZES = (500, 900)


def sample(path: Path) -> SampleFile:
    """The file that is written."""
    return SampleFile(path, whole_view(), "digest")


def run(path: Path) -> None:
    """Writes until it is killed; tells of the first."""
    file = sample(path)
    while True:
        for size in SIZES:
            file.write([ServedRow(file.view.name, f"c{size}", at, at, 1, 0, {}) for at in range(size)], size)
            print(size, flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
