"""A sealed segment: rows of a collection that never change, in a folder of their own, mapped and checksummed. Format version 1.

| file | what |
|---|---|
| `ids.u64` | the ids, uint64; those of text are a column |
| `vector-N.KIND` | the N-th vector's rows as stored (engine/vectors/dense_rows.py); of int8 `vector-N.scale`: float32 [d] |
| `vector-N.offsets` | of a multi-vector, int64 [rows + 1]: whose rows are whose |
| `columns.arrow` | text ids, sparse vectors, payload fields: each an Arrow IPC stream of one batch, aligned to 64 bytes |
| others | what the caller moves in: index files, postings |
| `segment.json` | written last: what is where, with sizes and CRC-32 |

Little-endian. The folder is a draft (`NUMBER.draft`) until all of it is on the disk, and then renamed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import FailedPrecondition, NotFound, TooLarge, nearest, quoted
from engine.log.disk import DRAFT_SUFFIX, Disk
from engine.vectors.declaration import CollectionSpec, Stored, VectorSpec
from engine.vectors.dense_rows import DenseRows, DenseWriter, Rows
from engine.vectors.rows import (
    ID,
    indices_column,
    payload_schema,
    points_schema,
    values_column,
    vector_column,
)
from engine.vectors.segment_file import (
    DraftFile,
    FileSum,
    Mapped,
    as_array,
    framed,
    map_checked,
    map_file,
    read_framed,
    take_in,
    translated,
)

DESCRIPTION: Final = "segment.json"
GATHER_BYTES: Final = 16 << 20
"""What rows of other segments take in memory while they are gathered."""

_IDS: Final = "ids.u64"
_COLUMNS: Final = "columns.arrow"
_SPOOL: Final = "columns.spool"
_ALIGNED: Final = 64
_MOVED_IN: Final = re.compile(r"(?!vector-|segment\.|columns\.|ids\.)[a-z0-9][a-z0-9._-]{0,99}")

Longs = npt.NDArray[np.int64]
_File = TypeVar("_File", DenseWriter, DraftFile)
Ids: TypeAlias = "npt.NDArray[np.uint64] | pa.StringArray"


@dataclass(frozen=True, slots=True)
class VectorFiles:
    """Where a vector lies."""

    size: int
    stored: Stored
    data: FileSum
    scale: FileSum | None = None
    offsets: FileSum | None = None


@dataclass(frozen=True, slots=True)
class ColumnPart:
    """Where the stream of a column lies in the file of columns."""

    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Description:
    """What `segment.json` says. The rows come from entries `first` to `next` - 1 of the log."""

    rows: int
    first: int
    next: int
    id: Literal["integer", "text"]
    ids: FileSum | None
    vectors: Mapping[str, VectorFiles]
    columns: FileSum | None
    parts: Mapping[str, ColumnPart]
    files: Mapping[str, FileSum]

    @property
    def all_files(self) -> list[FileSum]:
        """Of the folder, but for the description itself."""
        own = [each for one in self.vectors.values() for each in (one.data, one.scale, one.offsets)]
        return [each for each in (self.ids, *own, self.columns, *self.files.values()) if each is not None]


class SealedSegment:
    """A segment to read. Immutable; any thread. Arrays are read-only and mapped: they hold the files, even deleted ones."""

    def __init__(self, folder: Path, description: Description, mapped: Callable[[FileSum], Mapped]) -> None:
        """For `open` and the writer: `mapped` maps one file."""
        self.folder = folder
        self.description = description
        self.rows = description.rows
        self._dense = {name: _dense(each, mapped) for name, each in description.vectors.items()}
        self._offsets = {
            name: as_array(mapped(each.offsets), np.int64)
            for name, each in description.vectors.items()
            if each.offsets is not None
        }
        self._columns = _columns(description, mapped)
        self._sparse: dict[str, tuple[Longs, npt.NDArray[np.uint32], npt.NDArray[np.float32]]] = {}
        self.ids: Ids = (
            as_array(mapped(description.ids), np.uint64) if description.ids is not None else self._columns[ID]
        )

    @classmethod
    def open(cls, folder: Path, *, checked: bool = False) -> SealedSegment:
        """Reads all of it once to check it, unless it was `checked` a moment ago. Raises DataLoss where something is gone or
        damaged, FailedPrecondition where it is another format or a newer one, Unavailable where it can't be read."""
        with translated(folder, "open the segment"):
            description = read_framed(folder / DESCRIPTION, "vireo.segment", Description)
            if checked:
                return cls(folder, description, lambda file: map_file(folder / file.file))
            for each in description.files.values():
                map_checked(folder, each)
            return cls(folder, description, lambda file: map_checked(folder, file))

    def dense(self, name: str) -> DenseRows:
        """The vectors of one name; of a multi-vector all of them, flat. Raises NotFound for one that is not kept here."""
        if (found := self._dense.get(name)) is None:
            raise NotFound(f"segment {self.folder.name}: no vector {quoted(name)}{nearest(name, self._dense)}")
        return found

    def multi(self, name: str, spec: VectorSpec | None = None) -> tuple[DenseRows, Longs]:
        """A multi-vector's vectors, and int64 [rows + 1]: row i has those from [i] on, before [i + 1].

        With its `spec`, one that is younger than the segment has none; else raises NotFound.
        """
        if name not in self._dense and spec is not None:
            return DenseRows.over(b"", spec.size, spec.stored), np.zeros(self.rows + 1, np.int64)
        return self.dense(name), self._offsets[name]

    def sparse(self, name: str) -> tuple[Longs, npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """Offsets as of `multi`, indices, values. A row without one, or a sparse vector younger than the segment, has none."""
        if (found := self._sparse.get(name)) is None:
            found = self._sparse[name] = self._sparse_arrays(name)
        return found

    def _sparse_arrays(self, name: str) -> tuple[Longs, npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        indices, values = self._columns.get(indices_column(name)), self._columns.get(values_column(name))
        if indices is None or values is None:
            return np.zeros(self.rows + 1, np.int64), np.empty(0, np.uint32), np.empty(0, np.float32)
        ends = indices.offsets.to_numpy().astype(np.int64)
        here = slice(int(ends[0]), int(ends[-1]))
        return ends - ends[0], indices.values.to_numpy()[here], values.values.to_numpy()[here]

    def column(self, name: str, type_: pa.DataType) -> pa.Array:
        """A payload field or a part of a sparse vector by its column's name; null where the segment is older than it is."""
        if (found := self._columns.get(name)) is None:
            found = self._columns[name] = pa.nulls(self.rows, type_)
        if not found.type.equals(type_):
            raise FailedPrecondition(
                f"segment {self.folder.name}: {quoted(name)} is kept as {found.type}, expected {type_}"
            )
        return found

    def payload(self, spec: CollectionSpec) -> pa.RecordBatch:
        """All rows' fields, of `payload_schema(spec)`. Raises FailedPrecondition where a field had another type."""
        schema = payload_schema(spec)
        if not len(schema):
            return pa.RecordBatch.from_struct_array(pa.array([{}] * self.rows, pa.struct([])))
        return pa.RecordBatch.from_arrays([self.column(each.name, each.type) for each in schema], schema=schema)

    def file(self, name: str) -> Path:
        """The path of a file that was moved in. Raises NotFound."""
        if name not in self.description.files:
            raise NotFound(f"segment {self.folder.name}: no file {quoted(name)}{nearest(name, self.description.files)}")
        return self.folder / name

    def points(self, spec: CollectionSpec, rows: Rows) -> pa.RecordBatch:
        """Chosen rows, of `points_schema(spec)`: to export, to merge. A copy; float32 however it is stored."""
        schema = points_schema(spec)
        wanted = pa.array(rows, pa.int64())
        ids = self.ids if isinstance(self.ids, pa.Array) else pa.array(self.ids[rows], pa.uint64())
        found = [ids.take(wanted) if isinstance(self.ids, pa.Array) else ids]
        found += [self._vectors(name, each, rows) for name, each in spec.vectors.items()]
        found += [self.column(each.name, each.type).take(wanted) for each in list(schema)[len(found) :]]
        return pa.RecordBatch.from_arrays(found, schema=schema)

    def _vectors(self, name: str, spec: VectorSpec, rows: Rows) -> pa.Array:
        if not spec.multi:
            return _fixed(_direction(self.dense(name), spec, rows), spec.size)
        if name not in self._dense:
            return pa.nulls(len(rows), pa.list_(pa.list_(pa.float32(), spec.size)))
        dense, offsets = self.multi(name)
        counts = offsets[rows + 1] - offsets[rows]
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        flat = np.repeat(offsets[rows] - ends[:-1], counts) + np.arange(ends[-1])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), _fixed(dense.float32(flat), spec.size))

    def row_bytes(self) -> int:
        """What a row takes, roughly, in `points`."""
        floats = sum(4 * each.size * each.rows for each in self._dense.values())
        columns = self.description.columns.size_bytes if self.description.columns is not None else 0
        return 1 + (floats + columns) // max(1, self.rows)


def _dense(files: VectorFiles, mapped: Callable[[FileSum], Mapped]) -> DenseRows:
    scale = None if files.scale is None else as_array(mapped(files.scale), np.float32)
    return DenseRows.over(mapped(files.data), files.size, files.stored, scale)


def _columns(description: Description, mapped: Callable[[FileSum], Mapped]) -> dict[str, pa.Array]:
    if description.columns is None:
        return {}
    whole = pa.py_buffer(mapped(description.columns))
    return {
        name: pa.ipc.open_stream(whole.slice(each.start, each.size_bytes)).read_next_batch().column(0)
        for name, each in description.parts.items()
    }


def _direction(dense: DenseRows, spec: VectorSpec, rows: Rows) -> npt.NDArray[np.float32]:
    """Of length 1 where cosine wants it and signs, of length sqrt(d), are to be kept as numbers from now on."""
    found = dense.float32(rows)
    if dense.stored == "binary" and spec.stored != "binary" and spec.metric == "cosine":
        found *= np.float32(spec.size**-0.5)
    return found


def _fixed(vectors: npt.NDArray[np.float32], size: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), size)


def combined(column: pa.ChunkedArray) -> pa.Array:
    """As one array. Raises ArrowInvalid past 2 GiB of text, or 2^31 values of lists."""
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        raise pa.ArrowInvalid("offset overflow")
    return found


class SegmentWriter:
    """Writes one segment: rows, in one or more calls of `add` and `gather`; `finish_rows`; `move_in` what was built of them;
    `seal`. One thread at a time. Leaving it as a context without `seal` leaves nothing behind.

    Memory is bounded by the slices given, by GATHER_BYTES, and by the largest one of its columns. Methods raise
    ResourceExhausted where the disk is full, Unavailable where it fails.
    """

    def __init__(self, folder: Path, spec: CollectionSpec, *, disk: Disk | None = None) -> None:
        """`folder`: where it lies when it is sealed."""
        self._target = folder
        self.folder = folder.with_name(folder.name + DRAFT_SUFFIX)
        """The draft: files to be moved in may be made here too."""
        self._spec = spec
        self._disk = disk or Disk()
        self._schema = points_schema(spec)
        self._rows = 0
        self._description: Description | None = None
        self._files: dict[str, FileSum] = {}
        self._sealed = False
        self._opened: list[DenseWriter | DraftFile] = []
        with translated(self.folder, "write the segment"):
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
            try:
                self._open_files()
            except BaseException:
                self.abort()
                raise

    def _open_files(self) -> None:
        names = [(f"vector-{at}", name, each) for at, (name, each) in enumerate(self._spec.vectors.items())]
        self._dense = {
            name: self._own(DenseWriter(self.folder, file, each.size, each.stored, self._disk))
            for file, name, each in names
        }
        self._multi = {
            name: self._own(DraftFile(self.folder / f"{file}.offsets", self._disk))
            for file, name, each in names
            if each.multi
        }
        for offsets in self._multi.values():
            offsets.write(np.zeros(1, np.int64))
        self._ids = self._own(DraftFile(self.folder / _IDS, self._disk)) if self._spec.id == "integer" else None
        kept = {*map(vector_column, self._spec.vectors), *([ID] if self._ids else [])}
        self._column_schema = pa.schema([each for each in self._schema if each.name not in kept])
        self._spool = self._own(DraftFile(self.folder / _SPOOL, self._disk))
        self._stream = pa.ipc.new_stream(self._spool, self._column_schema)

    def _own(self, file: _File) -> _File:
        """To be closed whatever happens."""
        self._opened.append(file)
        return file

    def add(self, batch: pa.RecordBatch) -> None:
        """Rows of `points_schema`. Dense vectors are not null; a multi-vector that is null is kept as one of none."""
        assert batch.schema.equals(self._schema), f"{batch.schema}, expected {self._schema}"
        with translated(self.folder, "write the segment"):
            if self._ids is not None:
                self._ids.write(batch.column(ID).to_numpy())
            for name, spec in self._spec.vectors.items():
                self._add_vectors(name, spec, batch.column(vector_column(name)))
            columns = [_without_hidden(batch.column(each.name)) for each in self._column_schema]
            if columns:
                self._stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._column_schema))
        self._rows += batch.num_rows

    def _add_vectors(self, name: str, spec: VectorSpec, column: pa.Array) -> None:
        writer = self._dense[name]
        if spec.multi:
            counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
            self._multi[name].write(writer.rows + np.cumsum(counts))
            column = column.flatten()
        assert not column.null_count, f"{column.null_count} rows without {name}"
        writer.add(column.flatten().to_numpy().reshape(-1, spec.size))

    def gather(self, segment: SealedSegment, rows: Rows) -> None:
        """Chosen rows of another segment, ascending, slice by slice. A field that it lacks is null."""
        for name, writer in self._dense.items():
            kept = segment.description.vectors.get(name)
            scale = segment.dense(name).scale if kept is not None else None
            if scale is not None:
                writer.keep_scale(scale)
        step = max(1, GATHER_BYTES // segment.row_bytes())
        for begin in range(0, len(rows), step):
            self.add(segment.points(self._spec, rows[begin : begin + step]))

    def finish_rows(self) -> SealedSegment:
        """No more rows. What is written so far, mapped, to build an index of it; it stays readable after `seal`."""
        with translated(self.folder, "write the segment"):
            columns, parts = self._finish_columns()
            self._description = Description(
                rows=self._rows, first=0, next=0, id=self._spec.id,
                ids=None if self._ids is None else self._ids.finish(),
                vectors={name: self._finish_vector(name, each) for name, each in self._spec.vectors.items()},
                columns=columns, parts=parts, files={},
            )  # fmt: skip
            return SealedSegment(self.folder, self._description, lambda each: map_file(self.folder / each.file))

    def _finish_vector(self, name: str, spec: VectorSpec) -> VectorFiles:
        data, scale = self._dense[name].finish()
        offsets = self._multi[name].finish() if spec.multi else None
        return VectorFiles(size=spec.size, stored=spec.stored, data=data, scale=scale, offsets=offsets)

    def _finish_columns(self) -> tuple[FileSum | None, dict[str, ColumnPart]]:
        self._stream.close()
        self._spool.close()
        if not len(self._column_schema):
            self._spool.path.unlink()
            return None, {}
        target = DraftFile(self.folder / _COLUMNS, self._disk)
        try:
            spooled = pa.ipc.open_stream(pa.py_buffer(map_file(self._spool.path))).read_all()
            parts = {each.name: self._write_column(target, each, spooled) for each in self._column_schema}
            self._spool.path.unlink()
            return target.finish(), parts
        finally:
            target.close()

    def _write_column(self, target: DraftFile, field: pa.Field, spooled: pa.Table) -> ColumnPart:
        try:
            whole = combined(spooled.column(field.name))
        except pa.ArrowInvalid as error:
            raise TooLarge(f"segment {self._target.name}: {quoted(field.name)} has over 2 GiB: {error}") from error
        target.align(_ALIGNED)
        start = target.tell()
        batch = pa.RecordBatch.from_arrays([whole], schema=pa.schema([field]))
        with pa.ipc.new_stream(target, batch.schema) as stream:
            stream.write_batch(batch)
        return ColumnPart(start, target.tell() - start)

    def move_in(self, name: str, path: Path) -> None:
        """Takes a file of the same file system: it is renamed, synced, and checked from now on."""
        assert _MOVED_IN.fullmatch(name), name
        with translated(self.folder, f"move in {quoted(name)}"):
            path.rename(self.folder / name)
            self._files[name] = take_in(self.folder / name, self._disk)

    def seal(self, first: int, next_: int) -> SealedSegment:
        """The segment in its place, safe on the disk, read back and checked. It has entries `first` to `next_` - 1 of the log."""
        assert self._description is not None, "seal before finish_rows"
        description = replace(self._description, first=first, next=next_, files=self._files)
        with translated(self.folder, "seal the segment"):
            file = DraftFile(self.folder / DESCRIPTION, self._disk)
            try:
                file.write(framed("vireo.segment", description))
                file.finish()
            finally:
                file.close()
            self._disk.sync_folder(self.folder)
            self.folder.rename(self._target)
            self._sealed = True
            self._disk.sync_folder(self._target.parent)
        return SealedSegment.open(self._target)

    def abort(self) -> None:
        """Leaves nothing behind, as far as the disk lets it."""
        for each in self._opened:
            each.close()
        if not self._sealed:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def _without_hidden(column: pa.Array) -> pa.Array:
    """A list column whose null rows have no values: Arrow lets them hide some."""
    if not column.null_count or not pa.types.is_list(column.type):
        return column
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    ends = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), column.flatten(), type=column.type, mask=column.is_null()
    )
