"""Changes of payloads: whole points in, whole points out, some fields other than they were. Pure."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import TooLarge
from engine.limits import PAYLOAD_BYTES_MAX
from engine.vectors.declaration import CollectionSpec
from engine.vectors.point_fields import payload_bytes
from engine.vectors.rows import ID, field_column, field_type
from engine.vectors.values import echo
from engine.vectors.writer import Change


def setting(spec: CollectionSpec, values: Mapping[str, pa.Scalar[Any]], *, replace: bool = False) -> Change:
    """Points get these values, from `plain_points.payload_patch`; with `replace` all other fields are left out."""

    def changed(points: pa.RecordBatch) -> pa.RecordBatch:
        return _with(points, spec, values, set(spec.fields) - set(values) if replace else ())

    return changed


def clearing(spec: CollectionSpec, fields: Several[str] | None = None) -> Change:
    """Fields are left out, None is all."""

    def changed(points: pa.RecordBatch) -> pa.RecordBatch:
        return _with(points, spec, {}, spec.fields if fields is None else fields)

    return changed


def _with(
    points: pa.RecordBatch, spec: CollectionSpec, values: Mapping[str, pa.Scalar[Any]], left_out: Several[str]
) -> pa.RecordBatch:
    """The tenant stays what it is."""
    columns = {each: points.column(each) for each in points.schema.names}
    for name in left_out:
        if name != spec.tenant:
            columns[field_column(name)] = pa.nulls(points.num_rows, field_type(spec.fields[name]))
    for name, value in values.items():
        columns[field_column(name)] = pa.repeat(value, points.num_rows)
    changed = pa.RecordBatch.from_pydict(columns, schema=points.schema)
    _check_size(changed, spec)
    return changed


def _check_size(points: pa.RecordBatch, spec: CollectionSpec) -> None:
    total = np.zeros(points.num_rows, np.int64)
    for name, field in spec.fields.items():
        total += payload_bytes(points.column(field_column(name)), field)
    if len(total) and total.max() > PAYLOAD_BYTES_MAX:
        row = int(total.argmax())
        raise TooLarge(
            f"point {echo(points.column(ID)[row].as_py())}: its payload would have {total[row]} bytes, "
            f"at most {PAYLOAD_BYTES_MAX} are allowed"
        )
