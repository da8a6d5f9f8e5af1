"""The benchmark on a GPU where there is none."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.__main__ import main


@pytest.mark.skipif(bool(find_spec("torch") and find_spec("triton")), reason="torch and triton may see a GPU here")
def test_without_a_gpu_it_says_so_and_breaks_no_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "--out", str(tmp_path)]) == 0
    assert "gpu: skipped, torch" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
