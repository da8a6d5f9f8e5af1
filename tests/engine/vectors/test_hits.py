"""Numbers of hits are those that their columns say, whatever parts the hits are in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from engine.vectors.hits import field_values, grouped, numbers_of_places
from engine.vectors.places import SHIFT

SPEC = CollectionSpec(
    {"v": VectorSpec(4)},
    fields={
        "units": FieldSpec("integer"), "price": FieldSpec("float"), "few": FieldSpec("integer"), "brand": FieldSpec("keyword"),
        "regions": FieldSpec("integer", array=True),
    },
)  # fmt: skip


def view(rows: int, parts: int) -> Any:  # noqa: ANN401  what of a view is asked here
    rng = np.random.default_rng(rows)

    def part() -> SimpleNamespace:
        units = rng.integers(0, 100, rows)
        columns = {
            "units": pa.array(units),
            "price": pa.array(rng.random(rows)),
            "few": pa.array([None if each % 7 == 0 else int(each) for each in units], pa.int64()),
            "brand": pa.array([f"b{each % 5}" for each in units]),
            "regions": pa.array([[int(each)] for each in units]),
        }
        return SimpleNamespace(part=SimpleNamespace(column=columns.__getitem__))

    return SimpleNamespace(spec=SPEC, parts=[part() for _ in range(parts)])


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("field", ["units", "price"])
def test_numbers_are_the_values_of_the_column(field: str, parts: int) -> None:
    seen = view(50, parts)
    rng = np.random.default_rng(parts)
    places = (rng.integers(0, parts, 40) << SHIFT) | rng.integers(0, 50, 40)
    found = numbers_of_places(seen, field, places)
    assert found is not None
    assert found.tolist() == field_values(seen, field, grouped(places)).to_pylist()


@pytest.mark.parametrize("field", ["few", "brand", "regions"])
def test_what_is_missing_somewhere_or_no_number_is_left_to_its_column(field: str) -> None:
    assert numbers_of_places(view(50, 2), field, np.arange(9)) is None
