"""Rows of events become record batches, or say which value does not fit."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from engine import InvalidArgument
from serving.event_rows import rows_batch

SCHEMA = pa.schema(
    [
        ("b", pa.bool_()),
        ("i8", pa.int8()),
        ("i64", pa.int64()),
        ("u64", pa.uint64()),
        ("f32", pa.float32()),
        ("f64", pa.float64()),
        ("s", pa.string()),
        ("y", pa.binary()),
        ("t", pa.timestamp("us", "UTC")),
        ("d", pa.date32()),
    ]
)
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
NOON_US = 1_795_694_400_000_000
GOOD: list[tuple[str, object, object]] = [
    ("b", True, True),
    ("i8", -128, -128),
    ("i64", (1 << 63) - 1, (1 << 63) - 1),
    ("i64", "-9223372036854775808", -(1 << 63)),
    ("i64", 5.0, 5),
    ("u64", (1 << 64) - 1, (1 << 64) - 1),
    ("f32", 0.5, 0.5),
    ("f64", (1 << 53) + 1, float((1 << 53) + 1)),
    ("f64", 7, 7.0),
    ("s", "é", "é"),
    ("s", "", ""),
    ("y", "AAH/", b"\x00\x01\xff"),
    ("t", "2026-11-26T12:00:00Z", NOON),
    ("t", "2026-11-26T14:00:00+02:00", NOON),
    ("t", "2026-11-26 12:00:00.000000+00:00", NOON),
    ("t", NOON_US, NOON),
    ("t", float(NOON_US), NOON),
    ("d", "2026-11-26", date(2026, 11, 26)),
]
BAD: list[tuple[str, object, str]] = [
    ("b", 1, "expected true or false, got number 1"),
    ("b", "true", "got text 'true'"),
    ("i8", 128, "a whole number (int8), got number 128"),
    ("i64", 1 << 63, "got number 9223372036854775808"),
    ("i64", 10**100, "a whole number of 333 bits"),
    ("i64", 1.5, "got number 1.5"),
    ("i64", True, "got true"),
    ("i64", "12a", "got text '12a'"),
    ("i64", "--12", "got text '--12'"),
    ("i64", "9" * 30, "got text"),
    ("i64", float("nan"), "got number nan"),
    ("i64", float("inf"), "got number inf"),
    ("u64", -1, "a whole number (uint64), got number -1"),
    ("f32", 1e39, "a number (float), got number 1e+39"),
    ("f64", True, "got true"),
    ("f64", "1.5", "got text '1.5'"),
    ("f64", 10**400, "a whole number of 1329 bits"),
    ("s", 1, "expected text, got number 1"),
    ("s", "\ud800", "expected text, got"),
    ("y", "not base64!", "base64"),
    ("t", "2026-11-26T12:00:00", "with a zone"),
    ("t", "2026-13-26T12:00:00Z", "got text '2026-13-26T12:00:00Z'"),
    ("t", "yesterday", "got text 'yesterday'"),
    ("t", 1.5, "got number 1.5"),
    ("t", 1 << 63, "a time"),
    ("t", True, "got true"),
    ("d", "26.11.2026", "a date such as"),
    ("d", 5, "got number 5"),
]


@pytest.mark.parametrize(("name", "given", "expected"), GOOD, ids=[f"{name} {given!r}"[:40] for name, given, _ in GOOD])
def test_a_value_that_fits_is_taken(name: str, given: object, expected: object) -> None:
    batch = rows_batch(SCHEMA, [{name: given}, {name: None}, {}])
    assert batch.schema.names == [name]
    assert batch.column(0).to_pylist() == [expected, None, None]


@pytest.mark.parametrize(("name", "given", "words"), BAD, ids=[f"{name} {given!r}"[:40] for name, given, _ in BAD])
def test_a_value_that_does_not_fit_is_told_by_its_place(name: str, given: object, words: str) -> None:
    good = next(value for column, value, _ in GOOD if column == name)
    with pytest.raises(InvalidArgument) as caught:
        rows_batch(SCHEMA, [{name: good}, {name: None}, {name: given}])
    assert caught.value.message.startswith(f"rows[2].{name}: expected ")
    assert words in caught.value.message


@pytest.mark.parametrize("name", SCHEMA.names)
@pytest.mark.parametrize("given", [[1], {"a": 1}], ids=["list", "object"])
def test_no_column_takes_what_is_nested(name: str, given: object) -> None:
    with pytest.raises(InvalidArgument, match=rf"rows\[0\]\.{name}: expected .*, got an? (list|object)"):
        rows_batch(SCHEMA, [{name: given}])


def test_columns_may_come_in_any_order_and_in_any_row() -> None:
    batch = rows_batch(SCHEMA, [{"s": "a"}, {"f64": 1.5, "i8": 2}, {}])
    assert batch.to_pylist() == [
        {"i8": None, "f64": None, "s": "a"},
        {"i8": 2, "f64": 1.5, "s": None},
        {"i8": None, "f64": None, "s": None},
    ]


def test_a_column_that_must_not_be_null_is_asked_for() -> None:
    schema = pa.schema([pa.field("key", pa.int64(), nullable=False), ("x", pa.int64())])
    second: list[dict[str, int | None]] = [{"x": 1}, {"key": None}]
    for row in second:
        with pytest.raises(InvalidArgument, match=r"rows\[1\]\.key: expected a whole number \(int64\), got null"):
            rows_batch(schema, [{"key": 1}, row])


def test_a_long_text_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidArgument) as caught:
        rows_batch(SCHEMA, [{"i64": "x" * 1_000_000}])
    assert len(caught.value.message) < 400
