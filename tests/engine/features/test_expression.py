"""What expressions compute: over Arrow columns, float arrays and single floats alike, and as a plain loop over rows says."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features.expression import Expression, ExpressionType, column, parse
from engine.features.expression_columns import BLOCK_ROWS
from tests.engine.features.naive_expressions import ROWS, Row, Tree, computed, trees, written

NUMBER, TEXT, BOOL = ExpressionType.NUMBER, ExpressionType.TEXT, ExpressionType.BOOL
TIMESTAMP, BYTES = ExpressionType.TIMESTAMP, ExpressionType.BYTES

TYPES = (
    dict.fromkeys("xyij", NUMBER)
    | dict.fromkeys("su", TEXT)
    | dict.fromkeys("fg", BOOL)
    | dict.fromkeys("tv", TIMESTAMP)
)
ARROW = dict.fromkeys("xy", pa.float64()) | dict.fromkeys("ij", pa.int64()) | dict.fromkeys("su", pa.string())
ARROW |= dict.fromkeys("fg", pa.bool_()) | dict.fromkeys("tv", pa.timestamp("us", "UTC"))
MANY = trees(text=True)
NUMERIC = trees(text=False)
REPEATS = 40
"""Rows are repeated to some hundreds: what is done for many at once differs from what is done for few."""


def arrow(rows: Sequence[Row]) -> dict[str, pa.Array]:
    return {name: pa.array([row[name] for row in rows], kind) for name, kind in ARROW.items()}


def floats(rows: Sequence[Row]) -> dict[str, npt.NDArray[np.float64]]:
    values = {name: [row[name] for row in rows] for name in "xyijfg"}
    return {name: np.array([math.nan if each is None else float(each) for each in values[name]]) for name in values}


def plain(array: pa.Array) -> list[Any]:
    """Timestamps as microseconds."""
    whole = array.cast(pa.int64()) if pa.types.is_timestamp(array.type) else array
    return list(whole.to_pylist())


@settings(max_examples=200, deadline=None)
@given(st.one_of(*MANY.values()), st.lists(ROWS, min_size=1, max_size=8))
def test_columns_give_what_a_loop_over_rows_gives(tree: Tree, rows: list[Row]) -> None:
    expression = parse(written(tree), TYPES)
    columns, expected = arrow(rows), [computed(tree, row) for row in rows]
    found = expression.evaluate(columns, len(rows))
    if tree[0] == "name":
        assert found is columns[tree[1]]
        return
    assert plain(found) == expected, written(tree)
    many = {name: pa.concat_arrays([each] * REPEATS) for name, each in columns.items()}
    assert plain(expression.evaluate(many, len(rows) * REPEATS)) == expected * REPEATS
    if expression.type is BOOL:
        assert expression.holds(columns, len(rows)).tolist() == [each is True for each in expected]


@settings(max_examples=200, deadline=None)
@given(st.one_of(NUMERIC["number"], NUMERIC["bool"]), st.lists(ROWS, min_size=1, max_size=8))
def test_float_arrays_and_single_floats_give_what_a_loop_over_rows_gives(tree: Tree, rows: list[Row]) -> None:
    expression = parse(written(tree), TYPES)
    assert expression.numeric
    values = floats(rows)
    as_floats = [dict(row) | {n: None if row[n] is None else float(row[n]) for n in "ij"} for row in rows]
    expected = np.array([math.nan if (v := computed(tree, row)) is None else float(v) for row in as_floats])
    np.testing.assert_array_equal(expression.numbers(values), expected, written(tree))
    many = {name: np.tile(each, REPEATS) for name, each in values.items()}
    np.testing.assert_array_equal(expression.numbers(many), np.tile(expected, REPEATS))
    singles = [expression.number({name: float(values[name][index]) for name in "xyijfg"}) for index in range(len(rows))]
    np.testing.assert_array_equal(singles, expected)


def test_columns_and_float_arrays_agree_on_a_matrix_s_columns() -> None:
    matrix = np.random.default_rng(7).normal(size=(1000, 3))
    matrix[::7, 1] = np.nan
    values = {name: matrix[:, index] for index, name in enumerate("abc")}
    columns = {name: pa.array(each, from_pandas=True) for name, each in values.items()}
    expression = parse("exp(a) / (b + 1) ** 2 if c > 0 or is_null(b) else -a", dict.fromkeys("abc", NUMBER))
    found = expression.evaluate(columns, 1000).to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(expression.numbers(values), found)


def test_columns_of_many_blocks_give_what_their_pieces_give() -> None:
    random = np.random.default_rng(11)
    rows = 2 * BLOCK_ROWS + 77
    columns = {
        "x": pa.array(random.normal(size=rows), mask=random.random(rows) < 0.1),
        "i": pa.array(random.integers(0, 9, rows) + 2**53, mask=random.random(rows) < 0.1),
        "f": pa.array(random.random(rows) < 0.5, mask=random.random(rows) < 0.1),
        "s": pa.array(random.choice(["a", "b"], rows), mask=random.random(rows) < 0.1),
    }
    for text in ("x * 2 + 1", f"i > {2**53 + 3} and (f or s == 'a')", "s if f else 'none'", "1 / 2", "f"):
        expression = parse(text, TYPES)
        whole = expression.evaluate(columns, rows)
        pieces = []
        for start in range(0, rows, 1000):
            piece = {name: each.slice(start, 1000) for name, each in columns.items()}
            pieces.append(expression.evaluate(piece, len(piece["x"])))
        assert whole.equals(pa.concat_arrays(pieces)), text
        if expression.type is BOOL:
            assert expression.holds(columns, rows).tolist() == [each is True for each in whole.to_pylist()]


def evaluated(text: str, /, **columns: pa.Array) -> list[Any]:
    kinds = {"number": NUMBER, "text": TEXT, "bool": BOOL, "time": TIMESTAMP, "bytes": BYTES}
    names = {name: kinds[name.rstrip("0123456789")] for name in columns}
    rows = len(next(iter(columns.values()))) if columns else 1
    return plain(parse(text, names).evaluate(columns, rows))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 ** 2", 19.0),
        ("-2 ** 2", -4.0),
        ("-7 // 2", -4.0),
        ("-7 % 3", 2.0),
        ("7 / 0", None),
        ("0 / 0", None),
        ("0 ** -1", None),
        ("(-8) ** (1 / 3)", None),
        ("10 ** 1000", None),
        ("1 / 10 ** 1000", None),
        ("exp(1000)", None),
        ("exp(-exp(1000))", None),
        ("ln(0)", None),
        ("ln(-1)", None),
        ("log1p(-1)", None),
        ("sqrt(-1)", None),
        ("round(2.5)", 2.0),
        ("round(-0.5)", 0.0),
        ("min(3, 1, 2)", 1.0),
        ("max(3, 1, 2)", 3.0),
        ("clip(5, 0, 1)", 1.0),
        ("coalesce(1 / 0, ln(0), 7)", 7.0),
        ("is_null(0 / 0)", True),
        ("0 / 0 is None", True),
        ("0 is not None", True),
        ("1 < 2 < 3 != 4", True),
        ("1 < 3 < 2", False),
        ("0 / 0 > 1 or True", True),
        ("0 / 0 > 1 and False", False),
        ("0 / 0 > 1 or False", None),
        ("not 0 / 0 > 1", None),
        ("1 if 0 / 0 > 1 else 2", None),
        ("1 if False else None", None),
        ("2 in [1, 2]", True),
        ("2 not in (1, 3)", True),
        ("9007199254740993 in [9007199254740992]", True),  # literals among themselves are float64
        ("9007199254740993 == 9007199254740992", True),
        ("'a' in ['a', 'b']", True),
        ("upper('é')", "É"),
        ("length('née')", 3.0),
        ("lower('ÀB')", "àb"),
        ("contains('a.c', 'a.')", True),
        ("contains('abc', 'a.')", False),
        ("'a' < 'b' <= 'b'", True),
        ("hour(timestamp('2026-11-26T23:59:59.999999+01:00'))", 22.0),
        ("weekday(timestamp('2026-11-26'))", 3.0),
        ("day(timestamp('1969-12-31T23:59:59'))", 31.0),
        ("seconds_between(timestamp('2026-01-01'), timestamp('2026-01-02T00:00:00.5Z'))", 86400.5),
        ("seconds(timestamp('1970-01-01T00:00:01.5'))", 1.5),
        ("number(2 > 1) + 1", 2.0),
    ],
)
def test_an_expression_of_literals_has_its_value_in_every_row(text: str, value: object) -> None:
    expression = parse(text, {})
    assert expression.evaluate({}, 3).to_pylist() == [value] * 3
    assert expression.evaluate({}, 0).to_pylist() == []
    if expression.numeric:
        wanted = math.nan if value is None else float(value)  # type: ignore[arg-type]
        np.testing.assert_array_equal(expression.numbers({}, 2), [wanted] * 2)
        np.testing.assert_array_equal(expression.numbers({}), [wanted])


def test_integers_are_compared_exactly_past_two_to_the_53rd() -> None:
    big = 2**53
    number, other = pa.array([big, big + 1, None, -big - 1]), pa.array([big, big, 1, -big])
    assert evaluated(f"number > {big}", number=number) == [False, True, None, False]
    assert evaluated(f"number == {big + 1}", number=number) == [False, True, None, False]
    assert evaluated(f"{-big - 1} >= number", number=number) == [False, False, None, True]
    assert evaluated(f"number in [{big + 1}, 5]", number=number) == [False, True, None, False]
    assert evaluated("number == number2", number=number, number2=other) == [True, False, None, False]
    assert evaluated("number < number2", number=number, number2=other) == [False, False, None, True]
    assert evaluated(f"number < {2**70}", number=number) == [True, True, None, True]
    unsigned = pa.array([2**64 - 1, 0, None, 2**63], pa.uint64())
    assert evaluated("number == number2", number=unsigned, number2=pa.array([-1, 0, 0, -(2**63)])) == [
        False,
        True,
        None,
        False,
    ]
    assert evaluated(f"number >= {2**63}", number=unsigned) == [True, False, None, True]


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()]
)
def test_every_number_type_is_read_with_nulls_and_slices(kind: pa.DataType) -> None:
    array = pa.array([9, 1, None, 3], kind)[1:]
    assert evaluated("number * 2", number=array) == [2.0, None, 6.0]
    assert evaluated("number", number=array) == [1, None, 3]


def test_bools_are_read_from_any_place_in_their_bits() -> None:
    array = pa.array([True, False, None, True] * 5)
    for start in (0, 1, 3, 9):
        part = array[start : start + 7]
        assert evaluated("not bool", bool=part) == [None if each is None else not each for each in part.to_pylist()]
    assert evaluated("not bool", bool=pa.array([None, None], pa.bool_())) == [None, None]
    assert evaluated("not bool", bool=pa.array([], pa.bool_())) == []


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_text_type_is_read(kind: pa.DataType) -> None:
    array = pa.array(["b", "a", None, "bc"]).cast(kind)
    assert evaluated("starts_with(text, 'b') and text != 'b'", text=array) == [False, False, None, True]
    assert evaluated("coalesce(upper(text), '-')", text=array) == ["B", "A", "-", "BC"]
    assert evaluated("text in ['a'] or text == text2", text=array, text2=pa.array(["b", "c", "d", None])) == [
        True,
        True,
        None,
        None,
    ]
    assert evaluated("text if length(text) == 1 else 'long'", text=array) == ["b", "a", None, "long"]


@pytest.mark.parametrize(
    "kind", [pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns"), pa.date32(), pa.date64()]
)
def test_every_time_type_is_read(kind: pa.DataType) -> None:
    array = pa.array([0, None, 86_400_000_000], pa.timestamp("us")).cast(kind)
    assert evaluated("seconds(time)", time=array) == [0.0, None, 86_400.0]
    assert evaluated("coalesce(time, timestamp('1970-01-01T00:00:01'))", time=array) == [0, 1_000_000, 86_400_000_000]


def test_times_that_float64_cannot_hold_to_the_microsecond_are_null() -> None:
    array = pa.array([2**62, -(2**62), -1], pa.timestamp("s"))
    assert evaluated("hour(time)", time=array) == [None, None, 23.0]
    assert evaluated("hour(time)", time=pa.array([-1], pa.timestamp("ns"))) == [23.0]


def test_bytes_are_only_tested_for_null() -> None:
    assert evaluated("is_null(bytes)", bytes=pa.array([b"a", None])) == [False, True]


def test_distances_are_those_of_known_places() -> None:
    places = {name: pa.array([value]) for name, value in zip("abcd", (48.8567, 2.3508, 40.7128, -74.0060), strict=True)}
    expression = parse("haversine(a, b, c, d)", dict.fromkeys("abcd", NUMBER))
    assert expression.evaluate(places, 1).to_pylist() == [pytest.approx(5837, abs=2)]
    values = {name: each.to_numpy() for name, each in places.items()}
    assert expression.numbers(values)[0] == expression.evaluate(places, 1)[0].as_py()
    assert parse("haversine(0, 0, 0, 180)", {}).number({}) == pytest.approx(math.pi * 6371.0088)
    assert parse("haversine(12.5, 7.25, 12.5, 7.25)", {}).number({}) == 0.0


def test_whole_numbers_come_as_int64_and_what_is_not_whole_as_null() -> None:
    def integers(expression: Expression, array: pa.Array) -> list[int | None]:
        found = expression.as_integer().evaluate({"number": array}, len(array))
        assert found.type == pa.int64()
        return list(found.to_pylist())

    bare = column("number", NUMBER)
    assert integers(bare, pa.array([1, None, 2**63 - 1])) == [1, None, 2**63 - 1]
    assert integers(bare, pa.array([1, None, 2**64 - 1], pa.uint64())) == [1, None, None]
    assert integers(bare, pa.array([1.0, 2.5, 1e19, math.nan, -(2.0**63)])) == [1, None, None, None, None]
    assert integers(parse("number > 1", {"number": NUMBER}), pa.array([1, None, 3], pa.int16())) == [0, None, 1]


@pytest.mark.parametrize(
    ("text", "whole"),
    [("n + 1", True), ("n * 0.5", False), ("n / 1", False), ("x // 2", True), ("floor(x)", True), ("n if b else 2.5", False),
     ("max(n, length(s))", True), ("hour(t)", True), ("coalesce(n, x)", False), ("-n % 7", True), ("n ** 2", False)],
)  # fmt: skip
def test_wholeness_is_known_from_the_text(text: str, whole: bool) -> None:
    names = {"n": NUMBER, "x": NUMBER, "b": BOOL, "s": TEXT, "t": TIMESTAMP}
    assert parse(text, names, whole={"n"}).whole is whole


def test_equal_expressions_are_those_that_compute_the_same() -> None:
    names = {"a": NUMBER, "b": NUMBER}
    assert parse("a+b", names) == parse("( a + b )", names)
    assert hash(parse("a+b", names)) == hash(parse("a\n + b", names))
    assert parse("a + b", names) != parse("b + a", names)
    assert parse("a", names) != parse("a", {"a": TEXT})
    derived = {"c": parse("a * 2", names)}
    assert parse("c > 1", names, derived=derived) == parse("a * 2 > 1", names)
    assert parse("c > 1", names, derived=derived).names == {"a"}


def test_an_expression_survives_pickling() -> None:
    expression = parse("a * 2 + 1", {"a": NUMBER})
    again = pickle.loads(pickle.dumps(expression))
    assert again == expression
    assert again.text == expression.text
    assert again.number({"a": 3.0}) == 7.0


@pytest.mark.parametrize(
    ("text", "numeric"), [("a > 1 and b", True), ("s == 'x'", False), ("'a' == 'b'", False), ("hour(t)", False)]
)
def test_only_numbers_and_bools_make_an_expression_numeric(text: str, numeric: bool) -> None:
    assert parse(text, {"a": NUMBER, "b": BOOL, "s": TEXT, "t": TIMESTAMP}).numeric is numeric
