"""Packages of the index are fetched once."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.packages import laid_out


def test_what_is_complete_is_not_fetched_again_but_other_versions_are(tmp_path: Path) -> None:
    (tmp_path / "complete").write_text("one==1\ntwo==2")
    assert laid_out(["one==1", "two==2"], tmp_path) == tmp_path
    with pytest.raises(subprocess.CalledProcessError):
        laid_out(["/nowhere/at/all.whl"], tmp_path)
