"""`vireo batch` as a user runs it: files in, files out, resumed after kills, refused where it would go wrong."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow import flight

from engine import limits
from serving.cli import main
from tests.engine import onnx_models
from tests.serving.servers import PROJECT, ServerHere, spec_for

ROWS = 300
Capture = pytest.CaptureFixture[str]
SPEC = """
server: {grpc_port: 0, http_port: 0}
repository: {path: models}
functions:
  top: {call: "beside:top", inputs: {user: {datatype: INT64, shape: [1]}, seen: {datatype: INT64, shape: [-1]}},
        outputs: {items: {datatype: INT64, shape: [-1]}}, batchable: false}
  upper: {call: "beside:upper", inputs: {text: {datatype: BYTES, shape: [-1, 1]}}, batchable: true,
          outputs: {loud: {datatype: BYTES, shape: [-1, 1]}}}
graphs:
  both:
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    nodes: {once: {call: double, inputs: {x: x}}, twice: {call: double, inputs: {x: once.y}}}
    outputs: {z: twice.y}
"""
FUNCTIONS = """
import numpy as np
def top(user, seen):
    return {"items": np.setdiff1d(np.arange(user[0], user[0] + 4), seen)}
def upper(text):
    return {"loud": np.array([[each[0].upper()] for each in text], object)}
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec with models, functions and a graph, and rows for them."""
    folder = tmp_path_factory.mktemp("app")
    onnx_models.write(folder / "models" / "double" / "1", onnx_models.affine(2.0))
    onnx_models.write(folder / "models" / "look" / "1", onnx_models.lookup(100))
    (folder / "beside.py").write_text(FUNCTIONS)
    path = folder / "app.yaml"
    path.write_text(SPEC)
    pq.write_table(table(), folder / "in.parquet", row_group_size=70)
    return path


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts of few rows."""
    monkeypatch.setattr(limits, "BATCH_PART_ROWS_MAX", 64)


def table(rows: int = ROWS) -> pa.Table:
    """Rows with a column for each model."""
    x = np.arange(2 * rows, dtype=np.float64).reshape(rows, 2)
    return pa.table(
        {
            "id": [f"r{each}" for each in range(rows)],
            "x": pa.array(list(x), pa.list_(pa.float64())),
            "key": pa.array(np.arange(rows) % 90, pa.int32()),
            "seen": pa.array([list(range(each % 3)) for each in range(rows)], pa.list_(pa.int64())),
            "text": pa.array([f"a{each}" for each in range(rows)]),
        }
    )


def batch(app: Path, model: str, out: Path, *more: str, source: Path | None = None) -> int:
    """The command in this process."""
    return main(["batch", str(app), model, "--input", str(source or app.parent / "in.parquet"), "--output", str(out),
                 "--batch-size", "32", *more])  # fmt: skip


def values(out: Path) -> dict[str, list[Any]]:
    """The columns of what was written."""
    if out.suffix == ".arrow":
        return dict(pa.ipc.open_file(out).read_all().to_pydict())
    return dict(pq.read_table(out).to_pydict())


def doubled(factor: float = 2.0) -> list[list[float]]:
    """What `double` makes of the rows."""
    return (np.arange(2 * ROWS).reshape(ROWS, 2) * factor).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow"])
def test_every_row_is_answered_once_and_in_order(app: Path, tmp_path: Path, name: str, capsys: Capture) -> None:
    out = tmp_path / name
    assert batch(app, "double", out, "--keep", "id,k=key", "--json") == 0
    found = values(out)
    assert list(found) == ["id", "k", "y", "model_version"]
    assert found["y"] == doubled()
    assert found["id"] == [f"r{each}" for each in range(ROWS)]
    assert set(found["model_version"]) == {1}
    summary = json.loads(capsys.readouterr().out)
    assert summary["complete"]
    assert (summary["rows"], summary["rejected"], summary["rows_total"]) == (ROWS, 0, ROWS)
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_graphs_functions_text_and_models_without_batches_answer_too(app: Path, tmp_path: Path) -> None:
    assert batch(app, "both", tmp_path / "g.parquet") == 0
    assert values(tmp_path / "g.parquet")["z"] == doubled(4.0)
    assert batch(app, "upper", tmp_path / "u.parquet") == 0
    assert values(tmp_path / "u.parquet")["loud"][:2] == [b"A0", b"A1"]
    assert batch(app, "top", tmp_path / "t.parquet", "--columns", "user=key") == 0
    rows = table().to_pylist()
    wanted = [sorted(set(range(each["key"], each["key"] + 4)) - set(each["seen"])) for each in rows]
    assert values(tmp_path / "t.parquet")["items"] == wanted


def test_a_folder_is_read_in_the_order_of_names_into_a_folder_of_parts(
    app: Path, tmp_path: Path, capsys: Capture
) -> None:
    source = tmp_path / "in"
    (source / "b").mkdir(parents=True)
    (source / "_ignored.parquet").write_text("not read")
    pq.write_table(table().slice(0, 120), source / "a.parquet")
    with pa.ipc.new_file(source / "b" / "b.arrow", table().schema) as writer:
        for begin in range(120, ROWS, 50):
            writer.write_table(table().slice(begin, min(50, ROWS - begin)))
    out = tmp_path / "out"
    for _ in range(2):
        assert batch(app, "double", out, "--keep", "id", source=source) == 0
        found = ds.dataset(out).to_table().to_pydict()
        assert (found["y"], found["id"]) == (doubled(), table()["id"].to_pylist())
    assert len(list(out.glob("part-*.parquet"))) > 2
    pq.write_table(table().drop(["key"]), source / "c.parquet")
    assert batch(app, "double", out, source=source) == 1
    assert "column 'key': int32 in a.parquet, but not there in c.parquet" in capsys.readouterr().err


def test_an_input_without_rows_gives_an_output_without(app: Path, tmp_path: Path) -> None:
    pq.write_table(table(0), tmp_path / "none.parquet")
    for name in ("out.parquet", "out"):
        assert batch(app, "double", tmp_path / name, source=tmp_path / "none.parquet") == 0
    assert pq.read_table(tmp_path / "out.parquet").schema.names == ["y", "model_version"]
    assert ds.dataset(tmp_path / "out").to_table().num_rows == 0


class Killed(BaseException):
    """Stands for a kill: nothing after it runs that would matter."""


def test_killed_at_any_sync_a_run_goes_on_and_ends_the_same(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every place at which the disk is waited for, one after the other, each in an output of its own."""
    sync, countdown = os.fsync, -1
    monkeypatch.setattr(limits, "BATCH_PART_ROWS_MAX", 150)

    def dying(file: int) -> None:
        nonlocal countdown
        countdown -= 1
        if not countdown:
            raise Killed
        sync(file)

    monkeypatch.setattr(os, "fsync", dying)
    died = 0
    while True:
        out = tmp_path / f"{died}.arrow"
        countdown = died + 1
        try:
            code = batch(app, "double", out)
        except Killed:
            died += 1
            countdown = -1
            code = batch(app, "double", out)
            assert (code, values(out)["y"]) == (0, doubled())
            assert not out.with_name(f"{out.name}.parts").exists()
            continue
        assert code == 0
        break
    assert died >= 14  # manifest; two parts, each with its manifest; the file; the last manifest: two syncs each


def test_kill_9_at_random_moments_loses_nothing(app: Path, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, out, dead = random.Random(seed), tmp_path / "out", 0
    while True:
        program = (
            "import os, signal, sys\nfrom engine import limits\n"
            "limits.BATCH_PART_ROWS_MAX, sync, left = 20, os.fsync, [int(sys.argv[1])]\n"
            "def dying(file):\n    left[0] -= 1\n    left[0] or os.kill(os.getpid(), signal.SIGKILL)\n    sync(file)\n"
            "os.fsync = dying; from serving.cli import main; sys.exit(main(sys.argv[2:]))"
        )
        arguments = ["batch", str(app), "look", "--columns", "x=key", "--input", str(app.parent / "in.parquet"), "--output",
                     str(out), "--keep", "id", "--batch-size", "8"]  # fmt: skip
        ended = subprocess.run(
            [sys.executable, "-c", program, str(rng.randint(10, 40)), *arguments],
            env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if ended.returncode == 0:
            break
        assert ended.returncode == -9, ended.stderr
        dead += 1
    assert dead
    found = ds.dataset(out).to_table().to_pydict()
    assert found["id"] == table()["id"].to_pylist()
    assert found["y"] == [float(each) for each in table()["key"].to_pylist()]


def test_a_bad_row_ends_the_run_or_is_put_aside(app: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = table().to_pylist()
    rows[70]["key"], rows[71]["key"], rows[200]["key"] = 1000, None, None
    pq.write_table(pa.Table.from_pylist(rows, table().schema), tmp_path / "in.parquet")
    out, rejects = tmp_path / "out.parquet", tmp_path / "bad.parquet"
    arguments = ["--columns", "x=key", "--keep", "id"]
    assert batch(app, "look", out, *arguments, source=tmp_path / "in.parquet") == 1
    told = capsys.readouterr().err
    assert "in.parquet, row 70: model 'look' version 1" in told
    assert "--rejects FILE puts such rows aside" in told
    assert batch(app, "look", out, *arguments, "--rejects", str(rejects), source=tmp_path / "in.parquet") == 0
    assert values(out)["id"] == [each["id"] for index, each in enumerate(rows) if index not in (70, 71, 200)]
    bad = pq.read_table(rejects).to_pylist()
    assert [(each["_row"], each["id"], each["key"]) for each in bad] == [
        (70, "r70", 1000),
        (71, "r71", None),
        (200, "r200", None),
    ]
    assert bad[1]["_reason"] == "column 'x' is null"


def test_lists_of_another_length_are_named(app: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = table().to_pylist()
    rows[5]["x"] = [1.0, 2.0, 3.0]
    pq.write_table(pa.Table.from_pylist(rows, table().schema), tmp_path / "in.parquet")
    assert batch(app, "double", tmp_path / "out.parquet", source=tmp_path / "in.parquet") == 1
    assert "in.parquet, row 5: column 'x' has 3 values, the model takes 2" in capsys.readouterr().err


def test_another_input_or_model_or_columns_is_refused_until_restart(app: Path, tmp_path: Path, capsys: Capture) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table(), source)
    assert batch(app, "double", out, source=source) == 0
    pq.write_table(table().slice(0, 100), source)
    assert batch(app, "double", out, source=source) == 1
    assert "input: in.parquet: rows was 300, is 100; --restart begins anew" in capsys.readouterr().err
    assert batch(app, "double", out, "--restart", source=source) == 0
    assert values(out)["y"] == doubled()[:100]
    assert batch(app, "double", out, "--keep", "id", source=source) == 1
    assert "columns: kept" in capsys.readouterr().err
    assert batch(app, "both", out, source=source) == 1
    assert "model: " in capsys.readouterr().err


def test_what_others_wrote_is_not_replaced(app: Path, tmp_path: Path, capsys: Capture) -> None:
    pq.write_table(table(), tmp_path / "out.parquet")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").touch()
    for name, told in (
        ("out.parquet", "not written by a batch run"),
        ("folder", "it has 'mine.txt'"),
        ("x.csv", "must end in"),
    ):
        assert batch(app, "double", tmp_path / name) == 1
        assert told in capsys.readouterr().err


def test_what_cannot_be_read_is_told(app: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "b.parquet").write_bytes(b"x,y")
    for name, told in (("a.parquet", "a.parquet cannot be read"), ("b.parquet", "neither"), ("c", "no file or folder")):
        assert batch(app, "double", tmp_path / "out.parquet", source=tmp_path / name) == 1
        assert told in capsys.readouterr().err
    assert batch(app, "nobody", tmp_path / "out.parquet") == 1
    assert "nobody" in capsys.readouterr().err


@pytest.fixture
def server(app: Path) -> Iterator[ServerHere]:
    """The same spec, served."""
    sys.path.insert(0, str(app.parent))
    running = ServerHere(spec_for(SPEC, app.parent, "native"))
    yield running
    running.stop()
    sys.path.remove(str(app.parent))


def test_a_server_answers_the_same(app: Path, server: ServerHere, tmp_path: Path, capsys: Capture) -> None:
    for model, more in (("double", []), ("upper", []), ("top", ["--columns", "user=key"])):
        here, there = tmp_path / f"{model}-here.parquet", tmp_path / f"{model}-there.parquet"
        assert batch(app, model, here, *more) == 0
        assert batch(app, model, there, *more, "--server", server.address) == 0
        assert values(here) == values(there)
    assert batch(app, "nobody", tmp_path / "x.parquet", "--server", server.address) == 1
    assert "the server says NOT_FOUND" in capsys.readouterr().err


class Streams(flight.FlightServerBase):  # type: ignore[misc]
    """Gives the rows in batches of 50, for the ticket "all rows"; the stream may break at one of them."""

    breaks_at: int | None = None

    def do_get(self, context: object, ticket: flight.Ticket) -> flight.GeneratorStream:
        """See pyarrow."""
        assert ticket.ticket == b"all rows"
        breaks_at = self.breaks_at

        def batches() -> Iterator[pa.RecordBatch]:
            for index, each in enumerate(table().to_batches(50)):
                if index == breaks_at:
                    raise flight.FlightUnavailableError("gone")
                yield each

        return flight.GeneratorStream(table().schema, batches())


def test_a_flight_is_read_and_read_again_after_it_broke(app: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.parquet"
    with Streams("grpc://127.0.0.1:0") as server:
        location = f"grpc://127.0.0.1:{server.port}/all%20rows"
        arguments = ["batch", str(app), "double", "--input", location, "--output", str(out), "--batch-size", "32"]
        server.breaks_at = 4
        assert main(arguments) == 1
        assert "gone" in capsys.readouterr().err
        server.breaks_at = None
        assert main([*arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["rows_total"]) == (ROWS, None)
    assert 100 < summary["rows_before"] <= 200
    assert values(out)["y"] == doubled()
    assert main([*arguments[:4], "http://x/y", *arguments[5:]]) == 1
    assert "expected a path or grpc://HOST:PORT/TICKET" in capsys.readouterr().err
