"""The rows of a batch run's input: a Parquet or Arrow file, or a folder of them in the order of their names.

Read again from any row, in bounded memory: a few of its batches at a time, whatever its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from engine import TABLE_SUFFIXES, DataLoss, FailedPrecondition, InvalidArgument, NotFound, endings, limits, quoted

_PARQUET, _ARROW = b"PAR1", b"ARROW1"
_SAMPLED_BYTES: Final = 64 << 10
_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that follow each other: the input's from `first` on, which are those of `name` from `first_there` on."""

    batch: pa.RecordBatch
    first: int
    name: str
    first_there: int

    def slice(self, begin: int, count: int) -> Rows:
        """`count` of them from `begin` on."""
        return Rows(self.batch.slice(begin, count), self.first + begin, self.name, self.first_there + begin)

    def place(self, row: int) -> str:
        """Where its row `row` lies, in words; rows count from 0."""
        inside = f", row {self.first + row} of the input" if self.first != self.first_there else ""
        return f"{self.name}, row {self.first_there + row}{inside}"


class Source(Protocol):
    """An input. `rows` None: nobody knows how many. `identity`: what is compared before a run goes on with it."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""

    @property
    def rows(self) -> int | None:
        """How many there are."""

    @property
    def identity(self) -> dict[str, Any]:
        """See above."""

    def read(self, first: int, columns: Sequence[str], rows_max: int) -> Iterator[Rows]:
        """Those columns of the rows from `first` on, in order, at most `rows_max` at a time. Raises DataLoss, Unavailable."""


def files_of(path: Path, option: str) -> list[Path]:
    """`path`, or the files of the folder and those below, by name; what begins with a dot or an underscore is left out. `option`
    named it, and is named in errors.

    Raises NotFound, InvalidArgument.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFound(f"{option}: no file or folder {quoted(str(path))}")
    found = sorted(
        each
        for each in path.rglob("*")
        if each.suffix in TABLE_SUFFIXES
        and not any(part.startswith((".", "_")) for part in each.relative_to(path).parts)
        and each.is_file()
    )
    if not found or len(found) > limits.BATCH_FILES_MAX:
        raise InvalidArgument(
            f"{option}: {quoted(str(path))} has {len(found)} files that end in {endings()}, "
            f"1 to {limits.BATCH_FILES_MAX} are read"
        )
    return found


class Files:
    """A Source of files that all have the columns of the first. `option`: see `files_of`."""

    def __init__(self, path: Path, option: str = "--input") -> None:
        paths = files_of(path, option)
        self._files = [
            _opened(each, each.name if each == path else each.relative_to(path).as_posix(), option) for each in paths
        ]
        self.schema = self._files[0].schema
        for each in self._files[1:]:
            _check_alike(self._files[0], each)

    @property
    def rows(self) -> int:
        """See Source."""
        return sum(each.rows for each in self._files)

    @property
    def identity(self) -> dict[str, Any]:
        """See Source."""
        return {each.name: each.identity() for each in self._files}

    def read(self, first: int, columns: Sequence[str], rows_max: int) -> Iterator[Rows]:
        """See Source."""
        before = 0
        for each in self._files:
            if first < before + each.rows:
                at = max(0, first - before)
                try:
                    for batch in each.read(each.path, at, columns, rows_max):
                        yield Rows(batch, before + at, each.name, at)
                        at += batch.num_rows
                except (OSError, pa.ArrowException) as error:
                    raise DataLoss(f"{each.name} cannot be read after its row {at}: {error}") from error
                if at != each.rows:
                    raise FailedPrecondition(f"{each.name}: {each.rows} rows at the start, {at} now: it was changed")
            before += each.rows


def _check_alike(first: _File, other: _File) -> None:
    for field in first.schema:
        index = other.schema.get_field_index(field.name)
        if index < 0 or other.schema.field(index).type != field.type:
            actual = "not there" if index < 0 else str(other.schema.field(index).type)
            raise InvalidArgument(
                f"column {quoted(field.name)}: {field.type} in {first.name}, but {actual} in {other.name}"
            )


_Read = Callable[[Path, int, Sequence[str], int], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class _File:
    """One file: its schema and rows are known from its footer."""

    path: Path
    name: str
    schema: pa.Schema
    rows: int
    read: _Read

    def identity(self) -> dict[str, Any]:
        """Changes with the file: of its bytes the first and the last are looked at, which with Parquet tell of all others."""
        stat = self.path.stat()
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            digest.update(file.read(_SAMPLED_BYTES))
            file.seek(max(0, stat.st_size - _SAMPLED_BYTES))
            digest.update(file.read(_SAMPLED_BYTES))
        return {
            "bytes": stat.st_size,
            "modified_ns": stat.st_mtime_ns,
            "rows": self.rows,
            "ends": digest.hexdigest()[:16],
        }


def _read_parquet(path: Path, first: int, columns: Sequence[str], rows_max: int) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        groups: list[int] = []
        for index in range(file.num_row_groups):
            count = file.metadata.row_group(index).num_rows
            if groups or first < count:
                groups.append(index)
            else:
                first -= count
        for batch in file.iter_batches(rows_max, groups, list(columns), use_threads=False):
            left = batch.slice(min(first, batch.num_rows))
            first -= batch.num_rows - left.num_rows
            if left.num_rows:
                yield left.select(list(columns))


def _read_arrow(path: Path, first: int, columns: Sequence[str], rows_max: int) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as mapped:
        reader = pa.ipc.open_file(mapped)
        for index in range(reader.num_record_batches):
            batch = reader.get_batch(index).select(list(columns))
            if first >= batch.num_rows:
                first -= batch.num_rows
                continue
            batch.validate(full=True)  # offsets that lie would be followed out of the file
            for begin in range(first, batch.num_rows, rows_max):
                yield batch.slice(begin, rows_max)
            first = 0


def _opened(path: Path, name: str, option: str) -> _File:
    try:
        with path.open("rb") as file:
            begins = file.read(len(_ARROW))
        if begins.startswith(_PARQUET):
            with pq.ParquetFile(path) as parquet:
                return _File(path, name, parquet.schema_arrow, parquet.metadata.num_rows, _read_parquet)
        if begins == _ARROW:
            with pa.memory_map(str(path)) as mapped:
                reader = pa.ipc.open_file(mapped)
                return _File(path, name, reader.schema, reader.count_rows(), _read_arrow)
    except (OSError, pa.ArrowException) as error:
        raise DataLoss(f"{option}: {name} cannot be read: {error}") from error
    raise InvalidArgument(f"{option}: {name} is neither a Parquet nor an Arrow IPC file")
