"""`vireo experiment` and `vireo export`: what they print, what they end with, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.cli import main

S = 1_000_000
SPEC = """
functions:
  one: {call: "tests.engine.graph.functions:double", batchable: true, inputs: &x {x: {datatype: FP64, shape: [-1]}}, outputs: &y {y: {datatype: FP64, shape: [-1]}}}
logs:
  seen: {schema: {experiment: string, variant: string, key: string, time: timestamp}, local: {path: seen}}
traffic:
  told: {variants: {champion: {call: one, weight: 1}}, exposures: seen}
  silent: {variants: {champion: {call: one, weight: 1}}}
"""  # noqa: E501


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 users of each of two variants, each with one outcome: 0 or 1 by turns, and a half more of the challenger's."""
    monkeypatch.chdir(tmp_path)
    users = [(f"u{number}", "challenger" if number % 2 else "champion") for number in range(600)]
    exposures = {
        "experiment": ["s"] * 600,
        "variant": [variant for _, variant in users],
        "key": [key for key, _ in users],
        "time": _at([10] * 600),
    }
    values = [number // 2 % 2 + (0.5 if number % 2 else 0.0) for number in range(600)]
    pq.write_table(pa.table(exposures), "seen.parquet")
    pq.write_table(pa.table({"who": exposures["key"], "at": _at([11] * 600), "spent": values}), "spent.parquet")
    Path("spent.csv").write_text("key,time,value\n007,1970-01-01T00:00:11Z,1\n")
    Path("app.yaml").write_text(SPEC)


def _at(seconds: list[int]) -> pa.Array:
    return pa.array([each * S for each in seconds], pa.timestamp("us", "UTC"))


COLUMNS = ["--outcomes", "spent.parquet", "--key", "who", "--time", "at", "--value", "spent"]


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_report_says_who_is_higher_and_by_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = _run(capsys, "experiment", "seen.parquet", *COLUMNS, "--weights", "champion=1,challenger=1")
    lines = told.splitlines()
    assert code == 0
    assert lines[0] == (
        "s: mean, 95% intervals that hold for one look, at a time set beforehand; users fit the weights (p = 1)"
    )
    challenger = next(line for line in lines if line.startswith("challenger"))
    assert challenger.split()[:6] == ["challenger", "300", "300", "300", "1", "+0.5"]
    assert "+100.00%" in challenger
    assert challenger.endswith("<0.0001")
    assert lines[-1] == "'challenger' is higher than 'champion'"


def test_users_who_do_not_fit_the_weights_end_it_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = _run(capsys, "experiment", "seen.parquet", *COLUMNS, "--weights", "champion=90,challenger=10")
    assert code == 1
    assert "users do NOT fit the weights" in told
    assert "caution: sample ratio mismatch: 300 : 300 users where the weights are 90 : 10" in told


def test_earlier_exposures_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(capsys, "experiment", "seen.parquet", *COLUMNS, "--since", "1970-01-01T00:00:10Z")[0] == 0
    code, _, error = _run(capsys, "experiment", "seen.parquet", *COLUMNS, "--since", "1970-01-01T00:00:11Z")
    assert (code, error) == (1, "vireo: nobody was exposed: of 0 exposures 0 have no key\n")


def test_what_is_not_counted_is_told_and_keys_of_csv_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = pq.read_table("seen.parquet").slice(0, 4).to_pylist()
    table[0]["key"], table[1]["key"] = "007", "7"
    pq.write_table(pa.Table.from_pylist(table), "few.parquet")
    code, told, _ = _run(
        capsys, "experiment", "few.parquet", "--outcomes", "spent.csv", "--sequential", "--within", "500ms"
    )
    assert code == 0
    assert "however often one looks" in told
    assert "not counted: 1 outcomes past the window" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["seen.parquet", "--outcomes", "none.parquet"], "no file at 'none.parquet'"),
        (
            ["seen.parquet", "--outcomes", "app.yaml"],
            "expected a name that ends with .parquet, .arrow, .ipc, .feather or .csv",
        ),
        (["seen.parquet", "--outcomes", "spent.parquet"], "the table has no columns 'key'"),
        (["seen.parquet", *COLUMNS, "--experiment", "t"], "no experiment 't'; known: 's'"),
        (["seen.parquet", *COLUMNS, "--champion", "champoin"], "no variant 'champoin'; nearest: 'champion'"),
        (["spent.parquet", *COLUMNS], "the table has no columns 'experiment'"),
        (["app.yaml", *COLUMNS, "--experiment", "silent"], "split 'silent' keeps no exposures"),
        (["app.yaml", *COLUMNS, "--experiment", "tolt"], "no experiment 'tolt'; nearest: 'told'"),
        (["app.yaml", *COLUMNS], "seen': is not there"),
    ],
)
def test_what_cannot_be_read_is_told(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, error = _run(capsys, "experiment", *arguments)
    assert (code, told) == (1, "")
    assert words in error


@pytest.mark.parametrize(
    "more",
    [["--weights", "champion"], ["--within", "0s"], ["--within", "soon"], ["--since", "then"], ["--metric", "sum"]],
)
def test_wrong_usage_ends_with_2(more: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "seen.parquet", *COLUMNS, *more])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sean", "a.parquet"], "no log 'sean'; nearest: 'seen'"),
        (["seen", "a.txt"], "expected a name that ends with .parquet"),
    ],
)
def test_export_refuses_other_logs_and_files(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = _run(capsys, "export", "app.yaml", *arguments)
    assert code == 1
    assert words in error
    assert not Path(arguments[1]).exists()
