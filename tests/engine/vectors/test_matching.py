"""Who a filter is about in a view is who a plain filter says, alive and within the tenant; counting counts the same."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from engine.vectors.declaration import CollectionSpec, VectorSpec
from engine.vectors.filter import Filter, Group, HasId, Match
from engine.vectors.matching import chosen, chosen_rows, count, matching
from engine.vectors.points import points_of
from engine.vectors.view import Bits, View
from tests.engine.vectors import plain_filter
from tests.engine.vectors.core import SPEC, opened, points
from tests.engine.vectors.random_points import random_collection, random_point

Filters = Filter | None


def rows_of(bits: Bits | None, rows: int) -> list[int]:
    """Of a bitset, None is all."""
    return (
        list(range(rows))
        if bits is None
        else np.flatnonzero(np.unpackbits(bits, count=rows, bitorder="little")).tolist()
    )


def ids_of(view: View, filter_: Filters) -> list[object]:
    """Who it is about."""
    found = [list(living.part.points(rows).column("id").to_pylist()) for living, rows in matching(view, filter_)]
    assert all(found), "a part without any"
    return [each for some in found for each in some]


def test_filters_find_who_they_are_about_in_growing_and_sealed_parts(tmp_path: Path) -> None:
    for seed in range(6):
        source, numbers = random.Random(seed), np.random.default_rng(seed)
        spec = random_collection(source, growing_rows=25)
        spec = CollectionSpec(vectors={"v": VectorSpec(2)}, id=spec.id, fields=spec.fields, growing_rows=25)
        core, truth = opened(tmp_path / f"{seed}", spec), dict[object, dict[str, object]]()
        for _ in range(12):
            ids = {plain_filter.random_id(spec, source) for _ in range(12)}
            rows = [random_point(spec, each, source, numbers) for each in ids]
            core.writer.upsert(points_of(spec, rows))
            truth |= {each["id"]: each["payload"] for each in rows}
            core.indexer.step()
        gone = source.sample(list(truth), 10)
        core.writer.delete(gone)  # type: ignore[arg-type]
        for each in gone:
            del truth[each]
        for _ in range(40):
            condition = plain_filter.random_condition(spec, source)
            filter_ = Filter.of(condition, spec)
            found = ids_of(core.view, filter_)
            expected = {id_ for id_, row in truth.items() if plain_filter.matches(condition, row, id_)}  # type: ignore[arg-type]
            assert len(found) == len(set(found)) == count(core.view, filter_), f"seed {seed}"
            assert set(found) == expected, f"seed {seed}: {condition}"
            for living in core.view.parts:
                bits = chosen(living, filter_)
                assert rows_of(bits, living.part.rows) == chosen_rows(living, filter_).tolist()
                assert bits is None or not np.unpackbits(bits, bitorder="little")[living.part.rows :].any()
        core.close()


def test_without_a_filter_all_that_live_are_meant(tmp_path: Path) -> None:
    core = opened(tmp_path)
    assert (list(matching(core.view, None)), count(core.view, None)) == ([], 0)
    core.writer.upsert(points(range(20)))
    (living,) = core.view.parts
    assert chosen(living, None) is None
    assert chosen_rows(living, None).tolist() == list(range(20))
    core.writer.delete([3, 19])
    assert sorted(ids_of(core.view, None)) == [each for each in range(20) if each not in (3, 19)]  # type: ignore[type-var]
    assert count(core.view, None) == 18
    core.close()


def test_what_a_filter_found_before_is_not_changed_by_deletes(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.writer.upsert(points(range(16)))
    core.indexer.step()
    filter_ = Filter.of(Group(must_not=(HasId((1,)),)), SPEC)
    before = core.view.parts[0].part.passing(filter_).tobytes()
    for each in range(0, 16, 3):
        core.writer.delete([each])
        left = set(range(16)) - {1} - set(range(0, each + 1, 3))
        assert count(core.view, filter_) == len(left)
    assert core.view.parts[0].part.passing(filter_).tobytes() == before
    assert count(core.view, Filter.of(Match("tag", "nothing"), SPEC)) == 0
    core.close()
