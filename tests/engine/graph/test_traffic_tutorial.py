"""The programs of the tutorial on experiments run, and print what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.cli import main
from tests.test_docs import TUTORIALS, blocks


def test_programs_of_the_experiments_tutorial_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = TUTORIALS / "experiments.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    functions, program, buying = blocks(page, "python")
    Path("scoring.py").write_text(functions)
    Path("experiment.yaml").write_text(blocks(page, "yaml")[0])
    names = {"__name__": page.stem}
    exec(compile(program, page.name, "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] in ("[1.] ['scoring/champion']", "[0.6] ['scoring/challenger']")
    assert printed[1] == "the same again: True"
    assert 50 < int(printed[2].split()[1]) < 150
    assert printed[3].startswith("scoring champion ")
    assert printed[4].endswith(" requests, 0 failed")
    assert printed[5].startswith("scoring next 3 ran, 0 alike, mean difference 0.")
    exec(compile(buying, page.name, "exec"), names)
    assert main(["experiment", "experiment.yaml", "--outcomes", "outcomes.csv"]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = [line for line in printed if line.startswith(("champion ", "challenger "))]
    assert len(rows) == 2
    assert all(row in page.read_text().splitlines() for row in rows)
    assert printed[0].startswith("scoring: mean, 95% intervals that hold for one look")
    assert printed[-1] == "'challenger' is higher than 'champion'"
