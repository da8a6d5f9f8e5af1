"""The programs of the tutorial on experiments run, and print what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_docs import TUTORIALS, blocks


def test_programs_of_the_experiments_tutorial_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = TUTORIALS / "experiments.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    functions, program = blocks(page, "python")
    Path("scoring.py").write_text(functions)
    Path("experiment.yaml").write_text(blocks(page, "yaml")[0])
    exec(compile(program, page.name, "exec"), {"__name__": page.stem})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] in ("[1.] ['scoring/champion']", "[0.6] ['scoring/challenger']")
    assert printed[1] == "the same again: True"
    assert 50 < int(printed[2].split()[1]) < 150
    assert printed[3].startswith("scoring champion ")
    assert printed[4].endswith(" requests, 0 failed")
    assert printed[5].startswith("scoring next 3 ran, 0 alike, mean difference 0.")
