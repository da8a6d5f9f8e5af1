"""Record plans made by hand, real local logs, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine import Ledger, Response, Signature, Stage, Tensor, datatype_named
from engine.clock import NEVER_NS
from engine.graph.plan import Condition, Plan, PlannedColumn, PlannedRecord
from engine.graph.record_rows import RecordMaker, RecordRows
from engine.graph.records import RecordWriter, Rows
from engine.log.declaration import LocalLogSpec
from engine.log.local import LocalLog
from engine.log.schema import arrow_schema

COLUMNS = {"request": "string", "card": "string", "amount": "float64", "score": "float32", "at": "timestamp"}
SCHEMA = arrow_schema(COLUMNS)


def tensor(datatype: str, values: Sequence[Any], *, shape: tuple[int, ...] | None = None) -> Tensor:
    """Of one dimension unless a shape is given."""
    found = datatype_named(datatype, of="recording")
    array = np.array(values, found.dtype)
    return Tensor(found, array if shape is None else array.reshape(shape))


def maker(columns: Mapping[str, int | str], when: Condition | None = None, plan: Plan | None = None) -> RecordMaker:
    """Columns by slot, or by word."""
    planned = tuple(
        PlannedColumn(name, word=each) if isinstance(each, str) else PlannedColumn(name, (each,))
        for name, each in columns.items()
    )
    record = PlannedRecord("decision", "decisions", planned, when)
    return RecordMaker(plan or Plan("graph", Signature((), ()), (), 9, (), (), None, records=(record,)), record)


def response(request_id: str = "7", stages: tuple[Stage, ...] = (), marks: tuple[str, ...] = ()) -> Response:
    """An answer whose ledger has these stages."""
    ledger = Ledger(1_000, 2_000, 51_000, 1, lambda: stages)
    return Response("graph", 1, {}, ledger, request_id, marks)


def stage(name: str, mark: str = "") -> Stage:
    """A stage of 20 us, half of it waiting."""
    return Stage(name, 1_000, 11_000, 21_000, 4, NEVER_NS, critical=True, mark=mark)


DECISION = maker({"request": "$id", "card": 0, "amount": 1, "score": 2, "at": "$time"})


def decision(number: int, rows: int = 1, made_by: RecordMaker = DECISION) -> RecordRows:
    """Of request `number`; its rows tell which it was."""
    values = [
        tensor("BYTES", [b"card-%d" % (number * 10 + row) for row in range(rows)]),
        tensor("FP64", [number + row / 10 for row in range(rows)]),
        tensor("FP32", [0.5] * rows, shape=(rows, 1)),
    ]
    found = made_by.of([*values, None, None], response(str(number)), 1_000_000 + number)
    assert found is not None
    return found


def open_log(folder: Path, schema: pa.Schema = SCHEMA, durability: str = "fsync") -> LocalLog:
    """A local log."""
    return LocalLog(LocalLogSpec(str(folder), durability), schema, folder)  # type: ignore[arg-type]


def writer_of(log: LocalLog, push: Callable[[str, pa.RecordBatch], Any] | None = None) -> RecordWriter:
    """Of this log; `push` stands between."""
    return RecordWriter("decisions", push=push or (lambda _, batch: log.append(batch)), schema=lambda _: log.schema)


def kept(log: LocalLog) -> list[dict[str, Any]]:
    """Every row of the log."""
    from tests.engine.log.contract import Collector, read_rows

    count = log.latest()[0]
    reader = log.reader(Collector())
    found = [row for chunk in read_rows(reader, count) for row in chunk.batch.to_pylist()] if count else []
    reader.close()
    return found


class Outcomes:
    """Collects what durable appends were told."""

    def __init__(self) -> None:
        self.told: list[Exception | None] = []

    def __call__(self, error: Exception | None) -> None:
        """A `done`."""
        self.told.append(error)


def made(rows: Rows, schema: pa.Schema = SCHEMA) -> list[dict[str, Any]]:
    """The rows that are made of it."""
    found: list[dict[str, Any]] = rows.maker.batch([rows], schema).to_pylist()
    return found
