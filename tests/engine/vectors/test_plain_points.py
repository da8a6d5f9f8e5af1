"""Points as JSON has them: what is taken, how it is kept, and by which path a mistake is named."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import InvalidArgument, TooLarge, VireoError
from engine.limits import FIELD_VALUES_MAX, PAYLOAD_BYTES_MAX, SPARSE_VALUES_MAX, VECTORS_OF_POINT_MAX
from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, VectorSpec
from engine.vectors.points import checked_points, payload_patch, points_of
from engine.vectors.rows import field_type, points_schema
from tests.engine.vectors.test_points import NAMED, OWNED, PLAIN, SPEC

VECTORS = {"text": [3, 0, 4.0], "far": [1, 2]}


def taken(*points: dict[str, Any], spec: CollectionSpec = SPEC) -> list[dict[str, Any]]:
    """What becomes of points, checked as a collection does."""
    found = points_of(spec, points)
    assert found.schema == points_schema(spec)
    rows: list[dict[str, Any]] = checked_points(spec, found).to_pylist()
    return rows


def refused(message: str, point: object, spec: CollectionSpec = SPEC, kind: type[VireoError] = InvalidArgument) -> None:
    """The second of two points is refused with this message after "points[1]"."""
    fine = {
        "id": 1 if spec.id == "integer" else "a",
        "vector": VECTORS if spec is SPEC else [1.0] * spec.vectors["text"].size,
    }
    with pytest.raises(kind) as caught:
        points_of(spec, [fine, point])  # type: ignore[list-item]  # what clients may send
    assert caught.value.message == f"points[1]{message}"


def test_a_point_is_what_users_of_qdrant_know() -> None:
    payload = {
        "colour": "red", "title": "A title", "size": 7, "price": 3, "sold": True, "at": "2026-01-31T00:00:00+01:00",
        "place": {"lat": 52.5, "lon": 13.4}, "tags": ["a", "b"], "sizes": [1], "places": [[1, 2], {"lat": 3, "lon": 4}],
    }  # fmt: skip
    vector = VECTORS | {"words": [[1, 0], [0.5, 2]], "splade": {"indices": [3, 9], "values": [0.5, 1]}}
    (point,) = taken({"id": 42, "vector": vector, "payload": payload})
    assert point == {
        "id": 42, "vector.text": [pytest.approx(0.6), 0, pytest.approx(0.8)], "vector.far": [1, 2],
        "vector.words": [[1, 0], [0.5, 2]], "sparse.splade.indices": [3, 9], "sparse.splade.values": [0.5, 1],
        "field.colour": "red", "field.title": "A title", "field.size": 7, "field.price": 3.0, "field.sold": True,
        "field.at": datetime(2026, 1, 30, 23, tzinfo=UTC), "field.place": [52.5, 13.4], "field.tags": ["a", "b"],
        "field.sizes": [1], "field.places": [[1, 2], [3, 4]],
    }  # fmt: skip


def test_what_may_be_left_out_is_null() -> None:
    first, second = taken(
        {"id": 1, "vector": VECTORS},
        {"id": 2, "vector": VECTORS | {"words": None, "splade": None}, "payload": {"colour": None, "tags": None}},
    )
    assert [name for name, value in first.items() if value is not None] == [
        "id",
        "vector.text",
        "vector.far",
        "vector.words",
    ]
    assert second == first | {"id": 2}
    assert taken() == []


def test_the_only_vector_needs_no_name() -> None:
    for vector in ([1, 2, 3], {"text": [1, 2, 3]}, np.array([1, 2, 3]), (1, 2.0, 3), np.arange(1, 4, dtype=np.float16)):
        assert taken({"id": 5, "vector": vector}, spec=PLAIN) == [{"id": 5, "vector.text": [1, 2, 3]}]


def test_numpy_arrays_are_taken_as_they_are() -> None:
    rows = np.random.default_rng(3).standard_normal((20, 3)).astype(np.float32)
    batch = points_of(PLAIN, [{"id": at, "vector": rows[at]} for at in range(20)])
    assert np.array_equal(batch.column(1).flatten().to_numpy(), rows.reshape(-1))
    words = np.array([[1, 2], [3, 4]], np.float64)
    splade = {"indices": np.array([1, 7]), "values": np.array([1, 2], np.float32)}
    (point,) = taken({"id": np.uint64(1).item(), "vector": VECTORS | {"words": words, "splade": splade}})
    assert point["vector.words"] == words.tolist()
    assert point["sparse.splade.indices"] == [1, 7]


def test_text_ids_are_kept() -> None:
    assert taken({"id": "é", "vector": [1, 2]}, spec=NAMED)[0]["id"] == "é"
    refused(".id: expected a string, got 7", {"id": 7, "vector": [1, 2]}, NAMED)
    refused(".id: expected an id of 1 to 255 bytes, got 0", {"id": "", "vector": [1, 2]}, NAMED)
    refused(".id: expected text of valid Unicode, got '\\udc80'", {"id": "\udc80", "vector": [1, 2]}, NAMED)


def test_one_value_is_an_array_of_one() -> None:
    (point,) = taken({"id": 1, "vector": VECTORS, "payload": {"tags": "a", "sizes": 3, "places": [5, 6]}})
    assert (point["field.tags"], point["field.sizes"], point["field.places"]) == (["a"], [3], [[5, 6]])


@pytest.mark.parametrize(
    ("message", "point"),
    [
        (": expected a point, got 7", 7),
        (": unknown key 'vectr'; nearest: 'vector'", {"id": 2, "vectr": [1, 2, 3]}),
        (".id: expected an id of 64 bits, unsigned, got None", {"vector": [1, 2, 3]}),
        (".id: expected an id of 64 bits, unsigned, got True", {"id": True, "vector": [1, 2, 3]}),
        (".id: expected an id of 64 bits, unsigned, got -1", {"id": -1, "vector": [1, 2, 3]}),
        (".id: expected an id of 64 bits, unsigned, got 18446744073709551616", {"id": 1 << 64, "vector": [1, 2, 3]}),
        (".vector: vector 'text' is missing", {"id": 2}),
        (".vector: expected 3 dimensions, got 2", {"id": 2, "vector": [1, 2]}),
        (".vector: [1]: expected numbers, got True", {"id": 2, "vector": [1, True, 2]}),
        (".vector: [2]: expected numbers, got None", {"id": 2, "vector": [1, 2, None]}),
        (".vector: [0]: expected numbers, got a list of 3", {"id": 2, "vector": [[1, 2, 3]]}),
        (".vector: expected a list of numbers, got 'abc'", {"id": 2, "vector": "abc"}),
        (".vector: expected a list of numbers, got 12 bytes", {"id": 2, "vector": b"abcdabcdabcd"}),
        (".vector: expected numbers, got an array of <U1", {"id": 2, "vector": np.array(["a", "b", "c"])}),
        (".vector: expected numbers, got an array of bool", {"id": 2, "vector": np.array([True] * 3)}),
        (".vector: expected an array of 1 dimension, got shape (1, 3)", {"id": 2, "vector": np.zeros((1, 3))}),
        (".vector.txt: no vector 'txt'; nearest: 'text'", {"id": 2, "vector": {"txt": [1, 2, 3]}}),
        (".payload: expected fields with values, got a list of 0", {"id": 2, "vector": [1, 2, 3], "payload": []}),
        (".payload: no field 'a'", {"id": 2, "vector": [1, 2, 3], "payload": {"a": 1}}),
    ],
)
def test_what_is_no_point_is_named_by_its_path(message: str, point: object) -> None:
    refused(message, point, PLAIN)


@pytest.mark.parametrize(
    ("message", "vector"),
    [
        (": expected vectors by name ('text', 'far', 'words', 'splade'), got a list of 3", [1, 2, 3]),
        (": vector 'far' is missing", {"text": [1, 2, 3]}),
        (": vector 'far' is missing", {"text": [1, 2, 3], "far": None}),
        (".words: [1]: expected 2 dimensions, got 1", VECTORS | {"words": [[1, 2], [1]]}),
        (".words: [0]: expected a list of numbers, got 1", VECTORS | {"words": [1, 2]}),
        (".words: expected an array of 2 dimensions, got shape (2,)", VECTORS | {"words": np.zeros(2)}),
        (".splade: expected {'indices': [...], 'values': [...]}, got a list of 1", VECTORS | {"splade": [1]}),
        (
            ".splade: expected {'indices': [...], 'values': [...]}, got a dict of 1",
            VECTORS | {"splade": {"indices": [1]}},
        ),
        (".splade: 1 indices for 2 values", VECTORS | {"splade": {"indices": [1], "values": [1, 2]}}),
        (".splade: [0]: expected whole numbers, got 1.5", VECTORS | {"splade": {"indices": [1.5], "values": [1]}}),
        (
            ".splade: expected whole numbers of 32 bits, unsigned",
            VECTORS | {"splade": {"indices": [1 << 32], "values": [1]}},
        ),
        (
            ".splade: expected whole numbers of 32 bits, unsigned",
            VECTORS | {"splade": {"indices": np.array([-1]), "values": [1]}},
        ),
        (
            ".splade: expected an array of 1 dimension, got shape ()",
            VECTORS | {"splade": {"indices": [1], "values": np.array(1.0)}},
        ),
    ],
)
def test_what_is_no_vector_is_named_by_its_path(message: str, vector: object) -> None:
    refused(f".vector{message}", {"id": 2, "vector": vector})


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (": no field 'color'; nearest: 'colour'", {"color": "red"}),
        (": no field '7'; known: ", {7: "red"}),
        (".colour: expected a string, got 7", {"colour": 7}),
        (".colour: expected a string, got a list of 1", {"colour": ["red"]}),
        (".title: expected text of valid Unicode, got ", {"title": "\udc80"}),
        (".size: expected an integer, got 1.0", {"size": 1.0}),
        (".size: expected an integer of 64 bits, signed, got ", {"size": 1 << 63}),
        (".price: expected a finite number, got nan", {"price": float("nan")}),
        (".sold: expected true or false, got 1", {"sold": 1}),
        (".at: expected an instant such as ", {"at": "yesterday"}),
        (".place: expected {'lat': ..., 'lon': ...}, got ", {"place": [1, 2, 3]}),
        (".place: expected a latitude within 90 and ", {"place": [91, 2]}),
        (".tags[1]: expected a string, got None", {"tags": ["a", None]}),
        (".places[1]: expected {'lat': ..., 'lon': ...}, got 'x'", {"places": [[1, 2], "x"]}),
    ],
)
def test_what_a_field_cannot_be_is_named_by_its_path(message: str, payload: dict[Any, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        points_of(SPEC, [{"id": 1, "vector": VECTORS}, {"id": 2, "vector": VECTORS, "payload": payload}])
    assert caught.value.message.startswith(f"points[1].payload{message}")
    with pytest.raises(InvalidArgument) as caught:
        payload_patch(SPEC, payload)
    assert caught.value.message.startswith(f"payload{message}")


def test_too_many_values_are_too_large_whatever_they_are_of() -> None:
    many = SPARSE_VALUES_MAX + 1
    for message, point in (
        (".vector.words: 4097 vectors", {"vector": VECTORS | {"words": [[1, 2]] * (VECTORS_OF_POINT_MAX + 1)}}),
        (
            ".vector.splade: 65537 values",
            {"vector": VECTORS | {"splade": {"indices": range(many), "values": [1] * many}}},
        ),
        (".payload.sizes: 65537 values", {"vector": VECTORS, "payload": {"sizes": [1] * (FIELD_VALUES_MAX + 1)}}),
    ):
        with pytest.raises(TooLarge) as caught:
            points_of(SPEC, [{"id": 1} | point])
        assert caught.value.message.startswith(f"points[0]{message}, at most ")


def test_what_only_all_points_together_tell_is_told_later() -> None:
    for vector, problem in (([1e300, 0, 0], "expected finite numbers"), ([0, 0, 0], "its length is 0")):
        batch = points_of(SPEC, [{"id": 7, "vector": VECTORS | {"text": vector}}])
        with pytest.raises(InvalidArgument, match=rf"^points\[0\] \(id 7\): vector 'text': {problem}"):
            checked_points(SPEC, batch)
    batch = points_of(PLAIN, [{"id": 7, "vector": [1, 2, 3]}, {"id": 7, "vector": [1, 2, 3]}])
    with pytest.raises(InvalidArgument, match=r"points\[0\] has the same id"):
        checked_points(PLAIN, batch)


def test_a_patch_is_scalars_as_they_are_kept() -> None:
    patch = payload_patch(SPEC, {"tags": "a", "size": 5, "colour": None, "place": {"lat": 1, "lon": 2}})
    assert {name: each.as_py() for name, each in patch.items()} == {
        "tags": ["a"],
        "size": 5,
        "colour": None,
        "place": [1, 2],
    }
    assert all(each.type == field_type(SPEC.fields[name]) for name, each in patch.items())
    assert pa.repeat(patch["tags"], 2).to_pylist() == [["a"], ["a"]]


def test_a_patch_changes_no_owner_and_has_a_largest_size() -> None:
    with pytest.raises(InvalidArgument, match=r"^payload\.owner: says whose a point is, and cannot be changed$"):
        payload_patch(OWNED, {"owner": "me"})
    with pytest.raises(InvalidArgument, match=r"^payload: expected fields with values, got a list of 1$"):
        payload_patch(SPEC, ["size"])  # type: ignore[arg-type]  # what clients may send
    with pytest.raises(TooLarge, match=f"^payload: {PAYLOAD_BYTES_MAX + 8} bytes, at most"):
        payload_patch(SPEC, {"title": "x" * PAYLOAD_BYTES_MAX, "size": 1})


@pytest.mark.parametrize("seed", range(10))
def test_whatever_json_says_is_taken_or_refused_with_an_error(seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)

    def anything(depth: int = 0) -> object:
        kind = dice.randrange(9 if depth < 3 else 6)
        if kind < 6:
            return dice.choice([None, True, 0, -1, 1 << 70, 1.5, float("nan"), 1e300, "", "a", "\ud800", 10**400, b"x"])
        if kind == 6:
            return [anything(depth + 1) for _ in range(dice.choice([0, 1, 2, 3]))]
        if kind == 7:
            return np.zeros(
                dice.choice([(0,), (2,), (3,), (2, 2), ()]), dice.choice([np.float32, np.int8, object, complex])
            )
        return {dice.choice([*names, 3, "indices", "values", "lat", "lon"]): anything(depth + 1) for _ in range(2)}

    names = ["id", "vector", "payload", *SPEC.vectors, *SPEC.sparse, *SPEC.fields]
    taken_rows = 0
    for _ in range(400):
        point: dict[Any, Any] = {"id": dice.randrange(9), "vector": dict(VECTORS), "payload": {}}
        where = dice.choice([point, point["vector"], point["payload"], point["payload"]])
        where[dice.choice(names)] = anything()
        try:
            found = checked_points(SPEC, points_of(SPEC, [point]))
        except VireoError as error:
            assert error.message.startswith("points[0]")  # noqa: PT017
            continue
        found.validate(full=True)
        assert found.schema == points_schema(SPEC)
        taken_rows += 1
    assert taken_rows > 5


def test_a_collection_of_sparse_vectors_alone_needs_no_vector() -> None:
    spec = CollectionSpec({}, sparse={"splade": SparseSpec()}, fields={"title": FieldSpec("text")})
    (point,) = taken({"id": 1, "payload": {"title": "x"}}, spec=spec)
    assert point == {"id": 1, "sparse.splade.indices": None, "sparse.splade.values": None, "field.title": "x"}
    two = CollectionSpec({"words": VectorSpec(2, multi=True)}, fields={"title": FieldSpec("text")})
    assert taken({"id": 1}, spec=two) == [{"id": 1, "vector.words": [], "field.title": None}]
