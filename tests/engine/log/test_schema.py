"""Columns: declared, evolved, and laid over batches."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pytest

from engine import InvalidArgument, SpecError
from engine.errors import FailedPrecondition
from engine.log.declaration import ColumnSpec
from engine.log.schema import TYPES, arrow_schema, conform, evolve
from tests.engine.log.contract import bad_text

UTC = pa.timestamp("us", "UTC")


def one(kind: str, *, nullable: bool = True) -> pa.Schema:
    """A schema of one column, x."""
    return arrow_schema({"x": ColumnSpec(kind, nullable)})  # type: ignore[arg-type]


def named(parameter: object) -> str:
    """Of a test's parameter: an array's type, or a text."""
    return str(parameter.type) if isinstance(parameter, pa.Array) else str(parameter)


def test_every_declared_type_has_its_arrow_type_and_keeps_order_and_nullability() -> None:
    schema = arrow_schema({name: name for name in TYPES} | {"key": ColumnSpec("string", nullable=False)})
    assert schema.names == [*TYPES, "key"]
    assert schema.field("timestamp").type == UTC
    assert schema.field("timestamp").nullable
    assert not schema.field("key").nullable


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"amount": "flaot64"}, "logs.payments.schema.amount: unknown column type 'flaot64'; nearest: 'float64'"),
        ({"amount": "decimal"}, "amount: unknown column type 'decimal'"),
        ({"": "int64"}, "name has 1 to"),
        ({"x" * 300: "int64"}, "name has 1 to"),
        ({}, "1 to 1024 columns, got 0"),
        ({f"c{each}": "bool" for each in range(1025)}, "got 1025"),
    ],
)
def test_a_wrong_declaration_names_its_column(columns: Mapping[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        arrow_schema(columns, "logs.payments.schema")


def test_a_batch_with_the_schema_already_is_returned_as_it_is() -> None:
    batch = pa.record_batch({"x": pa.array([1, 2])})
    assert conform(batch, one("int64")) is batch
    assert conform(batch.replace_schema_metadata({"pandas": "{}"}), one("int64")).column(0).equals(batch.column(0))


def test_columns_that_fit_share_their_memory() -> None:
    batch = pa.record_batch({"y": pa.array([1.0, 2.0]), "x": pa.array([1, 2])})
    fitted = conform(batch, arrow_schema({"x": ColumnSpec("int64", nullable=False), "y": "float64", "z": "string"}))
    assert fitted.schema.names == ["x", "y", "z"]
    assert fitted.column("x").buffers()[1].address == batch.column("x").buffers()[1].address
    assert fitted.column("z").to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1, None], pa.int32()), "int64"),
        (pa.array([1, None], pa.uint32()), "int64"),
        (pa.array([1, None], pa.int32()), "float64"),
        (pa.array([1, None], pa.int16()), "float32"),
        (pa.array([0.5, None], pa.float32()), "float64"),
        (pa.array(["é", None], pa.large_string()), "string"),
        (pa.array(["é", None], pa.string_view()), "string"),
        (pa.array(["é", None]).dictionary_encode(), "string"),
        (pa.array([7, None], pa.int8()).dictionary_encode(), "int64"),
        (pa.array([b"ab", None], pa.large_binary()), "binary"),
        (pa.array([b"ab", None], pa.binary(2)), "binary"),
        (pa.array([86_400_000 * 3, None], pa.date64()), "date"),
        (pa.nulls(2), "timestamp"),
        (pa.nulls(2), "string"),
    ],
    ids=named,
)
def test_other_types_that_keep_every_value_are_taken(values: pa.Array, kind: str) -> None:
    fitted = conform(pa.record_batch({"x": values}), one(kind)).column(0)
    assert fitted.type == TYPES[kind]
    assert fitted.to_pylist() == values.to_pylist()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+05:30"])
def test_times_of_any_unit_and_zone_are_the_same_instant(unit: str, zone: str | None) -> None:
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    values = pa.array([-5 * per_second, 1_700_000_000 * per_second, None], pa.timestamp(unit, zone))
    fitted = conform(pa.record_batch({"x": values}), one("timestamp")).column(0)
    assert fitted.cast(pa.int64()).to_pylist() == [-5_000_000, 1_700_000_000_000_000, None]


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (pa.array([1], pa.int64()), "int32", "'x': expected int32, got int64"),
        (pa.array([1], pa.int64()), "uint64", "expected uint64, got int64"),
        (pa.array([1], pa.uint64()), "int64", "expected int64, got uint64"),
        (pa.array([1], pa.int64()), "float64", "expected float64, got int64"),
        (pa.array([1], pa.int32()), "float32", "expected float32, got int32"),
        (pa.array([1.0]), "int64", "expected int64, got float64"),
        (pa.array([1.0]), "float32", "expected float32, got float64"),
        (pa.array(["1"]), "int64", "expected int64, got string"),
        (pa.array(["1"]).dictionary_encode(), "int64", "expected int64, got dictionary<"),
        (pa.array([b"1"]), "string", "expected string, got binary"),
        (pa.array([1]), "timestamp", "expected timestamp, got int64"),
        (pa.array(["2026-01-01"]), "timestamp", "expected timestamp, got string"),
        (pa.array([True]), "int8", "expected int8, got bool"),
        (pa.array([[1]]), "int64", "expected int64, got list<"),
        (pa.array([1], pa.timestamp("ns")), "timestamp", "lose data"),
        (pa.array([1 << 60], pa.timestamp("s")), "timestamp", "out of bounds"),
        (pa.array([86_400_001], pa.date64()), "date", "whole number of days"),
    ],
    ids=named,
)
def test_what_could_change_a_value_is_refused_with_both_types(values: pa.Array, kind: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        conform(pa.record_batch({"x": values}), one(kind))


def test_nulls_in_a_column_that_forbids_them_are_counted_whatever_the_batch_says_of_itself() -> None:
    strict = one("int64", nullable=False)
    lying = pa.RecordBatch.from_arrays([pa.array([1, None, None])], schema=strict)
    with pytest.raises(InvalidArgument, match=r"'x': is not nullable, 2 of 3 rows are null"):
        conform(lying, strict)
    with pytest.raises(InvalidArgument, match="3 of 3"):
        conform(pa.record_batch({"x": pa.nulls(3)}), strict)
    with pytest.raises(InvalidArgument, match="1 of 2"):
        conform(pa.record_batch({"x": pa.array([None, 1]).dictionary_encode()}), strict)


def test_a_missing_or_unknown_or_doubled_column_is_named() -> None:
    strict = arrow_schema({"amount": ColumnSpec("float64", nullable=False)})
    with pytest.raises(InvalidArgument, match=r"'amuont': not in the log's schema; nearest: 'amount'"):
        conform(pa.record_batch({"amuont": pa.array([1.0])}), strict)
    with pytest.raises(InvalidArgument, match=r"'amount': is not nullable and missing"):
        conform(pa.RecordBatch.from_arrays([], schema=pa.schema([])), strict)
    doubled = pa.RecordBatch.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["amount", "amount"])
    with pytest.raises(InvalidArgument, match=r"'amount': given twice"):
        conform(doubled, strict)


def test_a_corrupt_batch_is_refused_before_anything_reads_it() -> None:
    with pytest.raises(InvalidArgument, match="corrupt"):
        conform(pa.record_batch({"x": bad_text()}), one("string"))
    wild = pa.py_buffer(b"".join(each.to_bytes(4, "little") for each in (0, 1 << 30, 1)))
    text = pa.Array.from_buffers(pa.string(), 2, [None, wild, pa.py_buffer(b"a")])
    with pytest.raises(InvalidArgument, match="corrupt"):
        conform(pa.record_batch({"x": text}), one("string"))
    indices = pa.DictionaryArray.from_arrays(pa.array([5], pa.int32()), pa.array(["a"]), safe=False)
    with pytest.raises(InvalidArgument, match="corrupt"):
        conform(pa.record_batch({"x": indices}), one("string"))


STORED: Mapping[str, ColumnSpec | str] = {
    "id": ColumnSpec("int64", nullable=False),
    "n": "int32",
    "f": "float32",
    "s": "string",
}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"n": "int64"},
        {"f": "float64"},
        {"n": "float64"},
        {"new": "string"},
        {"id": ColumnSpec("int64")},
    ],
    ids=str,
)
def test_changes_that_lose_nothing_are_taken(changed: Mapping[str, ColumnSpec | str]) -> None:
    declared = arrow_schema({**STORED, **changed})
    evolve(arrow_schema(STORED), declared)
    evolve(arrow_schema(STORED), pa.schema(list(reversed(declared))))
    old = pa.RecordBatch.from_pylist([{"id": 1, "n": 2, "f": 0.5, "s": "a"}], schema=arrow_schema(STORED))
    assert conform(old, declared).select(list(STORED)).to_pylist() == old.to_pylist()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": "int16"}, r"'n': the log holds int32, declared is int16"),
        ({"n": "uint64"}, r"'n': the log holds int32, declared is uint64"),
        ({"id": ColumnSpec("float64", nullable=False)}, r"'id': the log holds int64, declared is float64"),
        ({"s": "binary"}, r"'s': the log holds string, declared is binary"),
        ({"s": ColumnSpec("string", nullable=False)}, r"'s': the log may hold nulls"),
        ({"new": ColumnSpec("string", nullable=False)}, r"'new': the log's older entries have no value"),
        ({"s": None, "t": "string"}, r"'s': the log holds values of it and the declared schema has none"),
    ],
    ids=str,
)
def test_changes_that_lose_something_are_refused_by_column(
    changed: Mapping[str, ColumnSpec | str | None], message: str
) -> None:
    columns = {name: each for name, each in {**STORED, **changed}.items() if each is not None}
    with pytest.raises(FailedPrecondition, match=message):
        evolve(arrow_schema(STORED), arrow_schema(columns))
