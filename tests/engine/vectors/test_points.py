"""What may come into a collection as Arrow, every type that says the same, nothing else; what is said of the first bad point."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from engine.errors import InvalidArgument, TooLarge, VireoError
from engine.limits import FIELD_VALUES_MAX, PAYLOAD_BYTES_MAX, SPARSE_VALUES_MAX, VECTORS_OF_POINT_MAX
from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, VectorSpec
from engine.vectors.points import checked_points
from engine.vectors.rows import points_schema
from kernels.directions import normalise, squared_lengths
from kernels.reference_vectors import normalised

SPEC = CollectionSpec(
    vectors={
        "text": VectorSpec(3),
        "far": VectorSpec(2, metric="l2", stored="float16"),
        "words": VectorSpec(2, metric="dot", multi=True),
    },
    sparse={"splade": SparseSpec()},
    fields={
        "colour": FieldSpec("keyword"),
        "title": FieldSpec("text"),
        "size": FieldSpec("integer"),
        "price": FieldSpec("float"),
        "sold": FieldSpec("bool"),
        "at": FieldSpec("datetime"),
        "place": FieldSpec("geo"),
        "tags": FieldSpec("keyword", array=True),
        "sizes": FieldSpec("integer", array=True),
        "places": FieldSpec("geo", array=True),
    },
)
PLAIN = CollectionSpec({"text": VectorSpec(3, metric="dot")})
NAMED = CollectionSpec({"text": VectorSpec(2, metric="dot")}, id="text")
OWNED = CollectionSpec({"text": VectorSpec(2)}, fields={"owner": FieldSpec("keyword")}, tenant="owner")


def batch_of(count: int, **columns: object) -> pa.RecordBatch:
    """Points 10, 11, ... of what SPEC needs, with `columns` besides or instead; `_` in a name is "."."""
    made: dict[str, Any] = {
        "id": pa.array(range(10, 10 + count), pa.uint64()),
        "vector.text": pa.array([[3.0, 0.0, 4.0]] * count, pa.list_(pa.float32(), 3)),
        "vector.far": pa.array([[1.0, 2.0]] * count, pa.list_(pa.float32(), 2)),
    }
    return pa.RecordBatch.from_pydict(made | {name.replace("_", "."): each for name, each in columns.items()})


def checked(count: int = 2, **columns: object) -> list[dict[str, Any]]:
    """What SPEC makes of `batch_of`."""
    found = checked_points(SPEC, batch_of(count, **columns))
    found.validate(full=True)
    assert found.schema == points_schema(SPEC)
    points: list[dict[str, Any]] = found.to_pylist()
    return points


def refused(message: str, count: int = 2, kind: type[VireoError] = InvalidArgument, **columns: object) -> None:
    """`batch_of` is refused with exactly this message."""
    with pytest.raises(kind) as caught:
        checked_points(SPEC, batch_of(count, **columns))
    assert caught.value.message == message
    assert type(caught.value) is kind


def test_columns_that_may_be_null_may_be_missing() -> None:
    (point,) = checked(1)
    assert point.pop("id") == 10
    assert point.pop("vector.text") == pytest.approx([0.6, 0, 0.8])
    assert point.pop("vector.far") == [1, 2]
    assert point.pop("vector.words") == []
    assert set(point.values()) == {None}


def test_no_points_are_no_points() -> None:
    assert checked(0) == []
    assert checked_points(SPEC, batch_of(3).slice(3)).num_rows == 0


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.float16()), pa.list_(pa.float32(), 3),
        pa.list_(pa.float64(), 3), pa.list_(pa.float16(), 3), pa.large_list(pa.float32()), pa.large_list(pa.float64()),
        pa.list_view(pa.float32()), pa.large_list_view(pa.float64()), pa.list_(pa.int8()), pa.list_(pa.int64(), 3),
    ],
    ids=str,
)  # fmt: skip
def test_a_vector_may_be_any_list_of_numbers(kind: pa.DataType) -> None:
    column = pa.array([[9, 9, 9], [3, 0, 4], [0, 2, 0], [7, 7, 7]], kind).slice(1, 2)
    first, second = checked(vector_text=column)
    assert first["vector.text"] == pytest.approx([0.6, 0, 0.8])
    assert second["vector.text"] == [0, 1, 0]


def test_the_only_vector_may_be_called_so() -> None:
    batch = pa.RecordBatch.from_pydict({"id": [1], "vector": [[1.0, 2.0, 3.0]]})
    assert checked_points(PLAIN, batch).to_pylist() == [{"id": 1, "vector.text": [1, 2, 3]}]
    with pytest.raises(InvalidArgument, match="unknown column 'vector'"):
        checked_points(SPEC, batch)
    with pytest.raises(InvalidArgument, match=r"column 'vector\.text' is there twice"):
        checked_points(PLAIN, batch.append_column("vector.text", batch.column(1)))


def test_vectors_without_a_direction_metric_stay_bit_by_bit() -> None:
    rows = np.random.default_rng(7).standard_normal((50, 3)).astype(np.float32) * 1e30
    batch = pa.RecordBatch.from_pydict({"id": range(50), "vector": pa.array(list(rows), pa.list_(pa.float32(), 3))})
    found = checked_points(PLAIN, batch).column(1).flatten().to_numpy().reshape(50, 3)
    assert np.array_equal(found, rows)


def test_checking_twice_changes_nothing() -> None:
    rows = np.random.default_rng(8).standard_normal((200, 3)).astype(np.float32)
    once = checked_points(SPEC, batch_of(200, vector_text=pa.array(list(rows), pa.list_(pa.float32()))))
    assert checked_points(SPEC, once).equals(once)
    part = once.slice(50, 70)
    assert checked_points(SPEC, part).equals(part)


@pytest.mark.parametrize("scale", [1e-37, 1e-18, 1.0, 1e18, 1e37])
def test_lengths_are_summed_with_range_to_spare(scale: float) -> None:
    rows = np.random.default_rng(9).uniform(1, 2, (20, 100)).astype(np.float32) * np.float32(scale)
    out, squares = np.empty_like(rows), np.empty(20)
    normalise(rows, out, squares)
    wanted, wanted_squares = normalised(rows)
    np.testing.assert_allclose(squares, wanted_squares, rtol=1e-12)
    np.testing.assert_allclose(out, wanted, rtol=2e-7)
    np.testing.assert_allclose(np.linalg.norm(out.astype(np.float64), axis=1), 1, rtol=1e-7)
    again = np.empty_like(rows)
    normalise(out, again, squares)
    assert np.array_equal(out, again)


def test_squared_lengths_tell_what_is_not_finite() -> None:
    rows = np.ones((4, 5), np.float32)
    rows[1, 4], rows[2, 0], rows[3, 2] = np.nan, -np.inf, 3e38
    squares = np.empty(4)
    squared_lengths(rows, squares)
    assert np.isfinite(squares).tolist() == [True, False, False, True]


def test_vectors_that_are_none_are_named_by_position_and_id() -> None:
    far = [[1.0, 2.0], None, [1.0]]
    refused("points[1] (id 11): vector 'far': expected a vector, got null", 3, vector_far=pa.array(far))
    refused(
        "points[2] (id 12): vector 'far': expected 2 dimensions, got 1", 3, vector_far=pa.array([[1.0, 2], [1, 2], [1]])
    )
    refused("points[0] (id 10): vector 'far': expected 2 dimensions, got 3", vector_far=pa.array([[1.0] * 3] * 2))
    refused(
        "points[1] (id 11): vector 'far': expected finite numbers of 32 bits, got nan at dimension 1",
        vector_far=pa.array([[1.0, 2.0], [1.0, float("nan")]]),
    )
    refused(
        "points[1] (id 11): vector 'far': expected finite numbers of 32 bits, got inf at dimension 0",
        vector_far=pa.array([[1.0, 2.0], [1e39, 1.0]], pa.list_(pa.float64())),
    )
    refused(
        "points[0] (id 10): vector 'far': expected numbers, got a null among them",
        vector_far=pa.array([[None, 1.0]] * 2),
    )
    refused("points: vector 'far': expected numbers, got string", vector_far=pa.array([["1", "2"]] * 2))
    refused("points: vector 'far': expected a list of 2 numbers, got double", vector_far=pa.array([1.0, 2.0]))
    with pytest.raises(InvalidArgument, match=r"^points: vector 'text' is missing$"):
        checked_points(PLAIN, pa.RecordBatch.from_pydict({"id": [1]}))


@pytest.mark.parametrize("short", [[0.0, 0.0, 0.0], [-0.0, 0.0, 0.0], [1e-38, 0.0, 0.0], [1e-45, 1e-45, 0.0]])
def test_cosine_wants_a_direction(short: list[float]) -> None:
    text = pa.array([[1.0, 0, 0], short], pa.list_(pa.float32()))
    refused("points[1] (id 11): vector 'text': its length is 0, and cosine needs a direction", vector_text=text)


def test_the_earliest_bad_point_is_told_whichever_column_it_is_in() -> None:
    refused(
        "points[0] (id 10): field 'size': expected an integer of 64 bits, signed, got 9223372036854775808",
        vector_far=pa.array([[1.0, 2.0], None]),
        field_size=pa.array([1 << 63, 5], pa.uint64()),
    )


def test_multi_vectors_have_any_number_of_vectors() -> None:
    words = [[[3, 4], [1, 0]], [], None, [[5, 6]]]
    for outer in (pa.list_, pa.large_list):
        for inner in (pa.list_(pa.float32(), 2), pa.list_(pa.float64()), pa.large_list(pa.int32())):
            found = checked(4, vector_words=pa.array(words, outer(inner)))
            assert [each["vector.words"] for each in found] == [[[3, 4], [1, 0]], [], [], [[5, 6]]]
    unit = CollectionSpec({"text": VectorSpec(2), "words": VectorSpec(2, multi=True)})
    batch = pa.RecordBatch.from_pydict({"id": [1], "vector.text": [[1.0, 0.0]], "vector.words": [[[3.0, 4.0]]]})
    assert checked_points(unit, batch).column(2).to_pylist() == [[pytest.approx([0.6, 0.8])]]


def test_bad_vectors_of_multi_vectors_are_named() -> None:
    where = "points[1] (id 11): vector 'words': "
    refused(f"{where}[1]: expected 2 dimensions, got 1", vector_words=pa.array([[[1.0, 2]], [[1.0, 2], [1]]]))
    refused(
        f"{where}[0]: expected finite numbers of 32 bits, got nan at dimension 0",
        vector_words=pa.array([[[1.0, 2]], [[float("nan"), 2]]]),
    )
    refused(f"{where}expected vectors, got a null among them", vector_words=pa.array([[[1.0, 2]], [[1.0, 2], None]]))
    refused(f"{where}[0]: expected numbers, got a null among them", vector_words=pa.array([[[1.0, 2]], [[1.0, None]]]))
    many = pa.array([[], [[1.0, 2.0]] * (VECTORS_OF_POINT_MAX + 1)], pa.list_(pa.list_(pa.float32(), 2)))
    refused(f"{where}4097 vectors, at most 4096 are allowed", kind=TooLarge, vector_words=many)


def sparse(indices: object, values: object, kind: pa.DataType | None = None) -> dict[str, pa.Array]:
    """The two columns of SPEC's."""
    return {
        "sparse_splade_indices": pa.array(indices, kind or pa.list_(pa.uint32())),
        "sparse_splade_values": pa.array(values, pa.list_(pa.float64())),
    }


def test_sparse_vectors_ascend_within_each_point() -> None:
    indices, values = [[7, 9], None, [], [0, (1 << 32) - 1], [3]], [[1, 2], None, [], [0.5, -1], [4]]
    for kind in (pa.list_(pa.uint32()), pa.large_list(pa.int64()), pa.list_(pa.uint64())):
        found = checked(5, **sparse(indices, values, kind))
        assert [each["sparse.splade.indices"] for each in found] == indices
        assert [each["sparse.splade.values"] for each in found] == values


def test_bad_sparse_vectors_are_named() -> None:
    where = "points[1] (id 11): sparse vector 'splade': "
    order = "indices: expected to ascend strictly, got"
    refused(f"{where}{order} 1 after 5", **sparse([[1], [2, 5, 1]], [[1], [1, 2, 3]]))
    refused(f"{where}{order} 2 after 2", **sparse([[1], [2, 2]], [[1], [1, 2]]))
    refused(f"{where}2 indices for 1 values", **sparse([[1], [2, 3]], [[1], [1]]))
    refused(f"{where}expected indices and values, got one of them without the other", **sparse([[1], []], [[1], None]))
    refused(f"{where}values: expected finite numbers of 32 bits, got nan", **sparse([[1], [2]], [[1], [float("nan")]]))
    refused(f"{where}values: expected finite numbers of 32 bits, got 1e+40", **sparse([[1], [2]], [[1], [1e40]]))
    refused(f"{where}values: expected numbers, got a null among them", **sparse([[1], [2]], [[1], [None]]))
    refused(f"{where}indices: expected whole numbers, got a null among them", **sparse([[1], [None]], [[1], [1]]))
    wide = pa.list_(pa.int64())
    refused(f"{where}indices: expected an index of 32 bits, unsigned, got -1", **sparse([[1], [-1]], [[1], [1]], wide))
    refused(
        f"{where}indices: expected an index of 32 bits, unsigned, got 4294967296",
        **sparse([[1], [1 << 32]], [[1], [1]], wide),
    )
    many = SPARSE_VALUES_MAX + 1
    refused(
        f"{where}65537 values, at most 65536 are allowed",
        kind=TooLarge,
        **sparse([[], [*range(many)]], [[], [1.0] * many]),
    )
    lone = {"sparse_splade_indices": pa.array([[1], [2]], pa.list_(pa.uint32()))}
    refused("points: sparse vector 'splade': column 'sparse.splade.values' is missing", **lone)
    floats = sparse([[1.0], [2.0]], [[1], [1]], pa.list_(pa.float32()))
    refused("points: sparse vector 'splade': indices: expected whole numbers, got float", **floats)


@pytest.mark.parametrize(
    "make",
    [
        lambda values: pa.array(values, pa.string()),
        lambda values: pa.array(values, pa.large_string()),
        lambda values: pa.array(values, pa.string_view()),
        lambda values: pa.array(values, pa.string()).dictionary_encode(),
        lambda values: (
            pa.array(values, pa.large_string()).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
        ),
        lambda values: pa.DictionaryArray.from_arrays(
            [3, None, 1, 2], pa.array(["", "é" * 20, None, "red"], pa.string_view())
        ),
    ],
)
def test_texts_may_be_strings_of_any_sort(make: Callable[[list[str | None]], pa.Array]) -> None:
    values = ["red", None, "é" * 20, None]
    column = make(values)
    assert [each["field.colour"] for each in checked(4, field_colour=column, field_title=column)] == values
    assert [each["field.title"] for each in checked(2, field_title=column.slice(2))] == values[2:]


def test_numbers_may_have_any_width_that_their_values_fit() -> None:
    for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.int64()):
        assert [each["field.size"] for each in checked(field_size=pa.array([5, None], kind))] == [5, None]
    for kind in (pa.float16(), pa.float32(), pa.float64(), pa.int16(), pa.uint64()):
        assert [each["field.price"] for each in checked(field_price=pa.array([5, None], kind))] == [5.0, None]
    assert [each["field.sold"] for each in checked(field_sold=pa.array([True, None]))] == [True, None]
    for ids in (pa.array([3, 4], pa.int8()), pa.array([3, 4], pa.uint32())):
        assert [each["id"] for each in checked(id=ids)] == [3, 4]


def test_instants_may_have_any_unit_and_zone_that_loses_nothing() -> None:
    for kind in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "+02:00", "Nowhere/Such"):
            column = pa.array([1_700_000_000, None], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp(kind))
            given = column.view(pa.timestamp(kind, zone))
            found = checked_points(SPEC, batch_of(2, field_at=given)).column("field.at").cast(pa.int64()).to_pylist()
            assert found == [1_700_000_000_000_000, None]
    refused(
        "points[1] (id 11): field 'at': expected an instant in microseconds, got 1001 ns",
        field_at=pa.array([1000, 1001], pa.timestamp("ns")),
    )
    refused(
        "points[0] (id 10): field 'at': expected an instant in microseconds, got 9223372036854775807 s",
        field_at=pa.array([(1 << 63) - 1, 1], pa.timestamp("s")),
    )
    refused("points: field 'at': expected datetime values, got int64", field_at=pa.array([1, 2]))


def test_places_are_pairs_or_structs() -> None:
    pairs = [[52.5, 13.4], None, [-90, 180]]
    for kind in (pa.list_(pa.float64(), 2), pa.list_(pa.float64()), pa.large_list(pa.float64())):
        assert [each["field.place"] for each in checked(3, field_place=pa.array(pairs, kind))] == pairs
    structs = pa.array([None if each is None else {"lon": each[1], "lat": each[0]} for each in pairs])
    assert [each["field.place"] for each in checked(3, field_place=structs)] == pairs
    assert [each["field.place"] for each in checked(2, field_place=structs.slice(1))] == pairs[1:]
    assert checked(1, field_places=pa.array([[[1.0, 2.0], [3.0, 4.0]]]))[0]["field.places"] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pa.array([[0.0, 0.0], [91.0, 0.0]]), "within 180 degrees, got 91.0 and 0.0"),
        (pa.array([[0.0, 0.0], [0.0, -180.5]]), "within 180 degrees, got 0.0 and -180.5"),
        (pa.array([[0.0, 0.0], [float("nan"), 0.0]]), "within 180 degrees, got nan and 0.0"),
        (pa.array([[0.0, 0.0], [1.0]]), "expected latitude and longitude, got 1 numbers"),
        (pa.array([[0.0, 0.0], [1.0, None]]), "expected latitude and longitude, got null"),
        (pa.array([{"lat": 1.0, "lon": 1.0}, {"lat": 1.0, "lon": None}]), "expected latitude and longitude, got null"),
    ],
)
def test_what_is_no_place_is_named(column: pa.Array, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_points(SPEC, batch_of(2, field_place=column))
    assert caught.value.message.startswith("points[1] (id 11): field 'place': ")
    assert caught.value.message.endswith(problem)


def test_arrays_have_any_number_of_values() -> None:
    tags = [["a", "b"], None, [], ["é"]]
    for kind in (
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
    ):
        assert [each["field.tags"] for each in checked(4, field_tags=pa.array(tags, kind))] == tags
    assert [each["field.sizes"] for each in checked(field_sizes=pa.array([[1], [2, 3]], pa.list_(pa.uint8())))] == [
        [1],
        [2, 3],
    ]
    assert [each["field.tags"] for each in checked(field_tags=pa.array([[], []]))] == [[], []]
    assert [each["field.tags"] for each in checked(field_tags=pa.nulls(2))] == [None, None]
    where = "points[1] (id 11): field "
    refused(f"{where}'tags': [1]: expected a value, got null", field_tags=pa.array([["a"], ["b", None]]))
    refused(
        f"{where}'sizes': [1]: expected an integer of 64 bits, signed, got 9223372036854775808",
        field_sizes=pa.array([[1], [2, 1 << 63]], pa.list_(pa.uint64())),
    )
    refused("points: field 'tags': expected lists of keyword values, got string", field_tags=pa.array(["a", "b"]))
    many = pa.array([[], [1] * (FIELD_VALUES_MAX + 1)], pa.list_(pa.int8()))
    refused(f"{where}'sizes': 65537 values, at most 65536 are allowed", kind=TooLarge, field_sizes=many)


@pytest.mark.parametrize(
    ("field", "column", "problem"),
    [
        ("colour", pa.array([1, 2]), "expected keyword values, got int64"),
        ("colour", pa.array([b"a", b"b"]), "expected keyword values, got binary"),
        ("size", pa.array([1.0, 2.0]), "expected integer values, got double"),
        ("size", pa.array([True, False]), "expected integer values, got bool"),
        ("price", pa.array([True, False]), "expected float values, got bool"),
        ("price", pa.array(["1", "2"]), "expected float values, got string"),
        ("sold", pa.array([0, 1]), "expected bool values, got int64"),
        ("place", pa.array([1.0, 2.0]), "expected geo values, got double"),
        (
            "place",
            pa.array([{"lat": 1.0, "lng": 2.0}] * 2),
            "expected geo values, got struct<lat: double, lng: double>",
        ),
    ],
)
def test_a_column_of_something_else_is_refused(field: str, column: pa.Array, problem: str) -> None:
    refused(f"points: field '{field}': {problem}", **{f"field_{field}": column})


def test_floats_are_finite_and_integers_exact() -> None:
    refused(
        "points[1] (id 11): field 'price': expected a finite number, got inf", field_price=pa.array([1.0, float("inf")])
    )
    exact = "points[1] (id 11): field 'price': expected a number that 64 bits can hold, got 9007199254740993"
    refused(exact, field_price=pa.array([1, (1 << 53) + 1]))


def test_ids_are_there_valid_and_different() -> None:
    refused("points[1]: expected an id, got null", id=pa.array([1, None]))
    refused("points[1]: id: expected 64 bits, unsigned, got -2", id=pa.array([1, -2]))
    refused("points: ids: expected unsigned integers of 64 bits, got string", id=pa.array(["a", "b"]))
    refused("points: ids: expected unsigned integers of 64 bits, got double", id=pa.array([1.0, 2.0]))
    refused("points[3] (id 5): points[1] has the same id", 4, id=pa.array([9, 5, 7, 5]))
    with pytest.raises(InvalidArgument, match="column 'id' is missing"):
        checked_points(PLAIN, pa.RecordBatch.from_pydict({"vector": [[1.0, 2.0, 3.0]]}))


def test_text_ids_have_1_to_255_bytes() -> None:
    def ids(*values: str | None, kind: pa.DataType | None = None) -> list[str]:
        columns = {"id": pa.array(values, kind or pa.string()), "vector": [[1.0, 2.0]] * len(values)}
        found: list[str] = checked_points(NAMED, pa.RecordBatch.from_pydict(columns)).column(0).to_pylist()
        return found

    assert ids("a", "é" * 127, "x" * 255) == ["a", "é" * 127, "x" * 255]
    assert ids("a", "b", kind=pa.dictionary(pa.int32(), pa.string())) == ["a", "b"]
    for bad, problem in (
        (("a", ""), r"points\[1\]: id: expected 1 to 255 bytes, got 0"),
        (("a", "é" * 128), r"points\[1\]: id: expected 1 to 255 bytes, got 256"),
        (("a", None), r"points\[1\]: expected an id, got null"),
        (("a", "b", "a"), r"points\[2\] \(id 'a'\): points\[0\] has the same id"),
    ):
        with pytest.raises(InvalidArgument, match=problem):
            ids(*bad)


def test_columns_that_there_are_not_are_named_with_the_nearest() -> None:
    refused("points: unknown column 'field.color'; nearest: 'field.colour'", field_color=pa.array(["a", "b"]))
    with pytest.raises(InvalidArgument, match=r"column 'id' is there twice"):
        checked_points(PLAIN, pa.RecordBatch.from_arrays([pa.array([1])] * 2, ["id", "id"]))


def test_a_payload_has_a_largest_size() -> None:
    half = "x" * (PAYLOAD_BYTES_MAX // 2)
    fits = checked(field_title=pa.array([half, half]), field_colour=pa.array([None, half]))
    assert len(fits) == 2
    refused(
        f"points[1] (id 11): payload: {PAYLOAD_BYTES_MAX + 2} bytes, at most {PAYLOAD_BYTES_MAX} are allowed",
        kind=TooLarge,
        field_title=pa.array([half, half]),
        field_tags=pa.array([["a"], [half, "ab"]]),
    )


def test_a_few_bytes_that_stand_for_many_are_refused_before_they_are_made() -> None:
    bomb = pa.DictionaryArray.from_arrays(np.zeros(3000, np.int8), pa.array(["x" * 100_000]))
    with pytest.raises(TooLarge, match="300000000 bytes of text in one column"):
        checked_points(SPEC, batch_of(3000, field_title=bomb))
    one = pa.array(["y" * 100_000], pa.string_view()).buffers()
    many = [None, pa.py_buffer(one[1].to_pybytes()[:16] * 3000), one[2]]
    views = pa.Array.from_buffers(pa.string_view(), 3000, many)
    with pytest.raises(TooLarge, match="300000000 bytes of text in one column"):
        checked_points(SPEC, batch_of(3000, field_title=views))
    offsets, sizes = np.zeros(30_000, np.int32), np.full(30_000, 3000, np.int32)
    lists = pa.ListViewArray.from_arrays(pa.array(offsets), pa.array(sizes), pa.array(np.zeros(3000, np.int8)))
    with pytest.raises(TooLarge, match="90000000 values in one column"):
        checked_points(SPEC, batch_of(30_000, field_sizes=lists))


def test_nothing_is_left_under_nulls() -> None:
    valid = pa.py_buffer(bytes([0b101]))
    numbers = pa.Array.from_buffers(pa.int64(), 3, [valid, pa.py_buffer(np.array([1, 2, 3]))])
    offsets = pa.py_buffer(np.array([0, 1, 3, 4], np.int32))
    words = pa.Array.from_buffers(pa.string(), 3, [valid, offsets, pa.py_buffer(b"abcd")])
    lists = pa.Array.from_buffers(pa.list_(pa.int64()), 3, [valid, offsets], children=[pa.array([1, 2, 3, 4])])
    found = checked_points(SPEC, batch_of(3, field_size=numbers, field_title=words, field_sizes=lists))
    assert np.frombuffer(found.column("field.size").buffers()[1], np.int64)[:3].tolist() == [1, 0, 3]
    assert found.column("field.title").buffers()[2].to_pybytes() == b"ad"
    assert found.column("field.sizes").values.to_pylist() == [1, 4]
    assert found.column("field.sizes").to_pylist() == [[1], None, [4]]


def test_what_is_under_nulls_is_followed_nowhere() -> None:
    valid = pa.py_buffer(bytes([0b101]))
    views = np.array([[1, 97, 0, 0], [-(1 << 31), 1, 7, 9], [1, 98, 0, 0]], np.int32)
    words = pa.Array.from_buffers(pa.string_view(), 3, [valid, pa.py_buffer(views)])
    assert [each["field.title"] for each in checked(3, field_title=words)] == ["a", None, "b"]
    named = pa.DictionaryArray.from_arrays([2, 1, None], words)
    assert [each["field.title"] for each in checked(3, field_title=named)] == ["b", None, None]
    large = pa.Array.from_buffers(pa.uint64(), 3, [valid, pa.py_buffer(np.array([1, 1 << 63, 3], np.uint64))])
    late = pa.Array.from_buffers(pa.timestamp("s"), 3, [valid, pa.py_buffer(np.array([1, (1 << 63) - 1, 3]))])
    nan = pa.Array.from_buffers(pa.float64(), 3, [valid, pa.py_buffer(np.array([1, np.nan, 3]))])
    wild = pa.Array.from_buffers(pa.int32(), 3, [valid, pa.py_buffer(np.array([0, 1 << 30, 1], np.int32))])
    colours = pa.DictionaryArray.from_arrays(wild, pa.array(["a", "b"]), safe=False)
    found = checked(3, field_size=large, field_price=nan, field_at=late, field_colour=colours)
    assert [each["field.size"] for each in found] == [1, None, 3]
    assert [each["field.price"] for each in found] == [1, None, 3]
    assert [each["field.at"] is None for each in found] == [False, True, False]
    assert [each["field.colour"] for each in found] == ["a", None, "b"]


def damaged(text: bytes, offsets: list[int], kind: pa.DataType | None = None) -> pa.Array:
    """Strings of these bytes, which may be none."""
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(text)]
    return pa.Array.from_buffers(kind or pa.string(), len(offsets) - 1, buffers)


def test_text_that_is_no_unicode_is_named_by_its_position() -> None:
    bad = damaged(b"ok\xff\xfeok", [0, 2, 4, 6])
    problem = "expected text of valid Unicode (UTF-8)"
    refused(f"points[1]: column 'field.title': {problem}", 3, field_title=bad)
    refused(f"points[0]: column 'field.title': {problem}", 2, field_title=bad.slice(1))
    lists = pa.Array.from_buffers(
        pa.list_(pa.string()), 2, [None, pa.py_buffer(np.array([0, 1, 3], np.int32))], children=[bad]
    )
    refused(f"points[1]: column 'field.tags': {problem}", 2, field_tags=lists)


def test_offsets_that_lead_elsewhere_are_refused() -> None:
    for offsets in ([0, 1000, 2], [0, -1, 2], [0, 3, 2]):
        with pytest.raises(InvalidArgument, match=r"^points: column 'field\.title': is damaged"):
            checked_points(SPEC, batch_of(2, field_title=damaged(b"abc", offsets)))


def test_a_tenant_fills_its_field_and_no_point_is_anothers() -> None:
    columns: dict[str, Any] = {"id": [1, 2], "vector": [[3.0, 4.0]] * 2}
    batch = pa.RecordBatch.from_pydict(columns)
    found = checked_points(OWNED, batch, tenant="me")
    assert found.column(2).to_pylist() == ["me", "me"]
    assert found.schema == points_schema(OWNED)
    said = pa.RecordBatch.from_pydict(columns | {"field.owner": pa.array([None, "me"]).dictionary_encode()})
    assert checked_points(OWNED, said, tenant="me").equals(found)
    with pytest.raises(InvalidArgument) as caught:
        checked_points(OWNED, said, tenant="you")
    assert caught.value.message == "points[1] (id 2): field 'owner': belongs to tenant 'me', not to 'you'"
    for tenant in (None, "", "x" * 256, "\udcff", 7):
        with pytest.raises(InvalidArgument, match=r"^tenant: "):
            checked_points(OWNED, batch, tenant=tenant)  # type: ignore[arg-type]  # what clients may send
    with pytest.raises(InvalidArgument, match=r"^tenant: the collection has no tenants, got 'me'$"):
        checked_points(PLAIN, batch, tenant="me")


Floats = npt.NDArray[np.float64]
_SCALARS: list[Callable[[random.Random], Any]] = [
    lambda dice: None,
    lambda dice: dice.choice([0, 1, -1, 255, 1 << 31, 1 << 53, (1 << 63) - 1]),
    lambda dice: dice.choice([0.0, 1.5, -2.25, 1e300, float("nan"), float("inf")]),
    lambda dice: dice.choice(["", "a", "é", "x" * 300]),
    lambda dice: dice.random() < 0.5,
    lambda dice: dice.choice([b"", b"\xff\x00"]),
]
_NUMBERS = [pa.int8(), pa.uint8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_()]
_TYPES = [
    *_NUMBERS, pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.null(), pa.date32(), pa.duration("s"),
    pa.timestamp("s"), pa.timestamp("ns", "UTC"), pa.decimal128(9, 2), pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int16(), pa.int64()), pa.struct({"lat": pa.float64(), "lon": pa.float32()}),
    pa.map_(pa.string(), pa.int8()), pa.run_end_encoded(pa.int32(), pa.string()),
]  # fmt: skip


def any_type(dice: random.Random, depth: int = 0) -> pa.DataType:
    """A type, of lists at times."""
    if depth < 3 and dice.random() < 0.5:
        inner = any_type(dice, depth + 1) if dice.random() < 0.4 else dice.choice(_NUMBERS)
        size = dice.choice([0, 1, 2, 3])
        return dice.choice(
            [
                pa.list_(inner),
                pa.large_list(inner),
                pa.list_(inner, size),
                pa.list_view(inner),
                pa.large_list_view(inner),
            ]
        )
    return dice.choice(_TYPES[:-1] if depth else _TYPES)  # Arrow builds no nulls of the last within lists


def any_values(dice: random.Random, kind: pa.DataType, count: int) -> pa.Array:
    """A column of a type; of nulls alone where Arrow's builders do not know how."""
    make = dice.choice(_SCALARS)

    def value(kind: pa.DataType) -> object:
        if dice.random() < 0.05:
            return None
        if hasattr(kind, "value_field") and not pa.types.is_map(kind):
            size = kind.list_size if pa.types.is_fixed_size_list(kind) else dice.choice([0, 1, 2, 2, 3, 3])
            return [value(kind.value_type) for _ in range(size)]
        return (1 if dice.random() < 0.7 else 0) if kind in _NUMBERS and dice.random() < 0.8 else make(dice)

    try:
        column = pa.array([value(kind) for _ in range(count + 2)], kind)
        column.validate()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        column = pa.nulls(count + 2, kind)
    return column.slice(dice.choice([0, 1, 2]), count)


def any_damage(dice: random.Random, count: int) -> pa.Array:
    """A column whose offsets, sizes, indices or bytes may lead anywhere; of nulls where Arrow sees that at once."""
    noise = np.array([dice.choice([0, 1, 2, 3, 1, 2, -1, 9, 1 << 30]) for _ in range(count + 1)], np.int32)
    noise[0], noise[-1] = dice.choice([0, 0, 9]), dice.choice([0, 1, 4])
    offsets = pa.py_buffer(np.sort(noise) if dice.random() < 0.5 else noise)
    text = pa.py_buffer(bytes(dice.choice(b"ab\xff") for _ in range(8)))
    child = pa.array([1.0, 2.0, 3.0, 4.0], pa.float32())
    valid = pa.py_buffer(bytes([dice.randrange(256)]))
    strings = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(np.array([0, 4, 8], np.int32)), text])
    make: list[Callable[[], pa.Array]] = [
        lambda: pa.Array.from_buffers(pa.string(), count, [None, offsets, text]),
        lambda: pa.Array.from_buffers(pa.list_(pa.float32()), count, [None, offsets], children=[child]),
        lambda: pa.Array.from_buffers(pa.list_(pa.float32()), count, [valid, offsets], children=[child]),
        lambda: pa.Array.from_buffers(pa.large_string(), count, [valid, pa.py_buffer(noise.astype(np.int64)), text]),
        lambda: pa.Array.from_buffers(pa.list_view(pa.string()), count, [valid, offsets, offsets], children=[strings]),
        lambda: pa.Array.from_buffers(pa.list_(pa.string()), count, [None, offsets], children=[strings]),
        lambda: pa.Array.from_buffers(pa.list_view(pa.float32()), count, [None, offsets, offsets], children=[child]),
        lambda: pa.Array.from_buffers(pa.list_(pa.float32(), 3), count, [None], children=[child]),
        lambda: pa.DictionaryArray.from_arrays(pa.array(noise[:count]), pa.array(["a", "b"]), safe=False),
        lambda: pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(noise.tobytes() * 4), text]),
    ]
    try:
        return dice.choice(make)()
    except pa.ArrowException:
        return pa.nulls(count)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_is_taken_as_it_is_declared_or_refused_with_an_error(seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    names = [*points_schema(SPEC).names]
    taken = 0
    for _ in range(150):
        count = dice.choice([0, 1, 2, 5])
        base = batch_of(count)
        columns = dict(zip(base.schema.names, base.columns, strict=True))
        for name in dice.sample(names, dice.choice([1, 1, 2])):
            kind = points_schema(SPEC).field(name).type if dice.random() < 0.6 else any_type(dice)
            column = any_damage(dice, count) if dice.random() < 0.2 else any_values(dice, kind, count)
            if len(column) == count:
                columns[name] = column
        try:
            found = checked_points(SPEC, pa.RecordBatch.from_arrays([*columns.values()], [*columns]))
        except VireoError as error:
            assert error.message.startswith("points")  # noqa: PT017
            continue
        taken += 1
        found.validate(full=True)
        assert found.schema == points_schema(SPEC)
        assert found.num_rows == count
        text = found.column("vector.text").flatten().to_numpy().reshape(-1, 3)
        np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, rtol=1e-6)
        assert checked_points(SPEC, found).equals(found)
    assert taken > 20
