"""Changes of payloads: whole points in, whole points out, some fields other than they were. Pure."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from engine.vectors.declaration import CollectionSpec
from engine.vectors.rows import field_column, field_type
from engine.vectors.writer import Change


def setting(spec: CollectionSpec, values: Mapping[str, Any], *, replace: bool = False) -> Change:
    """Points get these values, checked ones (of an array a list); with `replace` all other fields are left out."""

    def changed(points: pa.RecordBatch) -> pa.RecordBatch:
        return _with(points, spec, values, set(spec.fields) - set(values) if replace else ())

    return changed


def clearing(spec: CollectionSpec, fields: Several[str] | None = None) -> Change:
    """Fields are left out, None is all."""

    def changed(points: pa.RecordBatch) -> pa.RecordBatch:
        return _with(points, spec, {}, spec.fields if fields is None else fields)

    return changed


def _with(
    points: pa.RecordBatch, spec: CollectionSpec, values: Mapping[str, Any], left_out: Several[str]
) -> pa.RecordBatch:
    """The tenant stays what it is."""
    columns = {each: points.column(each) for each in points.schema.names}
    for name in left_out:
        if name != spec.tenant:
            columns[field_column(name)] = pa.nulls(points.num_rows, field_type(spec.fields[name]))
    for name, value in values.items():
        one = pa.array([value], field_type(spec.fields[name]))
        columns[field_column(name)] = one.take(pa.array([0] * points.num_rows, pa.int32()))
    return pa.RecordBatch.from_pydict(columns, schema=points.schema)
