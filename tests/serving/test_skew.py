"""`vireo skew`: what was served against the log, or against a table, feature by feature."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.cli import main
from tests.engine.features.running import running
from tests.serving.servers import vireo

SPEC = """
server: {grpc_port: 0, http_port: 0}
logs:
  tx:
    schema: {card: string, at: timestamp, amount: float64}
    local: {path: log, durability: os}
feature_views:
  card:
    source: tx
    entity: card
    event_time: at
    request: {amount: number}
    sample: {path: served.parquet}
    features:
      n: {aggregation: count, window: 1h}
      total: {aggregation: sum, column: amount, window: 1h}
      share: {expression: amount / total}
  plain: {source: tx, entity: card, event_time: at, features: {n: {aggregation: count}}}
"""
START_US = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec whose view has served, and a table with the log's events."""
    folder = tmp_path_factory.mktemp("app")
    path = folder / "app.yaml"
    path.write_text(SPEC)
    rows = [{"card": f"c{n % 3}", "at": START_US + n * 1_000_000, "amount": float(n)} for n in range(30)]
    with running(folder, SPEC) as engine:
        schema = engine.engine.features.schema("tx")
        engine.push(*rows)
        for second in range(31, 41):
            at_us = START_US + second * 1_000_000
            request = {"amount": pa.array([1.0, 2.0, 3.0])}
            engine.view("card").lookup(pa.array(["c0", "c1", "x"]), as_of_us=at_us, request=request)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "events.parquet")
    rows[3]["amount"] = 1000.0
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "tampered.parquet")
    return path


def _skew(capsys: pytest.CaptureFixture[str], app: Path, *arguments: str) -> tuple[int, str, str]:
    """The command in this process: its exit code, and what it printed."""
    code = main(["skew", str(app), *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_what_was_served_rightly_ends_with_0(app: Path) -> None:
    ended = vireo("skew", app, "card", "--settle-s", "0", folder=app.parent)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("card: 30 rows sampled of 30 served; 30 compared, 0 unsettled")
    assert [line.split() for line in lines[2:]] == [
        [name, "30", "0", "-", "-"] for name in ("status", "n", "total", "share")
    ]


def test_a_row_that_was_tampered_with_is_named_and_ends_with_1(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = _skew(capsys, app, "card", "--table", str(app.parent / "events.parquet"))
    assert code == 0, told
    code, told, _ = _skew(capsys, app, "card", "--table", str(app.parent / "tampered.parquet"))
    assert code == 1
    (total,) = (line for line in told.splitlines() if line.startswith("total"))
    assert total.split()[:4] == ["total", "30", "10", "997"]
    assert "'c0' as of 2023-11-14T22:13:51+00:00: served 135.0, history says 1132.0" in total
    assert ["n", "30", "0"] in [line.split()[:3] for line in told.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["crad"], "no feature view 'crad'; nearest: 'card'"),
        (["plain"], "'plain' keeps no sample"),
        (["card", "--arrival", "at"], "column of arrivals is a table's"),
        (["card", "--table", "events.parquet", "--arrival", "when"], "no column 'when'"),
        (["card", "--table", "none.parquet"], "no table at 'none.parquet'"),
    ],
)
def test_what_cannot_be_compared_is_told(
    app: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(app.parent)
    code, told, error = _skew(capsys, app, *arguments)
    assert (code, told) == (1, "")
    assert words in error


@pytest.mark.parametrize("arguments", [[], ["card", "--settle-s", "-1"], ["card", "--settle-s", "soon"]])
def test_wrong_usage_ends_with_2(app: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["skew", str(app), *arguments])
    assert ended.value.code == 2


def test_a_running_server_is_not_in_the_way(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(app.parent, SPEC):
        assert _skew(capsys, app, "card", "--settle-s", "0")[0] == 0
        assert _skew(capsys, app, "card", "--table", str(app.parent / "events.parquet"))[0] == 0
