"""What records and exposures must say of the logs they go to, checked with the place before anything is loaded. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from engine.declaration import TensorDeclaration
from engine.errors import SpecError, nearest, quoted
from engine.graph.presence import Conditions
from engine.graph.relations_graph import GraphRelations
from engine.log.declaration import ColumnSpec, LogSpec
from engine.strict_yaml import Place

RECORD_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "$id": ("string",),
    "$time": ("timestamp", "int64"),
    "$graph": ("string",),
    "$versions": ("string",),
    "$ledger": ("string",),
    "$marks": ("string",),
}
"""Words of a record's columns to the column types that take them."""

EXPOSURE_COLUMNS: Final[Mapping[str, str]] = {
    "experiment": "string",
    "variant": "string",
    "key": "string",
    "request_id": "string",
    "time": "timestamp",
}
"""What is told of an exposure, where the log has a column for it."""

EXPOSURES_NEEDED: Final = ("experiment", "variant")

_NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_TAKEN_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "BOOL": ("bool",),
    "BYTES": ("string", "binary"),
    "BF16": ("float32", "float64"),
    "FP16": ("float32", "float64"),
    "FP32": ("float32", "float64"),
    "FP64": ("float64", "float32"),
    **{name.upper(): (*_NUMBERS, "float32", "float64", "timestamp", "date") for name in _NUMBERS},
}
"""Datatypes to the column types that take them."""


def check_records(graph: GraphRelations, logs: Mapping[str, LogSpec]) -> None:
    """Raises SpecError where a record's log or columns are not there, or hold something else."""
    for name, record in graph.graph.records.items():
        where = f"records.{name}"
        if record.log not in logs:
            raise SpecError(f"{graph.place(f'{where}.log')}: no log {quoted(record.log)}{nearest(record.log, logs)}")
        if record.when is not None:
            graph.check_condition(record.when, f"{where}.when")
        schema = logs[record.log].schema
        under = graph.presence.where(record.when)
        for column, text in record.columns.items():
            key = f"{where}.columns.{column}"
            if column not in schema:
                raise SpecError(
                    f"{graph.place(key)}: log {quoted(record.log)} has no column {quoted(column)}{nearest(column, schema)}"
                )
            _check_column(graph, text, schema[column], key, under)
        _check_filled(record.columns, schema, record.log, graph.place(f"{where}.columns"))


def _check_column(graph: GraphRelations, text: str, column: ColumnSpec | str, key: str, under: Conditions) -> None:
    kind = column.type if isinstance(column, ColumnSpec) else column
    if text.startswith("$"):
        if text not in RECORD_WORDS:
            raise SpecError(f"{graph.place(key)}: unknown word {quoted(text)}{nearest(text, RECORD_WORDS)}")
        if kind not in RECORD_WORDS[text]:
            raise SpecError(
                f"{graph.place(key)}: {text} goes into a column of {' or '.join(RECORD_WORDS[text])}, not {kind}"
            )
        return
    found = graph.type_of(text)
    if found is not None:
        _check_tensor(text, found, kind, graph.place(key))
    if isinstance(column, ColumnSpec) and not column.nullable and not graph.presence.is_sure([text], under):
        raise SpecError(f"{graph.place(key)}: {quoted(text)} may be missing, and the column is not nullable")


def _check_tensor(text: str, found: TensorDeclaration, kind: str, place: str) -> None:
    if kind not in _TAKEN_BY[found.datatype]:
        raise SpecError(f"{place}: {quoted(text)} is {found.datatype}, which a column of {kind} does not take")
    row = [size for size in found.shape[1:] if size != -1]
    if math.prod(row) != 1:
        raise SpecError(f"{place}: {quoted(text)} has shape {list(found.shape)}; a column takes one value a row")


def _check_filled(filled: Mapping[str, str], schema: Mapping[str, ColumnSpec | str], log: str, place: str) -> None:
    if not filled:
        raise SpecError(f"{place}: a record fills at least one column")
    for name, column in schema.items():
        if isinstance(column, ColumnSpec) and not column.nullable and name not in filled:
            raise SpecError(f"{place}: column {quoted(name)} of log {quoted(log)} is not nullable and is not filled")


def check_exposures(log: str, where: str, logs: Mapping[str, LogSpec], place: Place) -> None:
    """Raises SpecError where the log is not there, or cannot be told who got what."""
    if log not in logs:
        raise SpecError(f"{place(where)}: no log {quoted(log)}{nearest(log, logs)}")
    schema = logs[log].schema
    for name in EXPOSURES_NEEDED:
        if name not in schema:
            raise SpecError(f"{place(where)}: log {quoted(log)} has no column {quoted(name)}, which exposures need")
    for name, column in schema.items():
        kind, nullable = (column.type, column.nullable) if isinstance(column, ColumnSpec) else (column, True)
        wanted, what = EXPOSURE_COLUMNS.get(name), f"{place(where)}: column {quoted(name)} of log {quoted(log)}"
        if wanted is not None and kind != wanted:
            raise SpecError(f"{what} must be {wanted}, not {kind}")
        if not nullable and wanted is None:
            raise SpecError(f"{what} is not nullable, and exposures do not fill it")
        if not nullable and name == "key":
            raise SpecError(f"{what} must be nullable: a request may bring no key")
