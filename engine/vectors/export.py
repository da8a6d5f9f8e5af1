"""All points of one view, batch by batch: what a client takes away, or reads into another collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from engine.vectors.declaration import CollectionSpec
from engine.vectors.filter import Filter
from engine.vectors.matching import matching
from engine.vectors.rows import ID, field_column, indices_column, points_schema, values_column, vector_column
from engine.vectors.view import View

BATCH_BYTES: Final = 4 << 20
"""About so much of float32 vectors is in memory for one export."""


def exported_schema(
    spec: CollectionSpec, payload: Sequence[str] | None = None, vectors: Sequence[str] | None = None
) -> pa.Schema:
    """Of `exported`: the columns of `points_schema` asked for, None is all; `vectors` are sparse ones too."""
    kept = {ID, *map(field_column, spec.fields if payload is None else payload)}
    for name in (*spec.vectors, *spec.sparse) if vectors is None else vectors:
        kept |= {vector_column(name)} if name in spec.vectors else {indices_column(name), values_column(name)}
    return pa.schema([each for each in points_schema(spec) if each.name in kept])


def exported(view: View, filter_: Filter | None, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The points that a filter is about, oldest part first, of `exported_schema`."""
    floats = sum(each.size for each in view.spec.vectors.values())
    step = max(1, BATCH_BYTES // (4 * max(1, floats)))
    for living, rows in matching(view, filter_):
        for begin in range(0, len(rows), step):
            yield living.part.points(rows[begin : begin + step]).select(schema.names)
