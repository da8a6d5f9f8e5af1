"""Rows of a collection's log: made of points and ids, and told apart from what is none where others write to the log too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa

from engine.errors import InvalidArgument, TooLarge, quoted
from engine.vectors.by_spec import by_spec
from engine.vectors.declaration import CollectionSpec
from engine.vectors.fold import runs
from engine.vectors.locations import id_column
from engine.vectors.points import checked_points
from engine.vectors.rows import DELETE, ID, OP, UPSERT, field_column, log_schema
from engine.vectors.values import PointId

_OP: Final = pa.field(OP, pa.int8(), nullable=False)

Refused = Callable[[str], None]
"""Is told of an entry that is none, in a sentence."""


def entry(op: int, points: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of the log's schema, if points have theirs."""
    ops = pa.Array.from_buffers(pa.int8(), points.num_rows, [None, pa.py_buffer(bytes([op]) * points.num_rows)])
    return points.add_column(0, _OP, ops)


def deleted(spec: CollectionSpec, ids: Sequence[PointId], tenant: str | None) -> pa.RecordBatch:
    """The points that an entry of DELETE has: checked ids alone, and whose they are."""
    columns = {ID: pa.array(id_column(ids, integer=spec.id == "integer"))}
    if spec.tenant is not None:
        columns[field_column(spec.tenant)] = pa.array([tenant] * len(ids), pa.string())
    return pa.RecordBatch.from_pydict(columns)


def sound(spec: CollectionSpec, batch: pa.RecordBatch, refused: Refused) -> pa.RecordBatch:
    """The rows of `batch`, of `log_schema`, that a fold can take, made as `checked_points` makes them: any producer may have
    written them. A row that is none is left out alone, and told."""
    found: list[pa.RecordBatch] = []
    for op, rows in _runs(batch, refused):
        points = rows.remove_column(0)
        if spec.tenant is not None:
            points = _owned(points, field_column(spec.tenant), refused)
        if op == DELETE:
            found.append(entry(op, points))
        else:
            found += [entry(op, each) for each in _checked(_unowned(spec), points, refused)]
    schema = log_schema(spec)
    whole = [pa.RecordBatch.from_arrays(each.columns, schema=schema) for each in found if each.num_rows]
    if len(whole) == 1:
        return whole[0]
    return pa.concat_batches(whole) if whole else pa.RecordBatch.from_pylist([], schema=schema)


def _runs(batch: pa.RecordBatch, refused: Refused) -> Iterator[tuple[int, pa.RecordBatch]]:
    ops = batch.column(OP).to_numpy()
    known = (ops == UPSERT) | (ops == DELETE)
    if not known.all():
        refused(
            f"{len(known) - int(known.sum())} rows whose {quoted(OP)} is neither {UPSERT} (upsert) nor {DELETE} (delete)"
        )
        batch = batch.filter(pa.array(known))
    if batch.num_rows:
        for op, rows, _ in runs(batch):
            yield op, rows


def _owned(points: pa.RecordBatch, column: str, refused: Refused) -> pa.RecordBatch:
    given = points.column(column)
    if given.null_count:
        refused(f"{given.null_count} rows without a tenant ({quoted(column)})")
        return points.filter(given.is_valid())
    return points


@by_spec
def _unowned(spec: CollectionSpec) -> CollectionSpec:
    """As which rows of several tenants are checked: each says its own."""
    return replace(spec, tenant=None)


def _checked(spec: CollectionSpec, points: pa.RecordBatch, refused: Refused) -> Iterator[pa.RecordBatch]:
    """In order. Halved and halved again, until each part is fine, or is one row that is not."""
    if not points.num_rows:
        return
    try:
        found = checked_points(spec, points)
    except (InvalidArgument, TooLarge) as error:
        if points.num_rows == 1:
            refused(error.message)
            return
        half = points.num_rows // 2
        yield from _checked(spec, points.slice(0, half), refused)
        yield from _checked(spec, points.slice(half), refused)
    else:
        yield found
