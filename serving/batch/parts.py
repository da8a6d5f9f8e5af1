"""What a batch run writes: durable parts and the manifest that counts them, in the end one file or a folder of parts.

A kill at any moment leaves every part that the manifest names whole; what it does not name is written again. A file is written
under another name, synced, renamed, and its folder synced (Pillai et al., "All File Systems Are Not Created Equal", 2014).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import json, structs

from engine import (
    PARQUET_SUFFIX,
    TABLE_SUFFIXES,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    endings,
    lock_file,
    put_in_place,
    quoted,
    sync_folder,
)
from serving.batch.manifest import Manifest, Part, check_same, decoded

_MANIFEST, _LOCK, _PROGRESS, _DRAFT = "progress.json", "lock", "_progress", ".draft"
_KEY: Final = b"vireo.batch"
_GROUP_ROWS: Final = 1 << 17
_GROUP_BYTES: Final = 64 << 20


def check_output(option: str, path: Path) -> None:
    """Raises InvalidArgument unless `path` says what is to be written."""
    if path.suffix and path.suffix not in TABLE_SUFFIXES:
        raise InvalidArgument(
            f"{option}: {path.name} must end in {endings()}, or in none of them for a folder of parts"
        )


class Output:
    """The output of one run, held by a lock while it is open. For one thread.

    A path with a suffix becomes one file, whose parts lie beside it in PATH.parts until then; one without is a folder of parts.
    """

    def __init__(self, path: Path, rejects: Path | None) -> None:
        """Raises FailedPrecondition where another run writes there, or something else lies there."""
        self.path, self.rejects = path, rejects
        self._folder = not path.suffix
        self._parts = path if self._folder else path.with_name(f"{path.name}.parts")
        self._beside = path / _PROGRESS if self._folder else self._parts
        self._suffix = PARQUET_SUFFIX if self._folder else path.suffix
        self.manifest = Manifest({})
        self._lock: int | None = None

    def begin(self, identity: dict[str, Any], *, restart: bool) -> None:
        """Goes on where a run of the same identity was, or anew. Raises FailedPrecondition, DataLoss."""
        identity = json.decode(json.encode(identity))  # as it is once stored
        stored = None if restart else self._finished()
        if stored is None:
            self._take_lock()
            if restart:
                self._clear()
            stored = self._stored()
        if stored is not None:
            check_same(stored.identity, identity, str(self.path))
            if stored.rejected and self.rejects is None:
                raise FailedPrecondition(
                    f"{stored.rejected} rows were rejected already: --rejects must say where they go"
                )
            self.manifest = stored
        else:
            self._check_nothing_there(restart=restart)
            self.manifest = Manifest(identity)
            self._store()
        if not self.manifest.done:
            self._remove_uncounted()

    def _finished(self) -> Manifest | None:
        """What a finished file says of itself, while no run of it is under way."""
        if self._folder or (self._beside / _MANIFEST).exists() or not self.path.is_file():
            return None
        try:
            metadata = _file_metadata(self.path)
        except (OSError, pa.ArrowException) as error:
            raise FailedPrecondition(f"{self.path} is there already, and cannot be read: {error}") from error
        if _KEY not in metadata:
            raise FailedPrecondition(f"{self.path} is there already, not written by a batch run; --restart replaces it")
        return decoded(metadata[_KEY], str(self.path))

    def _take_lock(self) -> None:
        try:
            self._beside.mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(self._beside / _LOCK)
        except BlockingIOError as error:
            raise FailedPrecondition(f"{self.path} is being written by another run") from error
        except OSError as error:
            raise FailedPrecondition(f"{self._beside} cannot be written: {error.strerror}") from error

    def _stored(self) -> Manifest | None:
        path = self._beside / _MANIFEST
        if not path.exists():
            return None
        stored = decoded(path.read_bytes(), str(path))
        if stored.done and not self._folder:
            return stored  # a kill while it was tidied up
        for each in self._counted(stored):
            if not each.is_file():
                raise DataLoss(f"{each} is gone; --restart begins anew")
        return stored

    def _counted(self, manifest: Manifest) -> list[Path]:
        """The files of its parts."""
        parts = [self._part(index) for index, each in enumerate(manifest.parts) if each.rows]
        return parts + [self._reject(index) for index, each in enumerate(manifest.parts) if each.rejected]

    def _clear(self) -> None:
        (self._beside / _MANIFEST).unlink(missing_ok=True)  # first: without it the rest counts for nothing
        for each in self._written():
            each.unlink()

    def _written(self) -> list[Path]:
        """Files of parts, whole or not, counted or not."""
        return [*self._parts.glob("part-*"), *self._beside.glob("rejects-*")]

    def _remove_uncounted(self) -> None:
        """What a kill left beyond the last part. The next one may have other rows, or none: who reads the folder of parts would
        find those of both."""
        left = set(self._written()).difference(self._counted(self.manifest))
        for each in left:
            each.unlink()
        if left:
            sync_folder(self._parts)

    def _check_nothing_there(self, *, restart: bool) -> None:
        if self._folder:
            other = next((each for each in sorted(self.path.iterdir()) if each.name != _PROGRESS), None)
            if other is not None:
                hint = "; --restart begins anew" if other.name.startswith("part-") else ""
                raise FailedPrecondition(f"{self.path} is not empty: it has {quoted(other.name)}{hint}")
        elif self.path.is_dir():
            raise FailedPrecondition(f"{self.path} is a folder")
        if self.rejects is not None and self.rejects.exists() and not restart:
            raise FailedPrecondition(f"{self.rejects} is there already; --restart replaces it")

    def _part(self, index: int) -> Path:
        return self._parts / f"part-{index:08}{self._suffix}"

    def _reject(self, index: int) -> Path:
        return self._beside / f"rejects-{index:08}.arrow"

    def _store(self) -> None:
        encoded = self.manifest.encoded()
        _write_durably(self._beside / _MANIFEST, lambda draft: draft.write_bytes(encoded))

    def add(self, rows: pa.Table, rejected: pa.Table) -> None:
        """Makes rows and rejected rows durable, as one step: after it, a resume begins behind them."""
        index = len(self.manifest.parts)
        for table, path in ((rows, self._part(index)), (rejected, self._reject(index))):
            if table.num_rows:
                _write_table(path, table.schema, [table])
        part = Part(rows.num_rows, rejected.num_rows)
        self.manifest = structs.replace(self.manifest, parts=(*self.manifest.parts, part))
        self._store()

    def finish(self, schema: pa.Schema, rejected_schema: pa.Schema) -> None:
        """Makes the output what was asked for, of all the parts. Doing it again, after a kill in its middle, does the rest."""
        parts = self.manifest.parts
        done = structs.replace(self.manifest, done=True)
        if self.rejects is not None:
            paths = [self._reject(index) for index, each in enumerate(parts) if each.rejected]
            _write_table(self.rejects, rejected_schema, _tables(paths))
        if self._folder:
            if not self.manifest.rows:
                _write_table(self._part(0), schema, [])
        else:
            marked = schema.with_metadata({**(schema.metadata or {}), _KEY: done.encoded()})
            paths = [self._part(index) for index, each in enumerate(parts) if each.rows]
            _write_table(self.path, marked, _tables(paths))
        self.manifest = done
        self._store()
        self.tidy()

    def tidy(self) -> None:
        """Takes away what a finished run no longer needs."""
        if not self._folder and self._parts.exists():
            (self._beside / _MANIFEST).unlink(missing_ok=True)  # first: from now on the file says it
            shutil.rmtree(self._parts)

    def close(self) -> None:
        """Lets others write there."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is there whole or not at all, whatever happens."""
    draft = path.with_name(path.name + _DRAFT)
    try:
        write(draft)
        put_in_place(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror or error}") from error


def _write_table(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    def write(draft: Path) -> None:
        with _writer(draft, path.suffix, schema) as writer:
            for each in _gathered(tables):
                writer.write_table(each.replace_schema_metadata(schema.metadata))

    _write_durably(path, write)


def _writer(draft: Path, suffix: str, schema: pa.Schema) -> Any:  # noqa: ANN401  two kinds of writer
    if suffix == PARQUET_SUFFIX:
        return pq.ParquetWriter(draft, schema, compression="zstd")
    return pa.ipc.new_file(str(draft), schema)


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables: each becomes a row group, and small ones are slow to read."""
    waiting: list[pa.Table] = []
    for each in tables:
        waiting.append(each)
        if sum(one.num_rows for one in waiting) >= _GROUP_ROWS or sum(one.nbytes for one in waiting) >= _GROUP_BYTES:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _tables(paths: Sequence[Path]) -> Iterator[pa.Table]:
    for path in paths:
        try:
            if path.suffix == PARQUET_SUFFIX:
                with pq.ParquetFile(path) as file:
                    yield file.read()
            else:
                with pa.memory_map(str(path)) as mapped:
                    yield pa.ipc.open_file(mapped).read_all()
        except (OSError, pa.ArrowException) as error:
            raise DataLoss(f"{path} cannot be read: {error}; --restart begins anew") from error


def _file_metadata(path: Path) -> dict[bytes, bytes]:
    if path.suffix == PARQUET_SUFFIX:
        return dict(pq.read_schema(path).metadata or {})
    with pa.memory_map(str(path)) as mapped:
        return dict(pa.ipc.open_file(mapped).schema.metadata or {})
