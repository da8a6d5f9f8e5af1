"""Tables are read as they are, in order where asked, and what is wrong with them is said."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import DataLoss, InvalidArgument, NotFound
from engine.features.history import History
from engine.features.tables import BATCH_ROWS, events_in_order, read_table
from tests.engine.features.streams import random_stream, table_of, whole_view

SCHEMA = pa.schema([
    pa.field("card", pa.string(), nullable=False), pa.field("at", pa.timestamp("us", "UTC")), pa.field("amount", pa.float64()),
    pa.field("note", pa.string()),
])  # fmt: skip


def _table(times: list[int | None], **more: Any) -> pa.Table:  # noqa: ANN401
    at = pa.array(times, pa.timestamp("us", "UTC"))
    return pa.table({"card": [f"c{i}" for i in range(len(times))], "at": at, "amount": [1.0] * len(times)} | more)


def _read(path: Path, until_us: int = 1 << 60, schema: pa.Schema = SCHEMA) -> list[dict[str, Any]]:
    events = events_in_order(path, None, schema, "at", until_us)
    batches = list(events.batches)
    assert all(each.schema.equals(schema) for each in batches)
    rows: list[dict[str, Any]] = pa.Table.from_batches(batches, schema).to_pylist()
    assert len(rows) == events.rows
    return rows


def _instant(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)


def test_a_file_and_a_folder_of_parquet_are_tables(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    pq.write_table(_table([1, 2]), tmp_path / "one.parquet")
    pq.write_table(_table([1, 2]), tmp_path / "many" / "a.parquet")
    pq.write_table(_table([3]), tmp_path / "many" / "b.parquet")
    table, version = read_table(tmp_path / "one.parquet", columns=["amount", "card"])
    assert (table.column_names, table.num_rows, version) == (["amount", "card"], 2, None)
    assert read_table(str(tmp_path / "many"))[0].num_rows == 3


def test_events_come_in_order_of_time_equal_ones_as_they_lie_and_before_the_instant(tmp_path: Path) -> None:
    pq.write_table(_table([5, 3, 9, None, 3, 1]), tmp_path / "t.parquet")
    rows = _read(tmp_path / "t.parquet", until_us=9)
    assert [each["card"] for each in rows] == ["c5", "c1", "c4", "c0"]
    assert rows[0] == {"card": "c5", "at": _instant(1), "amount": 1.0, "note": None}


def test_many_events_come_in_batches(tmp_path: Path) -> None:
    times = list(range(2 * BATCH_ROWS + 5, 0, -1))
    pq.write_table(_table(list(times)), tmp_path / "t.parquet")
    batches = list(events_in_order(tmp_path / "t.parquet", None, SCHEMA, "at", 1 << 60).batches)
    assert [each.num_rows for each in batches] == [BATCH_ROWS, BATCH_ROWS, 5]
    found = pa.Table.from_batches(batches).column("at").cast(pa.int64()).to_pylist()
    assert found == sorted(times)


def test_columns_become_what_the_log_says_where_they_can(tmp_path: Path) -> None:
    table = pa.table({
        "card": pa.array(["a", "b"]).dictionary_encode(), "at": pa.array([1, 2], pa.timestamp("ms")),
        "amount": pa.array([1, 2], pa.int32()), "note": pa.array(["x", None], pa.large_string()), "other": [1, 2],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    assert _read(tmp_path / "t.parquet") == [
        {"card": "a", "at": _instant(1000), "amount": 1.0, "note": "x"},
        {"card": "b", "at": _instant(2000), "amount": 2.0, "note": None},
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"amount": ["1"]}, "column 'amount': expected double, got string"),
        ({"note": [1]}, "column 'note': expected string, got int64"),
        ({"at": [1]}, "column 'at': expected timestamp[us, tz=UTC], got int64"),
        ({"card": pa.array([None], pa.string())}, "column 'card': 1 values are null, which the log's schema forbids"),
    ],
)
def test_columns_that_cannot_become_what_the_log_says_are_named(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    table = _table([1])
    for name, values in columns.items():
        at = table.column_names.index(name) if name in table.column_names else table.num_columns
        table = (
            table.set_column(at, name, pa.array(values))
            if at < table.num_columns
            else table.append_column(name, [values])
        )
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InvalidArgument) as error:
        _read(tmp_path / "t.parquet")
    assert message in error.value.message


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no table at '.*nowhere'"):
        read_table(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="no Parquet file"):
        read_table(tmp_path)
    (tmp_path / "text.parquet").write_text("this is no Parquet")
    with pytest.raises(DataLoss, match=r"text\.parquet"):
        read_table(tmp_path / "text.parquet")
    pq.write_table(_table([1, 2]), tmp_path / "t.parquet")
    with pytest.raises(InvalidArgument, match="has no column 'amonut'; nearest: 'amount'"):
        read_table(tmp_path / "t.parquet", columns=["amonut"])
    with pytest.raises(InvalidArgument, match="not a Delta table, so it has no version 3"):
        read_table(tmp_path / "t.parquet", 3)
    with pytest.raises(InvalidArgument, match="has no column 'when'"):
        events_in_order(tmp_path / "t.parquet", None, SCHEMA, "when", 1)
    damaged = bytearray((tmp_path / "t.parquet").read_bytes())
    damaged[4:40] = bytes(36)
    (tmp_path / "t.parquet").write_bytes(damaged)
    with pytest.raises(DataLoss):
        read_table(tmp_path / "t.parquet")


def test_a_delta_table_is_read_at_its_version(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    deltalake.write_deltalake(tmp_path / "d", _table([1, 2]))
    deltalake.write_deltalake(tmp_path / "d", _table([3]), mode="append")
    newest, version = read_table(tmp_path / "d", columns=["card", "at"])
    assert (newest.num_rows, version) == (3, 1)
    first, version = read_table(tmp_path / "d", 0)
    assert (first.num_rows, version) == (2, 0)
    events = events_in_order(tmp_path / "d", None, SCHEMA, "at", 1 << 60)
    assert (events.rows, events.version, len(list(events.batches))) == (3, 1, 1)
    with pytest.raises(NotFound, match=r"at version 7 cannot be opened"):
        read_table(tmp_path / "d", 7)
    with pytest.raises(InvalidArgument, match="has no column 'nobody'"):
        read_table(tmp_path / "d", columns=["nobody"])


def test_a_history_reads_its_table_and_says_which_version(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    view, table = whole_view(), table_of(random_stream(3, rows=60))
    deltalake.write_deltalake(tmp_path / "d", table)
    pq.write_table(table, tmp_path / "t.parquet")
    queries = pa.table({
        "card": table.column("card"), "at": table.column("appended"), "limit": pa.nulls(60, pa.float64()), "place": ["home"] * 60,
    })  # fmt: skip
    delta = History(view, tmp_path / "d", arrival="appended")
    assert delta.version == 0
    found = delta.training_set(queries, status=True)
    assert found.equals(History(view, table, arrival="appended").training_set(queries, status=True))
    assert found.equals(
        History(view, str(tmp_path / "t.parquet"), arrival="appended").training_set(queries, status=True)
    )
    assert set(found.column("cards_status").to_pylist()) > {"present"}
    pq.write_table(table.drop_columns(["amount"]), tmp_path / "t.parquet")
    with pytest.raises(InvalidArgument, match="has no column 'amount'"):
        History(view, tmp_path / "t.parquet")
