"""`vireo optimize` as a stranger runs it: over files, archives and logs, right and wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.workloads.ranker.network import make_network, to_onnx
from engine import Engine, load_spec
from engine.log.local import LocalLog
from serving.cli import main
from serving.embedded import new_engine
from serving.explain import explain
from serving.model_config import describe_config
from serving.transport import transport_of
from tests.engine import onnx_models

WIDTH, ROWS = 128, 240
ASK = ("--max-loss", "mean_abs=0.05,top_k=0.5", "--request-rows", "1,20", "--calibration-rows", "50")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A repository with a small ranker, and rows for it as Parquet and as an archive."""
    onnx_models.write(tmp_path / "models" / "ranker" / "1", to_onnx(make_network(sizes=(WIDTH, 64, 32, 1), seed=2)))
    values = np.random.default_rng(3).normal(size=(ROWS, WIDTH)).astype(np.float32)
    columns = {
        "features": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), WIDTH),
        "request": np.arange(ROWS) // 20,
        "clicked": np.arange(ROWS) % 3 == 0,
        "text": ["no number"] * ROWS,
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    np.savez(
        tmp_path / "rows.npz",
        features=values,
        request=columns["request"],
        clicked=columns["clicked"],
        text=["x"],
        one=1,
    )
    path = tmp_path / "app.yaml"
    path.write_text("repository: {path: models}\n")
    return path


def optimize(app: Path, *more: object, data: str = "rows.parquet", step: str = "int8-static") -> int:
    return main(
        ["optimize", str(app), "ranker", "--step", step, "--data", str(app.parent / data), *ASK, *map(str, more)]
    )


def versions(app: Path) -> list[str]:
    return sorted(os.listdir(app.parent / "models" / "ranker"))


@pytest.mark.parametrize("data", ["rows.parquet", "rows.npz"])
def test_version_is_written_told_and_not_served(app: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimize(app, "--group", "request", "--outcome", "clicked", data=data) == 0
    told = capsys.readouterr().out
    assert "not served, as no version policy says so: models.ranker.versions: {specific: [2]} would" in told
    for text in ("int8-static of version 1", "calibrated on 50 rows", "20 row(s): p50", "auc ", "(at most 0.05)"):
        assert text in told
    assert versions(app) == ["1", "2"]
    assert main(["explain", str(app)]) == 0
    explained = capsys.readouterr().out
    assert "ranker version 1: READY" in explained
    assert "ranker version 2: not served\n  note: int8-static of version 1" in explained


def test_served_version_says_how_it_was_made_in_its_configuration_and_in_explain(app: Path) -> None:
    assert optimize(app, "--json") == 0
    app.write_text("repository: {path: models}\nmodels: {ranker: {versions: {specific: [2]}}}\n")
    engine = new_engine(load_spec(app))
    engine.start()
    try:
        described = engine.describe("ranker", None)
        assert described.version == 2
        record = json.loads(describe_config(described).parameters["optimization"].string_value)
        assert (record["step"], record["source"]["version"]) == ("int8-static", 1)
        assert record["speed"][1]["rows"] == 20
        text = explain(engine.spec, transport_of(engine.spec.server), [described], engine.index())
        assert "note: 20 row(s): p50" in text
    finally:
        engine.close()


def test_written_policy_is_followed(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app.write_text("repository: {path: models}\nmodels: {ranker: {versions: {latest: 1}}}\n")
    assert optimize(app) == 0
    assert "the version policy serves it from the next start, load or poll on" in capsys.readouterr().out


def test_rows_of_a_log_will_do(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app.write_text(
        "repository: {path: models}\nlogs:\n  asked:\n    schema: {"
        + ", ".join(f"f{n}: float32" for n in range(2))
        + "}\n"
        "    local: {path: log}\n"
    )
    onnx_models.write(app.parent / "models" / "double" / "1", onnx_models.affine(width=1))
    schema = pa.schema([("f0", pa.float32()), ("f1", pa.float32())])
    log = LocalLog(load_spec(app).logs["asked"].local, schema, app.parent / "log")  # type: ignore[arg-type]
    log.append(pa.record_batch([pa.array(np.ones(40, np.float32))] * 2, schema=schema))
    log.close()
    ask = ["optimize", str(app), "double", "--log", "asked", "--columns", "x=f1", "--step", "int8-static", *ASK]
    assert main(ask) == 1  # it multiplies by one number
    assert "8 bits cannot apply" in capsys.readouterr().err
    assert main([*ask[:4], "askd", *ask[5:]]) == 1
    assert "no log 'askd'; nearest: 'asked'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model-version", "7"], "model 'ranker' has no version 7; there are 1"),
        (["--columns", "features=featurs"], "column 'featurs'; nearest: 'features'"),
        (["--columns", "features=text"], "expected FP32 of shape [128] a row, got string"),
        (["--columns", "feature=text"], "model 'ranker' has no input 'feature'; nearest: 'features'"),
        (["--outcome", "request"], "--outcome: column 'request', row 40: expected 0 or 1, got 2"),
        (["--outcome", "text"], "--outcome: column 'text', row 0: could not convert"),
        (["--group", "grup"], "the input has no column 'grup'"),
        (["--score", "scor"], "--score: no output 'scor'; nearest: 'score'"),
        (["--data", "gone.parquet"], "--data: no file or folder 'gone.parquet'"),
        (["--data", "gone.npz"], "--data: no file 'gone.npz'"),
        (["--max-loss", "max_abs=0"], "int8-static loses too much: max_abs"),
        (["--max-loss", "auc=0.1"], "--max-loss: auc is not known"),
    ],
)
def test_wrong_wishes_are_told_and_write_nothing(
    app: Path, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert optimize(app, *more) == 1
    assert told in capsys.readouterr().err
    assert versions(app) == ["1"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["--columns", "features=featurs"], "--data: the archive has no array 'featurs'; nearest: 'features'"),
        (["--columns", "features=request"], "expected FP32 [-1, 128], the archive has int64 [240]"),
        (["--columns", "features=text"], "expected FP32 [-1, 128], the archive has <U1 [1]"),
        (["--columns", "feature=text"], "--columns: model 'ranker' has no input 'feature'"),
        (["--group", "features"], "--group: array 'features' [240, 128]: expected one value a row"),
        (["--group", "text"], "arrays disagree on the number of rows: {'features': 240, 'text': 1}"),
        (["--outcome", "text"], "arrays disagree on the number of rows: {'features': 240, 'text': 1}"),
        (["--columns", "features=one"], "--data: array 'one' is a single value: expected one or more a row"),
        (["--group", "one"], "--data: array 'one' is a single value: expected one or more a row"),
    ],
)
def test_arrays_that_do_not_fit_are_told(
    app: Path, columns: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert optimize(app, *columns, data="rows.npz") == 1
    assert told in capsys.readouterr().err


def test_damaged_archive_and_lists_of_other_lengths_are_told(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app.parent / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    assert optimize(app, data="bad.npz") == 1
    assert "bad.npz cannot be read as a NumPy archive" in capsys.readouterr().err
    pq.write_table(pa.table({"features": [[1.0] * WIDTH, None]}), app.parent / "null.parquet")
    assert optimize(app, data="null.parquet") == 1
    assert "column 'features' is null" in capsys.readouterr().err


@pytest.mark.parametrize("bound", ["mean=1", "mean_abs=x", "mean_abs=-1", "mean_abs", "mean_abs=nan"])
def test_bounds_that_are_none_are_wrong_usage(app: Path, bound: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        optimize(app, "--max-loss", bound)


def test_models_that_are_in_no_repository_are_told(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", str(app), "rankr", "--step", "graph", "--data", "x.npz", *ASK]) == 1
    assert "model 'rankr' is not in the repository" in capsys.readouterr().err
    app.write_text("server: {name: empty}\n")
    assert optimize(app) == 1
    assert "the spec has no repository" in capsys.readouterr().err


def test_engine_polls_past_the_hidden_folder_of_a_version_being_written(app: Path) -> None:
    (app.parent / "models" / "ranker" / ".optimizing-x").mkdir()
    engine: Engine = new_engine(load_spec(app))
    engine.start()
    try:
        assert [(each.name, each.version, each.state) for each in engine.index()] == [("ranker", 1, "READY")]
    finally:
        engine.close()
