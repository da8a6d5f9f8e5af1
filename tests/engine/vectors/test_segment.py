"""Sealed segments: what is written is read back, in every precision; what is damaged is found; memory stays bounded."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, VectorSpec
from engine.vectors.rows import payload_schema, points_schema
from engine.vectors.segment import SealedSegment, SegmentWriter
from tests.engine.log.disks import QuickDisk

SIZE = 13
SPEC = CollectionSpec(
    vectors={
        "plain": VectorSpec(SIZE),
        "half": VectorSpec(SIZE, stored="float16"),
        "byte": VectorSpec(SIZE, metric="dot", stored="int8"),
        "sign": VectorSpec(SIZE, stored="binary"),
        "late": VectorSpec(SIZE, multi=True, stored="float16"),
    },
    sparse={"words": SparseSpec()},
    fields={
        "lang": FieldSpec("keyword"),
        "year": FieldSpec("integer"),
        "seen": FieldSpec("datetime"),
        "where": FieldSpec("geo"),
        "tags": FieldSpec("keyword", array=True),
        "where/all of it": FieldSpec("geo", array=True),
    },
)


def points(rows: int, *, first: int = 0, seed: int = 1, spec: CollectionSpec = SPEC) -> pa.RecordBatch:
    """Random points; about a fifth of what may be null is."""
    random = np.random.default_rng(seed)
    found: list[pa.Array] = []
    for field in points_schema(spec):
        if field.name == "id":
            ids = [first + at for at in range(rows)]
            found.append(pa.array(ids if spec.id == "integer" else [f"p{each}" for each in ids], field.type))
        elif field.name.startswith("vector."):
            found.append(_vectors(random, rows, field.type))
        elif field.name.startswith("sparse."):
            found.append(pa.array(_lists(np.random.default_rng(seed + 99), rows, field.type), field.type))
        else:
            values = [_value(random, field.type) if random.random() > 0.2 else None for _ in range(rows)]
            found.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(found, schema=points_schema(spec))


def _vectors(random: np.random.Generator, rows: int, type_: pa.DataType) -> pa.Array:
    if isinstance(type_, pa.FixedSizeListType):
        return pa.array(list(random.normal(size=(rows, type_.list_size)).astype(np.float32)), type_)
    size = type_.value_type.list_size
    return pa.array(
        [list(random.normal(size=(random.integers(0, 4), size)).astype(np.float32)) for _ in range(rows)], type_
    )


def _lists(random: np.random.Generator, rows: int, type_: pa.DataType) -> list[object]:
    whole = pa.types.is_unsigned_integer(type_.value_type)
    counts = [int(each) if each else None for each in random.integers(0, 5, rows)]
    return [None if each is None else [at * 3 if whole else at + 0.5 for at in range(each)] for each in counts]


def _value(random: np.random.Generator, type_: pa.DataType) -> object:
    if isinstance(type_, pa.FixedSizeListType):
        return [float(each) for each in random.uniform(-90, 90, 2)]
    if pa.types.is_list(type_):
        return [_value(random, type_.value_type) for _ in range(random.integers(0, 3))]
    if pa.types.is_timestamp(type_):
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
            seconds=int(random.integers(9999))
        )
    return int(random.integers(1000)) if pa.types.is_integer(type_) else f"word {random.integers(100)}"


def seal(folder: Path, *batches: pa.RecordBatch, spec: CollectionSpec = SPEC) -> SealedSegment:
    """A segment of the batches."""
    with SegmentWriter(folder, spec, disk=QuickDisk()) as writer:
        for each in batches:
            writer.add(each)
        writer.finish_rows()
        return writer.seal(0, 10)


def vectors_of(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """float32 [n, d]."""
    values: np.ndarray = batch.column(f"vector.{name}").flatten().to_numpy()
    return values.reshape(batch.num_rows, -1)


def test_what_is_written_in_slices_is_read_back_as_one(tmp_path: Path) -> None:
    batches = [points(70, seed=1), points(1, first=70, seed=2), points(40, first=71, seed=3).slice(3, 30)]
    segment = seal(tmp_path / "0000000001", *batches)
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    assert segment.rows == 101
    assert segment.ids.tolist() == whole.column("id").to_pylist()
    assert np.array_equal(segment.dense("plain").data, vectors_of(whole, "plain"))
    assert segment.payload(SPEC).equals(whole.select(payload_schema(SPEC).names))
    offsets, indices, values = segment.sparse("words")
    for row in range(101):
        here = slice(offsets[row], offsets[row + 1])
        assert indices[here].tolist() == (whole.column("sparse.words.indices")[row].as_py() or [])
        assert values[here].tolist() == (whole.column("sparse.words.values")[row].as_py() or [])
