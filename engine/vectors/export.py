"""All points of one view, batch by batch: what a client takes away, or reads into another collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from engine.errors import InvalidArgument, nearest, quoted
from engine.vectors.checks import check_names
from engine.vectors.declaration import CollectionSpec
from engine.vectors.filter import Filter
from engine.vectors.matching import matching
from engine.vectors.point_fields import payload_bytes
from engine.vectors.rows import points_schema
from engine.vectors.sealed import SealedPart
from engine.vectors.view import Longs, Part, View

BATCH_BYTES: Final = 2 << 20
"""Of one batch, unless one point has more: what an export takes in memory is a few of them."""
BATCH_ROWS: Final = 8_192


def exported(
    view: View, filter_: Filter | None, payload: Sequence[str] | None = None, vectors: Sequence[str] | None = None
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The points that a filter is about, the oldest part's first, and their schema: `points_schema` of these fields and vectors
    alone (None is all; sparse ones are vectors too), in declared order.

    The view is held until the last batch is taken, or the iterator let go of; deleted files of it take their place on the disk
    until then. Raises InvalidArgument.
    """
    spec = _narrowed(view.spec, payload, vectors)
    return points_schema(spec), _batches(view, filter_, spec)


def _narrowed(spec: CollectionSpec, payload: Sequence[str] | None, vectors: Sequence[str] | None) -> CollectionSpec:
    """With these fields and vectors alone."""
    check_names(spec, payload=payload or ())
    known = {*spec.vectors, *spec.sparse}
    if unknown := [each for each in vectors or () if each not in known]:
        raise InvalidArgument(f"vectors: no vector {quoted(unknown[0])}{nearest(unknown[0], known)}")
    if payload is not None:
        spec = replace(spec, fields={name: each for name, each in spec.fields.items() if name in payload})
    if vectors is not None:
        spec = replace(
            spec, vectors={name: each for name, each in spec.vectors.items() if name in vectors},
            sparse={name: each for name, each in spec.sparse.items() if name in vectors},
        )  # fmt: skip
    return spec


def _batches(view: View, filter_: Filter | None, spec: CollectionSpec) -> Iterator[pa.RecordBatch]:
    for living, rows in matching(view, filter_):
        ends = np.cumsum(_row_bytes(living.part, spec)[rows])
        begin, before = 0, 0
        while begin < len(rows):
            fitting = int(np.searchsorted(ends, before + BATCH_BYTES, "right"))
            end = min(max(begin + 1, fitting), begin + BATCH_ROWS)
            yield _points(living.part, spec, rows[begin:end])
            begin, before = end, int(ends[end - 1])


def _points(part: Part, spec: CollectionSpec, rows: Longs) -> pa.RecordBatch:
    if isinstance(part, SealedPart):  # what is not asked for stays on the disk
        return part.segment.points(spec, rows)
    return part.points(rows).select(points_schema(spec).names)


def _row_bytes(part: Part, spec: CollectionSpec) -> Longs:
    """What each row takes, about, int64 [rows]. A growing part's sparse vectors are not counted: all of it is bounded."""
    single = [each.size for each in spec.vectors.values() if not each.multi]
    found = np.full(part.rows, 8 + 4 * sum(single), np.int64)
    for name, vector in spec.vectors.items():
        if vector.multi:
            found += 4 * vector.size * np.diff(part.multi(name)[1])
    for name, each in spec.fields.items():
        found += payload_bytes(part.column(name), each)
    if isinstance(part, SealedPart):
        for name in spec.sparse:
            found += 8 * np.diff(part.segment.sparse(name)[0])
    return found
