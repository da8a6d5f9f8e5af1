"""Changes of payloads: some fields other than they were, all else of a point as it was."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from engine.errors import TooLarge
from engine.limits import PAYLOAD_BYTES_MAX
from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, VectorSpec
from engine.vectors.payload_change import clearing, setting
from engine.vectors.plain_points import payload_patch
from engine.vectors.points import checked_points, points_of
from engine.vectors.rows import points_schema

SPEC = CollectionSpec(
    vectors={"v": VectorSpec(2, "dot"), "late": VectorSpec(2, "dot", multi=True)},
    sparse={"s": SparseSpec()},
    fields={
        "owner": FieldSpec("keyword"), "tags": FieldSpec("keyword", array=True), "n": FieldSpec("integer"),
        "at": FieldSpec("datetime"), "where": FieldSpec("geo"), "ways": FieldSpec("geo", array=True),
        "body": FieldSpec("text"), "yes": FieldSpec("bool"),
    },
    tenant="owner",
)  # fmt: skip
FULL = {"tags": ["a"], "n": 1, "at": 5, "where": (1, 2), "ways": [(3, 4)], "body": "x", "yes": True}


def some(*payloads: dict[str, Any]) -> pa.RecordBatch:
    """Points with these payloads."""
    rows = [
        {
            "id": at,
            "vector": {"v": [at, 1], "late": [[at, 2]] * at, "s": {"indices": [at], "values": [2]}},
            "payload": each,
        }
        for at, each in enumerate(payloads)
    ]
    return checked_points(SPEC, points_of(SPEC, rows), tenant="me")


def payloads(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """What is not null."""
    assert batch.schema.equals(points_schema(SPEC))
    return [
        {name[6:]: value for name, value in row.items() if name.startswith("field.") and value is not None}
        for row in batch.to_pylist()
    ]


def rest(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """All but payloads."""
    found: list[dict[str, Any]] = batch.to_pylist()
    return [{name: value for name, value in each.items() if not name.startswith("field.")} for each in found]


def test_fields_get_their_values_and_all_else_stays() -> None:
    before = some(FULL, {}, {"n": 7})
    values = payload_patch(SPEC, {"n": 9, "tags": ["b", "c"], "where": (8, 9), "body": None})
    after = setting(SPEC, values)(before)
    assert rest(after) == rest(before)
    for was, now in zip(payloads(before), payloads(after), strict=True):
        assert now == {**{k: v for k, v in was.items() if k != "body"}, "n": 9, "tags": ["b", "c"], "where": [8, 9]}


def test_with_replace_other_fields_are_left_out_but_for_whose_it_is() -> None:
    after = setting(SPEC, payload_patch(SPEC, {"yes": False, "ways": [(1, 1), (2, 2)]}), replace=True)(some(FULL, {}))
    assert payloads(after) == [{"owner": "me", "yes": False, "ways": [[1, 1], [2, 2]]}] * 2


def test_fields_are_cleared_and_whose_it_is_stays() -> None:
    before = some(FULL, {"n": 3})
    after = clearing(SPEC, ["n", "where", "owner"])(before)
    assert rest(after) == rest(before)
    assert [set(each) for each in payloads(after)] == [{"owner", "tags", "at", "ways", "body", "yes"}, {"owner"}]
    assert payloads(clearing(SPEC)(before)) == [{"owner": "me"}] * 2
    assert clearing(SPEC, [])(before).equals(before)


def test_no_points_are_changed_to_none() -> None:
    none = some({"n": 1}).slice(0, 0)
    assert setting(SPEC, payload_patch(SPEC, {"n": 2}))(none).num_rows == 0
    assert clearing(SPEC)(none).num_rows == 0


def test_a_payload_that_would_become_too_large_is_told_by_its_id() -> None:
    before = some({}, {"body": "x" * (PAYLOAD_BYTES_MAX - 1000)}, {})
    patch = payload_patch(SPEC, {"tags": ["y" * 2000]})
    with pytest.raises(TooLarge, match="point 1: its payload would have"):
        setting(SPEC, patch)(before)
    setting(SPEC, patch, replace=True)(before)
