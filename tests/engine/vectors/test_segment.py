"""Sealed segments: what is written is read back, in every precision; what is damaged is found; memory stays bounded."""

from __future__ import annotations

import datetime
import errno
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.errors import DataLoss, FailedPrecondition, NotFound, ResourceExhausted, TooLarge, Unavailable
from engine.vectors.declaration import CollectionSpec, FieldSpec, SparseSpec, Stored, VectorSpec
from engine.vectors.dense_rows import decode, encode
from engine.vectors.rows import payload_schema, points_schema
from engine.vectors.segment import SealedSegment, SegmentWriter
from engine.vectors.segment_file import framed
from tests.engine.log.disks import FailingDisk, QuickDisk

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
    if pa.types.is_floating(type_):
        return float(random.normal())
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


def test_each_precision_loses_no_more_than_it_says(tmp_path: Path) -> None:
    batch = points(300)
    segment = seal(tmp_path / "0000000001", batch)
    every = slice(None)
    assert np.array_equal(segment.dense("plain").float32(every), vectors_of(batch, "plain"))
    half = vectors_of(batch, "half")
    assert np.array_equal(segment.dense("half").float32(every), half.astype(np.float16).astype(np.float32))
    assert segment.dense("half").plain.dtype == np.uint16
    byte, given = segment.dense("byte"), vectors_of(batch, "byte")
    assert byte.scale is not None
    assert np.allclose(byte.scale, np.abs(given).max(axis=0) / 127)
    assert (np.abs(byte.float32(every) - given) <= byte.scale * 0.501).all()
    sign = vectors_of(batch, "sign")
    assert np.array_equal(segment.dense("sign").data, np.packbits(sign >= 0, axis=1, bitorder="little"))
    assert np.array_equal(segment.dense("sign").float32(every), np.where(sign >= 0, 1, -1))
    rows = np.array([7, 0, 299, 7])
    for name in ("plain", "half", "byte", "sign"):
        assert np.array_equal(segment.dense(name).float32(rows), segment.dense(name).float32(every)[rows])


@pytest.mark.parametrize("stored", ["float32", "float16", "int8", "binary"])
@pytest.mark.parametrize("size", [1, 8, 9, 64])
def test_what_is_stored_twice_stays_as_it_was(stored: Stored, size: int) -> None:
    given = np.random.default_rng(size).normal(scale=50, size=(40, size)).astype(np.float32)
    given[:, 0] = 0
    scale = np.abs(given).max(axis=0) / np.float32(127) if stored == "int8" else None
    once = decode(encode(given, stored, scale), size, stored, scale)
    assert once.shape == given.shape
    assert np.array_equal(decode(encode(once, stored, scale), size, stored, scale), once)


def test_half_precision_is_clipped_and_never_infinite() -> None:
    assert encode(np.array([[1e9, -1e9, 65_504]], np.float32), "float16").tolist() == [[65_504, -65_504, 65_504]]


def test_vectors_are_converted_in_blocks_to_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = points(100)
    whole = seal(tmp_path / "0000000001", batch)
    monkeypatch.setattr("engine.vectors.dense_rows.BLOCK_BYTES", 7 * 4 * SIZE)
    blocks = seal(tmp_path / "0000000002", batch)
    for name in ("plain", "half", "byte", "sign", "late"):
        assert np.array_equal(whole.dense(name).data, blocks.dense(name).data)


def test_multi_vectors_keep_whose_they_are(tmp_path: Path) -> None:
    batches = [points(30, seed=5), points(20, first=30, seed=6)]
    dense, offsets = seal(tmp_path / "0000000001", *batches).multi("late")
    expected = [each for batch in batches for each in batch.column("vector.late").to_pylist()]
    for row, each in enumerate(expected):
        found = dense.float32(slice(offsets[row], offsets[row + 1]))
        assert np.array_equal(found, np.array(each, np.float16).reshape(-1, SIZE))


def test_arrays_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    segment = seal(tmp_path / "0000000001", points(10))
    arrays = [segment.ids, segment.dense("plain").data, *segment.multi("late")[1:], *segment.sparse("words")[1:]]
    assert not any(each.flags.writeable for each in arrays)
    shutil.rmtree(segment.folder)
    assert segment.points(SPEC, np.arange(10)).num_rows == 10


def test_text_ids_are_kept_in_order(tmp_path: Path) -> None:
    spec = replace(SPEC, id="text")
    segment = seal(tmp_path / "0000000001", points(5, spec=spec), points(2, first=5, spec=spec), spec=spec)
    assert list(map(str, segment.ids)) == [f"p{at}" for at in range(7)]
    assert segment.points(spec, np.array([6, 1])).column("id").to_pylist() == ["p6", "p1"]


def test_a_segment_without_rows_fields_or_sparse_vectors_is_one_too(tmp_path: Path) -> None:
    assert seal(tmp_path / "0000000001").payload(SPEC).num_rows == 0
    bare = CollectionSpec(vectors={"v": VectorSpec(3)})
    segment = seal(tmp_path / "0000000002", points(4, spec=bare), spec=bare)
    assert segment.payload(bare).num_rows == 4
    assert segment.points(bare, np.arange(4)).equals(points(4, spec=bare))


def test_chosen_rows_of_several_segments_make_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.vectors.segment.GATHER_BYTES", 5_000)
    one, two = seal(tmp_path / "1", points(50, seed=1)), seal(tmp_path / "2", points(30, first=50, seed=2))
    chosen = np.array([0, 3, 4, 49]), np.arange(0, 30, 2)
    with SegmentWriter(tmp_path / "3", SPEC, disk=QuickDisk()) as writer:
        writer.gather(one, chosen[0])
        writer.gather(two, chosen[1])
        writer.finish_rows()
        merged = writer.seal(0, 99)
    parts = [one.points(SPEC, chosen[0]), two.points(SPEC, chosen[1])]
    expected = pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
    found = merged.points(SPEC, np.arange(merged.rows))
    exact = [each for each in found.schema.names if each != "vector.byte"]
    assert found.select(exact).equals(expected.select(exact))
    scale = merged.dense("byte").scale
    assert scale is not None
    assert (np.abs(vectors_of(found, "byte") - vectors_of(expected, "byte")) <= scale * 0.501).all()


def test_int8_that_is_merged_again_and_again_does_not_wear_off(tmp_path: Path) -> None:
    spec = CollectionSpec(vectors={"v": VectorSpec(SIZE, metric="dot", stored="int8")})
    first = seal(tmp_path / "0", points(50, spec=spec), spec=spec)
    small = seal(tmp_path / "small", points(1, spec=spec), spec=spec)
    now = first
    for at in range(1, 6):
        with SegmentWriter(tmp_path / str(at), spec, disk=QuickDisk()) as writer:
            writer.gather(now, np.arange(50))
            writer.gather(small, np.arange(1))
            writer.finish_rows()
            now = writer.seal(0, 1)
    assert np.array_equal(now.dense("v").data[:50], first.dense("v").data)


def test_what_the_collection_got_later_is_null_in_an_older_segment(tmp_path: Path) -> None:
    older = seal(tmp_path / "1", points(6))
    fields = {"rank": FieldSpec("float"), "area": FieldSpec("geo"), **SPEC.fields}
    vectors = {**SPEC.vectors, "more": VectorSpec(3, multi=True)}
    newer = replace(SPEC, fields=fields, vectors=vectors, sparse={**SPEC.sparse, "terms": SparseSpec()})
    assert older.payload(newer).schema.equals(payload_schema(newer))
    assert older.payload(newer).column("field.rank").null_count == 6
    assert older.payload(newer).column("field.year").equals(older.payload(SPEC).column("field.year"))
    assert [each.tolist() for each in older.sparse("terms")] == [[0] * 7, [], []]
    none, offsets = older.multi("more", newer.vectors["more"])
    assert none.float32(slice(None)).shape == (0, 3)
    assert offsets.tolist() == [0] * 7
    with pytest.raises(NotFound, match=r"segment 1: no vector 'more'; known: "):
        older.multi("more")
    with SegmentWriter(tmp_path / "2", newer, disk=QuickDisk()) as writer:
        writer.gather(older, np.arange(6))
        writer.add(points(2, first=6, spec=newer))
        writer.finish_rows()
        merged = writer.seal(0, 8)
    assert merged.payload(newer).column("field.rank").null_count >= 6
    assert merged.multi("more")[1][:7].tolist() == [0] * 7


def test_a_dropped_field_is_left_out_and_one_of_another_type_refused(tmp_path: Path) -> None:
    segment = seal(tmp_path / "1", points(6))
    less = replace(SPEC, fields={"year": FieldSpec("integer")})
    assert segment.payload(less).schema.names == ["field.year"]
    other = replace(SPEC, fields={"year": FieldSpec("float")})
    with pytest.raises(FailedPrecondition, match=r"'field.year' is kept as int64, expected double"):
        segment.payload(other)


def test_a_file_that_is_moved_in_is_checked_and_found(tmp_path: Path) -> None:
    (tmp_path / "made elsewhere").write_bytes(b"graph")
    with SegmentWriter(tmp_path / "1", SPEC, disk=QuickDisk()) as writer:
        writer.add(points(5))
        draft = writer.finish_rows()
        assert draft.dense("plain").rows == 5
        writer.move_in("index.faiss", tmp_path / "made elsewhere")
        (writer.folder / "draft").write_bytes(b"postings")
        writer.move_in("text-0.postings", writer.folder / "draft")
        segment = writer.seal(3, 8)
    assert segment.file("index.faiss").read_bytes() == b"graph"
    assert segment.file("text-0.postings").read_bytes() == b"postings"
    assert (segment.description.first, segment.description.next) == (3, 8)
    assert draft.points(SPEC, np.arange(5)).equals(segment.points(SPEC, np.arange(5)))
    with pytest.raises(NotFound, match=r"no file 'index.fais'; nearest: 'index.faiss'"):
        segment.file("index.fais")
    segment.file("index.faiss").write_bytes(b"grasp")
    with pytest.raises(DataLoss, match=r"index.faiss': is damaged: CRC-32 \w{8}, expected \w{8}"):
        SealedSegment.open(segment.folder)


def test_a_list_that_is_null_hides_no_values(tmp_path: Path) -> None:
    batch = points(3)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    hidden = pa.array([True, False, True])
    numbers = pa.array(range(6), pa.uint32())
    columns["sparse.words.indices"] = pa.ListArray.from_arrays(
        pa.array([0, 2, 4, 6], pa.int32()), numbers, mask=pc.invert(hidden)
    )
    columns["sparse.words.values"] = pa.array([[1, 2], None, [5, 6]], pa.list_(pa.float32()))
    odd = pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)
    offsets, indices, values = seal(tmp_path / "1", odd).sparse("words")
    assert (offsets.tolist(), indices.tolist(), values.tolist()) == ([0, 2, 2, 4], [0, 1, 4, 5], [1, 2, 5, 6])


def test_a_writer_that_is_left_early_leaves_nothing(tmp_path: Path) -> None:
    with SegmentWriter(tmp_path / "1", SPEC, disk=QuickDisk()) as writer:
        writer.add(points(5))
        assert list(tmp_path.iterdir()) == [writer.folder]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("failing", "number", "error"), [("writes", errno.ENOSPC, ResourceExhausted), ("syncs", errno.EIO, Unavailable)]
)
def test_a_disk_that_fails_is_told_and_leaves_nothing(
    failing: str, number: int, error: type[Exception], tmp_path: Path
) -> None:
    disk = FailingDisk()

    def write(writer: SegmentWriter) -> None:
        with writer:
            setattr(disk, failing, number)
            writer.add(points(5))
            writer.finish_rows()

    with pytest.raises(error, match=r"1.draft': cannot write the segment: "):
        write(SegmentWriter(tmp_path / "1", SPEC, disk=disk))
    assert not list(tmp_path.iterdir())


def test_a_column_past_what_arrow_offsets_reach_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflows(_: object) -> None:
        raise pa.ArrowInvalid("offset overflow while concatenating arrays")

    with SegmentWriter(tmp_path / "1", SPEC, disk=QuickDisk()) as writer:
        monkeypatch.setattr("engine.vectors.segment.combined", overflows)
        with pytest.raises(TooLarge, match=r"'sparse.words.indices' has over 2 GiB"):
            writer.finish_rows()


def test_a_newer_or_foreign_description_is_refused(tmp_path: Path) -> None:
    segment = seal(tmp_path / "1", points(5))
    path = segment.folder / "segment.json"
    body = framed("vireo.segment", {"rows": "many"})
    path.write_bytes(body)
    with pytest.raises(FailedPrecondition, match=r"another program wrote this vireo.segment"):
        SealedSegment.open(segment.folder)
    path.write_bytes(framed("vireo.collection", {}))
    with pytest.raises(FailedPrecondition, match=r"is a vireo.collection, expected a vireo.segment"):
        SealedSegment.open(segment.folder)
    path.write_bytes(b'{"rows": 5}\n')
    with pytest.raises(DataLoss, match=r"is torn or damaged, or no vireo.segment"):
        SealedSegment.open(segment.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.vectors.segment_file.FORMAT_VERSION", 2)
        path.write_bytes(framed("vireo.segment", {}))
    with pytest.raises(FailedPrecondition, match="format version 2, this program reads 1"):
        SealedSegment.open(segment.folder)
