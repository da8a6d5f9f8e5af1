"""What is exported is every point of one state, once, as it was kept, in bounded batches; and it can be read in again."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import InvalidArgument
from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, VectorSpec
from engine.vectors.export import BATCH_BYTES, exported
from engine.vectors.filter import Filter
from engine.vectors.matching import matching
from engine.vectors.points import points_of
from engine.vectors.rows import points_schema
from tests.engine.vectors import plain_filter
from tests.engine.vectors.core import SPEC, Core, opened, points
from tests.engine.vectors.random_points import random_collection, random_point

LARGE = CollectionSpec(
    vectors={"v": VectorSpec(2, metric="dot"), "late": VectorSpec(64, metric="dot", multi=True)},
    sparse={"s": SparseSpec()}, fields={"body": FieldSpec("text"), "tags": FieldSpec("keyword", array=True)},
    growing_rows=100,
)  # fmt: skip


def plainly(core: Core, filter_: Filter | None = None) -> pa.Table:
    """All columns, at once."""
    found = [living.part.points(rows) for living, rows in matching(core.view, filter_)]
    return pa.Table.from_batches(found, points_schema(core.view.spec))


def table(core: Core, filter_: Filter | None = None, **chosen: Any) -> pa.Table:  # noqa: ANN401
    """What is exported."""
    schema, batches = exported(core.view, filter_, **chosen)
    return pa.Table.from_batches(batches, schema)


def random_core(folder: Path, seed: int) -> tuple[Core, dict[Any, Any]]:
    """Growing and sealed parts with dead rows; the points that live, by id."""
    source, numbers = random.Random(seed), np.random.default_rng(seed)
    spec = replace(random_collection(source, growing_rows=25), tenant=None)
    core, truth = opened(folder, spec), dict[Any, Any]()
    for _ in range(8):
        rows = [
            random_point(spec, each, source, numbers)
            for each in {plain_filter.random_id(spec, source) for _ in "12345678"}
        ]
        core.writer.upsert(points_of(spec, rows))
        truth |= {each["id"]: each for each in rows}
        core.indexer.step()
    gone = source.sample(list(truth), 5)
    core.writer.delete(gone)
    return core, {id_: each for id_, each in truth.items() if id_ not in gone}


@pytest.mark.parametrize("seed", range(8))
def test_every_living_point_is_exported_once_with_the_columns_asked_for(tmp_path: Path, seed: int) -> None:
    core, truth = random_core(tmp_path, seed)
    spec, source = core.view.spec, random.Random(seed)
    found = table(core)
    assert found.equals(plainly(core))
    assert sorted(found["id"].to_pylist()) == sorted(truth)
    for _ in range(10):
        condition = plain_filter.random_condition(spec, source)
        payload = source.sample(list(spec.fields), source.randrange(4))
        vectors = [each for each in (*spec.vectors, *spec.sparse) if source.random() < 0.5]
        some = table(core, Filter.of(condition, spec), payload=payload, vectors=vectors)
        assert some.equals(plainly(core, Filter.of(condition, spec)).select(some.schema.names))
        names = {each.split(".")[1] for each in some.schema.names[1:]}
        assert names == {*payload, *vectors}
        wanted = {id_ for id_, each in truth.items() if plain_filter.matches(condition, each["payload"], id_)}
        assert set(some["id"].to_pylist()) == wanted, f"seed {seed}: {condition}"
    core.close()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_exported_makes_the_same_collection_elsewhere(tmp_path: Path, seed: int) -> None:
    core, _ = random_core(tmp_path / "one", seed)
    found = table(core)
    other = opened(tmp_path / "other", core.view.spec)
    for each in found.combine_chunks().to_batches():
        other.writer.load(each)
    again = table(other).sort_by("id").combine_chunks()
    for before, after in zip(found.sort_by("id").combine_chunks().columns, again.columns, strict=True):
        if pa.types.is_fixed_size_list(before.type) and pa.types.is_float32(before.type.value_type):
            one, two = (np.array(each.to_pylist(), np.float32) for each in (before, after))
            np.testing.assert_allclose(one, two, atol=2e-2)  # int8 is scaled anew
        elif not str(before.type).startswith("list<item: fixed_size_list<item: float>"):
            assert before.equals(after)
    core.close()
    other.close()


@pytest.mark.parametrize("sealed", [False, True])
def test_batches_are_bounded_whatever_points_have(tmp_path: Path, sealed: bool) -> None:
    core, source = opened(tmp_path, LARGE), random.Random(1)
    rows: list[dict[str, Any]] = []
    for id_ in range(99):
        late = np.ones((source.choice([0, 1, 900]), 64), np.float32)
        places = sorted(source.sample(range(1 << 20), source.choice([0, 20_000])))
        payload = {"body": "x" * source.choice([0, 500_000]), "tags": ["tag"] * source.choice([0, 30_000])}
        vector = {"v": [id_, 1], "late": late, "s": {"indices": places, "values": [1.0] * len(places)}}
        rows.append({"id": id_, "vector": vector, "payload": payload})
    for begin in range(0, 99, 33):
        core.writer.upsert(points_of(LARGE, rows[begin : begin + 33]))
    if sealed:
        core.indexer.flush()
    _, batches = exported(core.view, None)
    found = [(each.num_rows, each.nbytes) for each in batches]
    assert sum(count for count, _ in found) == 99
    assert max(size for count, size in found if count > 1) < 1.3 * BATCH_BYTES + (0 if sealed else 160_000 * 12)
    core.close()


def test_an_export_is_of_the_state_it_began_with(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.writer.upsert(points(range(40), 1))
    core.indexer.flush()
    core.writer.upsert(points(range(40, 50), 1))
    schema, batches = exported(core.view, None)
    first = next(batches)
    core.writer.upsert(points(range(60), 2))
    core.writer.delete(list(range(5)))
    core.indexer.flush()
    core.work(idle=True)
    rest = pa.Table.from_batches([first, *batches], schema)
    assert sorted(rest["id"].to_pylist()) == list(range(50))
    assert set(rest["field.n"].to_pylist()) == {1}
    core.close()


def test_what_is_not_there_is_refused_before_the_first_batch(tmp_path: Path) -> None:
    core = opened(tmp_path, SPEC)
    with pytest.raises(InvalidArgument, match=r"no field 'tga'.*'tag'"):
        exported(core.view, None, ["tga"])
    with pytest.raises(InvalidArgument, match="no vector 'w'"):
        exported(core.view, None, vectors=["w"])
    schema, batches = exported(core.view, None, [], [])
    assert (schema.names, list(batches)) == (["id"], [])
    core.close()
