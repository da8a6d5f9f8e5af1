"""Points that come as the very types that are kept go a short way: what is made and said of them is the same as of others."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import TooLarge, VireoError
from engine.limits import PAYLOAD_BYTES_MAX
from engine.vectors.by_spec import KEPT_MAX, by_spec
from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from engine.vectors.points import checked_points
from engine.vectors.rows import points_schema

FIELDS = {
    "tag": FieldSpec("keyword"), "n": FieldSpec("integer"), "price": FieldSpec("float"), "at": FieldSpec("datetime"),
    "place": FieldSpec("geo"), "tags": FieldSpec("keyword", array=True),
}  # fmt: skip
SPEC = CollectionSpec({"a": VectorSpec(3), "b": VectorSpec(2, metric="l2")}, fields=FIELDS)
NAMED = CollectionSpec({"a": VectorSpec(3), "b": VectorSpec(2, metric="l2")}, fields=FIELDS, id="text")


def batch_of(spec: CollectionSpec, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Of exactly the types that are kept; but for the id anything may be null."""
    columns = [pa.array([each.get(field.name) for each in rows], field.type) for field in points_schema(spec)]
    return pa.RecordBatch.from_arrays(columns, names=points_schema(spec).names)


def otherwise(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same points in another order of columns, which takes the long way."""
    return batch.select(batch.schema.names[::-1])


def point(number: int, **columns: object) -> dict[str, Any]:
    return {"id": number, "vector.a": [3.0, 0.0, 4.0], "vector.b": [1.0, 2.0]} | {
        name.replace("_", "."): each for name, each in columns.items()
    }


def told(spec: CollectionSpec, batch: pa.RecordBatch) -> str:
    """What is said of a bad batch."""
    with pytest.raises(VireoError) as caught:
        checked_points(spec, batch)
    return f"{type(caught.value).__name__}: {caught.value.message}"


def a_point(random_: random.Random, number: int, spec: CollectionSpec) -> dict[str, Any]:
    """Now and then something of it is bad or null."""
    found = point(
        number,
        vector_a=[random_.choice((1.0, -2.0, 0.5)) for _ in range(3)],
        field_tag=random_.choice(("x", "é", None)),
        field_n=random_.choice((1, None)),
        field_price=random_.choice((1.5, None, 2.0)),
        field_at=random_.choice((5, None)),
        field_place=random_.choice(([1.0, 2.0], None)),
        field_tags=random_.choice((["x", "y"], [], None)),
    )
    if spec.id == "text":
        found["id"] = f"p{number}"
    if random_.random() < 0.1:
        name, value = random_.choice(
            [("vector.a", None), ("vector.a", [0.0] * 3), ("vector.b", [float("nan"), 1]), ("vector.b", [1, None]),
             ("field.price", float("inf")), ("field.place", [91.0, 0.0]), ("field.tags", [None]), ("id", None)]
        )  # fmt: skip
        found[name] = value
    return found


@pytest.mark.parametrize("spec", [SPEC, NAMED], ids=["integer", "text"])
@pytest.mark.parametrize("seed", range(60))
def test_the_short_way_and_the_long_way_lead_to_the_same(seed: int, spec: CollectionSpec) -> None:
    random_ = random.Random(seed)
    numbers = [random_.randrange(100) for _ in range(random_.choice((1, 1, 2, 5, 40)))]
    if random_.random() < 0.8:
        numbers = list(dict.fromkeys(numbers))
    batch = batch_of(spec, [a_point(random_, each, spec) for each in numbers])
    begin = random_.randrange(len(numbers))
    batch = batch.slice(begin if random_.random() < 0.5 else 0)
    try:
        found = checked_points(spec, batch)
    except VireoError:
        assert told(spec, batch) == told(spec, otherwise(batch))
        return
    found.validate(full=True)
    assert found.schema == points_schema(spec)
    assert found.equals(checked_points(spec, otherwise(batch)))


def test_a_slice_is_checked_and_not_what_lies_beside_it() -> None:
    rows = [point(1, vector_a=[0.0] * 3), point(2), point(3, vector_b=[float("inf"), 0])]
    (found,) = checked_points(SPEC, batch_of(SPEC, rows).slice(1, 1)).to_pylist()
    assert (found["id"], found["vector.a"]) == (2, pytest.approx([0.6, 0, 0.8]))


def test_what_the_caller_gave_is_not_changed() -> None:
    batch = batch_of(SPEC, [point(1)])
    checked_points(SPEC, batch)
    assert batch.column(1).to_pylist() == [[3, 0, 4]]


def test_a_payload_too_large_is_refused_where_types_are_as_kept() -> None:
    large = "x" * (PAYLOAD_BYTES_MAX // 2 + 1)
    batch = batch_of(SPEC, [point(1), point(2, field_tag=large, field_tags=[large])])
    with pytest.raises(TooLarge, match=r"^points\[1\] \(id 2\): payload: 104\d+ bytes, at most"):
        checked_points(SPEC, batch)


def test_text_that_is_no_unicode_is_refused_where_types_are_as_kept() -> None:
    batch = batch_of(SPEC, [point(1, field_tag="a"), point(2, field_tag="b")])
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, batch.column("field.tag").buffers()[1], pa.py_buffer(b"a\xff")]
    )
    batch = batch.set_column(batch.schema.get_field_index("field.tag"), "field.tag", broken)
    assert told(SPEC, batch).startswith(
        "InvalidArgument: points[1]: column 'field.tag': expected text of valid Unicode"
    )


def test_a_vector_that_lies_askew_in_memory_is_taken() -> None:
    askew = pa.py_buffer(b"\0" + np.array([3, 0, 4], np.float32).tobytes()).slice(1)
    flat = pa.Array.from_buffers(pa.float32(), 3, [None, askew])
    batch = batch_of(SPEC, [point(1)]).set_column(1, "vector.a", pa.FixedSizeListArray.from_arrays(flat, 3))
    (found,) = checked_points(SPEC, batch).to_pylist()
    assert found["vector.a"] == pytest.approx([0.6, 0, 0.8])


def test_what_is_worked_out_of_a_spec_is_not_that_of_another_however_many_there_are() -> None:
    asked: list[CollectionSpec] = []

    @by_spec
    def size(spec: CollectionSpec) -> int:
        asked.append(spec)
        return spec.vectors["a"].size

    specs = [CollectionSpec({"a": VectorSpec(each)}) for each in range(1, KEPT_MAX + 10)]
    assert [size(each) for each in specs for _ in range(2)] == [
        each for each in range(1, KEPT_MAX + 10) for _ in range(2)
    ]
    assert len(asked) == len(specs)
