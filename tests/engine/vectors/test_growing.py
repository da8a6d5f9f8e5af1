"""What grows says the same as the segment it is sealed to, and what was frozen of it never changes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.vectors.building import Codebooks, build_beside
from engine.vectors.declaration import CollectionSpec, Stored, VectorSpec
from engine.vectors.directory import Directory
from engine.vectors.filter import Filter, HasId
from engine.vectors.growing import GrowingPart, GrowingSegment
from engine.vectors.lexical import text_statistics, weighted_terms
from engine.vectors.points import checked_points, points_of
from engine.vectors.query import DenseLeg, Query, SearchParams
from engine.vectors.sealed import SealedPart
from engine.vectors.search import search
from engine.vectors.view import Living, Part, View
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors import plain_filter
from tests.engine.vectors.core import SPEC, answers, opened, points
from tests.engine.vectors.random_points import TENANTS, random_collection, random_point


def random_rows(spec: CollectionSpec, rows: int, seed: int) -> pa.RecordBatch:
    """Checked points, some of the same ids."""
    source, numbers = random.Random(seed), np.random.default_rng(seed)
    found = [
        points_of(spec, [random_point(spec, plain_filter.random_id(spec, source), source, numbers)]) for _ in range(rows)
    ]  # fmt: skip
    tenant = TENANTS[0] if spec.tenant else None
    return pa.concat_batches([checked_points(spec, each, tenant=tenant) for each in found])


def grown(spec: CollectionSpec, batch: pa.RecordBatch, source: random.Random) -> GrowingSegment:
    """Appended in pieces of any size."""
    segment, begin = GrowingSegment(1, spec, 0), 0
    while begin < batch.num_rows:
        size = source.choice([1, 1, 2, 30])
        segment.append(batch.slice(begin, size))
        begin += size
    return segment


def sealed(part: Part, spec: CollectionSpec, folder: Path) -> SealedPart:
    """The same rows, indexed."""
    directory = Directory(folder, spec, disk=QuickDisk())
    number, writer = directory.new_segment(spec)
    with writer:
        for begin in range(0, part.rows, 50):
            writer.add(part.points(np.arange(begin, min(part.rows, begin + 50))))
        build_beside(writer, writer.finish_rows(), spec, Codebooks(directory.new_codebook))
        segment = writer.seal(0, part.rows)
    directory.close()
    return SealedPart(part.key, number, segment, spec)


def said(part: Part, spec: CollectionSpec, source: random.Random) -> list[Any]:
    """All that a part says but for its vectors."""
    found: list[Any] = [part.rows, list(part.ids)]
    found += [part.column(name).to_pylist() for name in spec.fields]
    for _ in range(25):
        filter_ = Filter.of(plain_filter.random_condition(spec, source), spec)
        found += [(filter_, part.passing(filter_).tobytes())]
    chosen = np.packbits(np.array([source.random() < 0.7 for _ in range(part.rows)], bool), bitorder="little")
    for name, field in spec.fields.items():
        if field.type == "text":
            terms, text = weighted_terms(" ".join(plain_filter.WORDS), field)[0], part.text(name)
            idf, mean = text_statistics([text], terms)
            found += [text.texts, text.words, text.counts(terms).tolist()]
            found += [each.tolist() for each in text.best(terms, idf, mean, chosen, part.rows)]
    for name in spec.sparse:
        indices, sparse = np.arange(0, 30, 3, dtype=np.uint32), part.sparse(name)
        found += [sparse.vectors, sparse.counts(indices).tolist()]
        found += [each.tolist() for each in sparse.best(indices, np.ones(10, np.float32), chosen, part.rows)]
    for name, vector in spec.vectors.items():
        if vector.multi:
            found.append(part.multi(name)[1].tolist())
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_growing_part_says_what_the_sealed_part_of_its_rows_does(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    spec = random_collection(source, growing_rows=10_000)
    batch = random_rows(spec, source.choice([1, 7, 200, 700]), seed)
    growing = grown(spec, batch, source).frozen()
    part = sealed(growing, spec, tmp_path)
    assert said(growing, spec, random.Random(seed)) == said(part, spec, random.Random(seed))
    every = np.arange(batch.num_rows)
    one, other = growing.points(every), part.points(every)
    for name in one.schema.names:
        if not name.startswith("vector."):
            assert one.column(name).equals(batch.column(name)), name
            assert other.column(name).equals(batch.column(name)), name
    for name, vector in spec.vectors.items():
        here, there = (
            (each.multi(name)[0] if vector.multi else each.dense(name)).float32(slice(None)) for each in (growing, part)
        )
        near = {"float32": 0.0, "float16": 3e-3, "int8": 0.51 / 127, "binary": 0.0}[vector.stored]
        assert np.abs(here - there).max(initial=0.0) <= near * np.abs(here).max(initial=1.0), name


def test_what_was_frozen_stays_whatever_is_appended() -> None:
    segment = GrowingSegment(1, SPEC, 0)
    kept: list[tuple[View, list[Any]]] = []
    for step in range(60):
        segment.append(points(range(step * 20, step * 20 + 1 + step % 23), step))
        part = segment.frozen()
        view = View(SPEC, (Living(part, None, part.rows),))
        kept.append((view, answers(view)))
    assert segment.rows > 512  # of which texts and sparse vectors are inverted
    for view, before in kept:
        assert answers(view) == before


def test_a_row_is_copied_a_few_times_however_they_come() -> None:
    """A filter asked before is answered without looking at old rows again: there are few chunks, and old ones stay."""
    segment = GrowingSegment(1, SPEC, 0)
    sizes = []
    for each in range(500):
        segment.append(points([each]))
        sizes.append(len(segment.frozen()._chunks))
    assert max(sizes) <= 10


def test_nothing_that_grew_yet_can_be_asked() -> None:
    for seed in range(6):
        source = random.Random(seed)
        spec = random_collection(source, growing_rows=10)
        part = GrowingSegment(1, spec, 0).frozen()
        assert said(part, spec, source)[:2] == [0, []]
        assert part.points(np.empty(0, np.int64)).num_rows == 0


def test_ids_alone_are_points_too() -> None:
    spec = CollectionSpec(vectors={"v": VectorSpec(2)})
    segment = GrowingSegment(1, spec, 0)
    segment.append(checked_points(spec, points_of(spec, [{"id": 5, "vector": [1, 0]}, {"id": 6, "vector": [0, 2]}])))
    part = segment.frozen()
    assert part.points(np.array([1, 0])).to_pylist() == [
        {"id": 6, "vector.v": [0.0, 1.0]}, {"id": 5, "vector.v": [1.0, 0.0]}
    ]  # fmt: skip
    assert part.passing(Filter.of(HasId((6,)), spec)).tolist() == [0b10]


def test_an_index_is_of_parts_that_have_its_rows() -> None:
    segment = GrowingSegment(1, SPEC, 0)
    segment.append(points(range(10)))
    small: GrowingPart = segment.frozen()
    segment.append(points(range(10, 30)))
    large = segment.frozen()
    index: Any = object()
    segment.heads["v"] = (index, 20)
    assert small.indexed("v") == (None, 0)
    assert large.indexed("v") == (index, 20)


def nearest(part: Part, spec: CollectionSpec, query: np.ndarray) -> list[tuple[int | str, float]]:
    """Of all rows."""
    view = View(spec, (Living(part, None, part.rows),))
    hits = search(view, Query((DenseLeg("v", query),), part.rows, params=SearchParams(exact=True))).hits
    return [(each.id, each.score) for each in hits]


@pytest.mark.parametrize("stored", ["float32", "float16", "int8", "binary"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_scores_of_what_grows_and_of_what_is_sealed_can_be_compared(
    metric: Any, stored: Stored, tmp_path: Path  # noqa: ANN401
) -> None:  # fmt: skip
    spec = CollectionSpec(vectors={"v": VectorSpec(32, metric, stored)})
    numbers = np.random.default_rng(1)
    given = [{"id": at, "vector": numbers.standard_normal(32).astype(np.float32)} for at in range(40)]
    batch = checked_points(spec, points_of(spec, given))
    growing = grown(spec, batch, random.Random(1)).frozen()
    part = sealed(growing, spec, tmp_path)
    query = numbers.standard_normal(32).astype(np.float32)
    query /= np.linalg.norm(query)
    here, there = dict(nearest(growing, spec, query)), dict(nearest(part, spec, query))
    assert here == pytest.approx(there, abs=0.02)
    if metric == "cosine":
        assert max(abs(each) for each in here.values()) <= 1.001
    again = GrowingSegment(2, spec, 0)
    again.append(part.points(np.arange(40)))  # as a change of payloads writes them
    assert dict(nearest(again.frozen(), spec, query)) == pytest.approx(there, abs=1e-5)


def test_a_change_of_payload_does_not_rank_a_point_anew(tmp_path: Path) -> None:
    spec = replace(SPEC, vectors={"v": VectorSpec(4, "cosine", "binary")})
    core = opened(tmp_path, spec)
    core.writer.upsert(points(range(40), 0, spec))
    core.indexer.flush()
    query = Query((DenseLeg("v", np.array([0.6, 0.8, 0, 0], np.float32)),), 40)
    before = {each.id: each.score for each in search(core.view, query).hits}
    core.writer.rewrite(lambda batch: batch, ids=range(0, 40, 3))
    assert {each.id: each.score for each in search(core.view, query).hits} == pytest.approx(before, abs=1e-6)
    core.close()
