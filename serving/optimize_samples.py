"""The real inputs that `vireo optimize` is given: rows of files, of a NumPy archive or of a log, as a model's inputs."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from engine import (
    Array,
    DataLoss,
    InvalidArgument,
    NotFound,
    Samples,
    Signature,
    Spec,
    Tensor,
    TensorSpec,
    limits,
    nearest,
    quoted,
    rows_of_log,
)
from serving.batch.columns import Wanted, resolve_columns
from serving.batch.source import Files
from serving.batch.tensors import inputs_of

NPZ_SUFFIX: Final = ".npz"


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """`inputs`: the column of an input of another name. `group`, `outcome`: see `Samples`; None: there is none."""

    inputs: Mapping[str, str]
    group: str | None = None
    outcome: str | None = None


def check_columns(columns: SampleColumns, signature: Signature) -> None:
    """Raises InvalidArgument where rows cannot be in groups."""
    if columns.group is not None and not signature.batchable:
        raise InvalidArgument("--group: a row is a whole request of this model, whose scores are a group already")


def samples_in(path: Path, model: str, signature: Signature, columns: SampleColumns) -> Samples:
    """Of a Parquet or Arrow file, a folder of them, or an .npz archive with an array for each input: so many rows as are read.

    Raises NotFound, InvalidArgument for what is no input of the model, DataLoss for what cannot be read.
    """
    if path.suffix == NPZ_SUFFIX:
        return _in_archive(path, model, signature, columns)
    files = Files(path, "--data")
    wanted = _wanted(model, signature, files.schema, columns)
    batches, rows = [], 0
    for each in files.read(0, wanted.read, limits.BATCH_READ_ROWS):
        batches.append(each.batch.slice(0, limits.OPTIMIZE_ROWS_MAX - rows))
        rows += batches[-1].num_rows
        if rows == limits.OPTIMIZE_ROWS_MAX:
            break
    table = pa.Table.from_batches(batches) if batches else files.schema.empty_table()
    return _of_table(path.name, table, model, signature, columns)


def samples_of_log(spec: Spec, log: str, model: str, signature: Signature, columns: SampleColumns) -> Samples:
    """Of the first rows that a log keeps. Raises NotFound, Unavailable, InvalidArgument, DataLoss."""
    table = rows_of_log(spec, log, limits.OPTIMIZE_ROWS_MAX)
    return _of_table(f"log {log}", table, model, signature, columns)


def _wanted(model: str, signature: Signature, schema: pa.Schema, columns: SampleColumns) -> Any:  # noqa: ANN401
    more = tuple((each, each) for each in (columns.group, columns.outcome) if each is not None)
    return resolve_columns(model, signature, schema, Wanted(columns.inputs, more))


def _of_table(source: str, table: pa.Table, model: str, signature: Signature, columns: SampleColumns) -> Samples:
    wanted = _wanted(model, signature, table.schema, columns)
    batches = table.combine_chunks().to_batches()
    requests: list[Mapping[str, Tensor]] = []
    for batch in batches:
        size = batch.num_rows if signature.batchable else 1
        requests += [inputs_of(signature, wanted, batch.slice(at, size)) for at in range(0, batch.num_rows, size)]
    if signature.batchable:
        requests = _joined(requests)
    groups = None if columns.group is None else _labels(columns.group, table.column(columns.group))
    known = None if columns.outcome is None else _outcomes(columns.outcome, table.column(columns.outcome).to_pylist())
    return Samples(source, signature.batchable, tuple(requests), groups, known)


def _joined(parts: list[Mapping[str, Tensor]]) -> list[Mapping[str, Tensor]]:
    if len(parts) < 2:
        return parts
    return [
        {
            name: Tensor(each.datatype, np.concatenate([part[name].array for part in parts]))
            for name, each in parts[0].items()
        }
    ]


def _labels(name: str, column: pa.ChunkedArray) -> Array:
    """A whole number for each row; rows with the same value have the same."""
    try:
        encoded = column.combine_chunks().dictionary_encode()
    except pa.ArrowException as error:
        raise InvalidArgument(f"--group: column {quoted(name)} of {column.type}: expected one value a row") from error
    labels: Array = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return labels


def _outcomes(name: str, values: Sequence[object] | Array) -> tuple[Array, ...]:
    """0 or 1 for each score of each row."""
    found = []
    for row, each in enumerate(values):
        try:
            found.append(np.asarray(each, np.float64).reshape(-1))
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"--outcome: column {quoted(name)}, row {row}: {error}") from error
        if not np.isin(found[-1], (0, 1)).all():
            raise InvalidArgument(f"--outcome: column {quoted(name)}, row {row}: expected 0 or 1, got {each}")
    return tuple(found)


def _in_archive(path: Path, model: str, signature: Signature, columns: SampleColumns) -> Samples:
    if not path.is_file():
        raise NotFound(f"--data: no file {quoted(str(path))}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = _array_names(archive.files, model, signature, columns)
            arrays = {name: _first_rows(column, archive[column]) for name, column in wanted.items()}
            labels = [each for each in (columns.group, columns.outcome) if each is not None]
            more = {each: _first_rows(each, archive[each]) for each in labels}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataLoss(f"--data: {path.name} cannot be read as a NumPy archive: {error}") from error
    tensors = {name: _tensor(model, signature.input_named[name], array, signature) for name, array in arrays.items()}
    counts = {name: len(each) for name, each in (*arrays.items(), *more.items())}
    if len(set(counts.values())) > 1:
        raise InvalidArgument(f"--data: {path.name}: arrays disagree on the number of rows: {counts}")
    rows = next(iter(counts.values()), 0)
    requests: list[Mapping[str, Tensor]] = [tensors]
    if not signature.batchable:
        requests = [
            {name: Tensor(each.datatype, each.array[row]) for name, each in tensors.items()} for row in range(rows)
        ]
    group, outcome = (None if each is None else more[each] for each in (columns.group, columns.outcome))
    if group is not None and group.ndim != 1:
        raise InvalidArgument(
            f"--group: array {quoted(str(columns.group))} {list(group.shape)}: expected one value a row"
        )
    known = None if outcome is None else _outcomes(str(columns.outcome), outcome)
    return Samples(path.name, signature.batchable, tuple(requests), group, known)


def _first_rows(name: str, array: Array) -> Array:
    if not array.ndim:
        raise InvalidArgument(f"--data: array {quoted(name)} is a single value: expected one or more a row")
    return array[: limits.OPTIMIZE_ROWS_MAX]


def _array_names(there: list[str], model: str, signature: Signature, columns: SampleColumns) -> dict[str, str]:
    """The array of each input."""
    for name in columns.inputs:
        if name not in signature.input_named:
            known = nearest(name, signature.input_named)
            raise InvalidArgument(f"--columns: model {quoted(model)} has no input {quoted(name)}{known}")
    found = {each.name: columns.inputs.get(each.name, each.name) for each in signature.inputs}
    optional = {each.name for each in signature.inputs if each.optional} - columns.inputs.keys()
    found = {name: column for name, column in found.items() if column in there or name not in optional}
    for column in (*found.values(), columns.group, columns.outcome):
        if column is not None and column not in there:
            raise InvalidArgument(f"--data: the archive has no array {quoted(column)}{nearest(column, there)}")
    return found


def _tensor(model: str, spec: TensorSpec, array: Array, signature: Signature) -> Tensor:
    shape = array.shape if signature.batchable else array.shape[1:]
    fits = array.ndim > 0 and spec.takes(shape)
    kinds = "SUO" if spec.datatype.size is None else "b" if spec.datatype.dtype.kind == "b" else "iuf"
    if not fits or array.dtype.kind not in kinds:
        raise InvalidArgument(
            f"model {quoted(model)}, input {quoted(spec.name)}: expected {spec.datatype.name} {list(spec.shape)}"
            f"{'' if signature.batchable else ' for each row'}, the archive has {array.dtype} {list(array.shape)}"
        )
    return Tensor.from_values(spec.name, spec.datatype, array.shape, array.reshape(-1))
