"""Filters evaluated into bits agree with asking point by point, and what is kept stays within its bound."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from engine.vectors.evaluation import FieldColumns, evaluate
from engine.vectors.filter import (
    Condition,
    Filter,
    GeoBox,
    GeoRadius,
    Group,
    HasId,
    HasWords,
    IsEmpty,
    IsNull,
    Match,
    NoneOf,
    Range,
    ValuesCount,
)
from engine.vectors.rows import payload_schema
from engine.vectors.words import terms_of
from tests.engine.vectors.plain_filter import Row, matches, random_group, random_id, random_row, random_spec

SPEC = CollectionSpec(
    vectors={"v": VectorSpec(2)},
    fields={
        "city": FieldSpec("keyword"), "tags": FieldSpec("keyword", array=True), "price": FieldSpec("float"),
        "when": FieldSpec("datetime"), "body": FieldSpec("text"), "place": FieldSpec("geo"),
    },
)  # fmt: skip


def payload_of(spec: CollectionSpec, rows: Sequence[Row]) -> pa.RecordBatch:
    schema = payload_schema(spec)
    columns = [pa.array([row.get(name) for row in rows], schema.field(at).type) for at, name in enumerate(spec.fields)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def ids_of(spec: CollectionSpec, ids: Sequence[int | str]) -> npt.NDArray[np.uint64] | pa.StringArray:
    return np.array(ids, np.uint64) if spec.id == "integer" else pa.array(ids, pa.string())


def rows_of(bits: npt.NDArray[np.uint8], rows: int) -> list[int]:
    assert bits.dtype == np.uint8
    assert bits.shape == ((rows + 7) // 8,)
    assert not rows % 8 or not bits[-1] >> (rows % 8), "bits past the rows"
    return [int(each) for each in np.flatnonzero(np.unpackbits(bits, count=rows, bitorder="little"))]


def found(condition: Condition, rows: Sequence[Row], spec: CollectionSpec = SPEC) -> list[int]:
    """Rows by every way of evaluating, which agree."""
    ids = ids_of(spec, list(range(len(rows))))
    payload, filter_ = payload_of(spec, rows), Filter.of(condition, spec)
    once = evaluate(filter_, payload, ids, len(rows))
    assert np.array_equal(FieldColumns(payload, ids, len(rows)).evaluate(filter_), once)
    return rows_of(once, len(rows))


@pytest.mark.parametrize("seed", range(40))
def test_any_filter_on_any_payload_agrees_with_asking_each_point(seed: int) -> None:
    source = random.Random(seed)
    spec = random_spec(source)
    count = source.choice([0, 1, 7, 8, 9, 64, 300])
    rows = [random_row(spec, source) for _ in range(count)]
    ids = [random_id(spec, source) for _ in range(count)]
    payload, columns = payload_of(spec, rows), ids_of(spec, ids)
    kept = FieldColumns(payload, columns, count)
    for _ in range(60):
        group = random_group(spec, source)
        filter_ = Filter.of(group, spec)
        expected = [row for row in range(count) if matches(group, rows[row], ids[row])]
        assert [row for row in range(count) if matches(filter_.root, rows[row], ids[row])] == expected, (seed, group)
        assert rows_of(kept.evaluate(filter_), count) == expected, (seed, group)
        assert rows_of(kept.evaluate(filter_.read_as(replace(spec))), count) == expected, (seed, group)
        assert rows_of(evaluate(filter_, payload, columns, count), count) == expected, (seed, group)


@pytest.mark.parametrize("seed", range(5))
def test_a_slice_of_a_batch_is_asked_for_its_own_rows(seed: int) -> None:
    source = random.Random(1000 + seed)
    spec = random_spec(source)
    rows, ids = [random_row(spec, source) for _ in range(90)], [random_id(spec, source) for _ in range(90)]
    payload, columns = payload_of(spec, rows).slice(13, 50), ids_of(spec, ids)[13:63]
    kept = FieldColumns(payload, columns, 50)
    for _ in range(60):
        group = random_group(spec, source)
        expected = [row for row in range(50) if matches(group, rows[13 + row], ids[13 + row])]
        assert rows_of(kept.evaluate(Filter.of(group, spec)), 50) == expected, (seed, group)
        assert rows_of(evaluate(Filter.of(group, spec), payload, columns, 50), 50) == expected, (seed, group)


def test_an_empty_filter_is_about_every_row() -> None:
    assert found(Group(), [{}] * 11) == list(range(11))
    assert found(Group(), []) == []


def test_a_collection_without_fields_has_ids_to_ask_for() -> None:
    spec = CollectionSpec(vectors={"v": VectorSpec(2)})
    empty = pa.RecordBatch.from_struct_array(pa.array([{}] * 9, pa.struct([])))
    assert rows_of(evaluate(Filter.of(HasId((2, 8, 77)), spec), empty, np.arange(9, dtype=np.uint64), 9), 9) == [2, 8]


def test_ids_that_occur_twice_are_both_found() -> None:
    ids = np.array([5, 1 << 63, 5, 0], np.uint64)
    columns = FieldColumns(payload_of(SPEC, [{}] * 4), ids, 4)
    assert rows_of(columns.evaluate(Filter.of(HasId((5, 1 << 63)), SPEC)), 4) == [0, 1, 2]


def test_null_matches_nothing_but_is_null() -> None:
    rows: list[Row] = [{}, {"city": "a", "price": 1.0, "tags": []}, {"tags": ["x"]}]
    assert found(NoneOf("city", ("b",)), rows) == [1]
    assert found(Range("price", lt=5), rows) == [1]
    assert found(IsNull("tags"), rows) == [0]
    assert found(IsEmpty("tags"), rows) == [0, 1]
    assert found(ValuesCount("tags", lt=1), rows) == [1]
    assert found(ValuesCount("city", gte=1), rows) == [1]
    assert found(Group(must_not=(Match("city", "a"),)), rows) == [0, 2]


def test_null_lists_hide_no_values() -> None:
    hidden = pa.ListArray.from_arrays(
        pa.array([0, 1, 2], pa.int32()), pa.array(["x", "y"]), mask=pa.array([True, False])
    )
    spec = CollectionSpec(vectors={}, fields={"tags": FieldSpec("keyword", array=True)})
    payload = pa.RecordBatch.from_arrays([hidden], schema=payload_schema(spec))
    columns = FieldColumns(payload, np.arange(2, dtype=np.uint64), 2)
    assert rows_of(columns.evaluate(Filter.of(Match("tags", "x"), spec)), 2) == []
    assert rows_of(columns.evaluate(Filter.of(Match("tags", "y"), spec)), 2) == [1]


def test_a_rare_value_and_a_common_one_are_found_alike() -> None:
    rows: list[Row] = [{"city": "rare" if row == 700 else "common"} for row in range(1000)]
    assert found(Match("city", "rare"), rows) == [700]
    assert found(Match("city", "common"), rows) == [row for row in range(1000) if row != 700]
    assert found(Match("city", "none"), rows) == []


def test_codes_are_as_wide_as_the_dictionary_wants() -> None:
    for known, kind in ((100, np.int8), (1000, np.int16), (40_000, np.int32)):
        rows: list[Row] = [{"city": f"c{row}"} for row in range(known)]
        columns = FieldColumns(payload_of(SPEC, rows), np.arange(known, dtype=np.uint64), known)
        assert columns.keywords("city").codes.dtype == kind
        last = Filter.of(Match("city", f"c{known - 1}"), SPEC)
        assert rows_of(columns.evaluate(last), known) == [known - 1]


def test_a_circle_reaches_over_the_antimeridian_and_the_pole() -> None:
    rows: list[Row] = [
        {"place": (0.0, 179.9)},
        {"place": (0.0, -179.9)},
        {"place": (89.9, 0.0)},
        {"place": (89.9, 180.0)},
    ]
    assert found(GeoRadius("place", (0.0, 180.0), 12_000), rows) == [0, 1]
    assert found(GeoRadius("place", (90.0, 77.0), 12_000), rows) == [2, 3]
    assert found(GeoBox("place", 1, 179, -1, -179), rows) == [0, 1]
    assert found(GeoBox("place", 1, -179, -1, 179), rows) == []


def test_a_known_distance_is_right() -> None:
    """Berlin to Paris, 878 km."""
    rows: list[Row] = [{"place": (48.8566, 2.3522)}]
    assert found(GeoRadius("place", (52.52, 13.405), 878_500), rows) == [0]
    assert found(GeoRadius("place", (52.52, 13.405), 876_500), rows) == []


def test_words_that_are_cut_up_already_are_used() -> None:
    rows: list[Row] = [{"body": "A red house"}, {"body": "red"}, {}]
    payload, ids = payload_of(SPEC, rows), np.arange(3, dtype=np.uint64)
    filter_ = Filter.of(HasWords("body", "HOUSE red"), SPEC)
    terms = {"body": terms_of(["a red house", "house red", None])}
    assert rows_of(evaluate(filter_, payload, ids, 3), 3) == [0]
    assert rows_of(evaluate(filter_, payload, ids, 3, terms), 3) == [0, 1]
    assert rows_of(FieldColumns(payload, ids, 3, terms=terms).evaluate(filter_), 3) == [0, 1]


def test_bitsets_are_kept_and_cannot_be_written() -> None:
    columns = FieldColumns(payload_of(SPEC, [{"city": "a"}] * 100), np.arange(100, dtype=np.uint64), 100)
    one = Filter.of(Group(must=(Match("city", "a"), Range("price", lt=3))), SPEC)
    same = Filter.of(Group(must=(Range("price", lt=3), Match("city", "a"), Match("city", "a"))), SPEC)
    assert columns.evaluate(one) is columns.evaluate(same)
    with pytest.raises(ValueError, match="read-only"):
        columns.evaluate(one)[0] = 1


def test_what_is_kept_is_bounded() -> None:
    rows: list[Row] = [{"price": float(row)} for row in range(1000)]
    columns = FieldColumns(payload_of(SPEC, rows), np.arange(1000, dtype=np.uint64), 1000, cache_bytes=5000)
    for bound in range(200):
        assert len(rows_of(columns.evaluate(Filter.of(Range("price", lt=bound), SPEC)), 1000)) == bound
        assert columns.kept_bytes <= 5000
    assert columns.kept_bytes > 3000


def test_threads_that_ask_at_once_are_told_the_same() -> None:
    rows: list[Row] = [{"city": str(row % 7), "tags": [str(row % 3)], "body": f"word{row % 5}"} for row in range(2000)]
    columns = FieldColumns(payload_of(SPEC, rows), np.arange(2000, dtype=np.uint64), 2000, cache_bytes=4000)
    asked = [
        Filter.of(
            Group(must=(Match("city", str(at % 7)), Match("tags", str(at % 3)), HasWords("body", f"word{at % 5}"))),
            SPEC,
        )
        for at in range(105)
    ]
    expected = [[row for row in range(2000) if matches(each.root, rows[row], row)] for each in asked]
    wrong: list[Any] = []

    def ask(first: int) -> None:
        for at in range(first, first + 105):
            if rows_of(columns.evaluate(asked[at % 105]), 2000) != expected[at % 105]:
                wrong.append(at)

    threads = [threading.Thread(target=ask, args=(each * 20,)) for each in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
