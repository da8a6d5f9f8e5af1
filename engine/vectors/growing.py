"""A segment in memory: one thread appends, and any number search what a view froze of it.

Dense vectors lie in arrays that double by being copied into new ones; what is beyond the frozen rows is never looked at. They are
float32, or signs where signs are stored: scores of what grows and of what is sealed could not be compared otherwise. All
other columns lie in chunks that are merged like the digits of a binary counter: a row is copied O(log n) times, there are
O(log n) chunks, and each keeps the bitsets of the filters it was asked for.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.vectors.declaration import CollectionSpec, Stored, VectorSpec
from engine.vectors.dense_rows import DenseRows, encode
from engine.vectors.doubling import Doubling
from engine.vectors.evaluation import FieldColumns
from engine.vectors.filter import Filter
from engine.vectors.index import VectorIndex
from engine.vectors.lexical import GrowingText
from engine.vectors.rows import (
    ID,
    field_column,
    indices_column,
    payload_schema,
    points_schema,
    values_column,
    vector_column,
)
from engine.vectors.sparse_index import GrowingSparse
from engine.vectors.view import Bits, Longs, SparsePart, TextPart, order_of

Ids: TypeAlias = "npt.NDArray[np.uint64] | pa.StringArray"

_ROWS_FIRST: Final = 256


class _Chunk:
    """Consecutive rows, from `start` on: what is no dense vector of them."""

    def __init__(self, spec: CollectionSpec, start: int, batch: pa.RecordBatch, ids: Ids) -> None:
        self.start = start
        self.batch = batch
        self._payload = payload_schema(spec)
        self._ids = ids

    @cached_property
    def columns(self) -> FieldColumns:
        """For filters."""
        names = self._payload.names
        payload = (
            pa.RecordBatch.from_arrays([self.batch.column(each) for each in names], schema=self._payload)
            if names
            else _EMPTY
        )
        return FieldColumns(payload, self._ids, self.batch.num_rows)


def _stored(spec: VectorSpec) -> Stored:
    """Other precisions than signs are made when a segment is sealed: int8 has its scale by then."""
    return "binary" if spec.stored == "binary" else "float32"


_EMPTY: Final = pa.RecordBatch.from_arrays([], schema=pa.schema([]))


class GrowingSegment:
    """Rows of a collection that are not sealed yet, from the log's entry `first` on. Methods are for one thread."""

    def __init__(self, key: int, spec: CollectionSpec, first: int) -> None:
        self.key = key
        self.first = first
        self.rows = 0
        self.bytes_size = 0
        """Of the rows as they came."""
        self._spec = spec
        self._schema = points_schema(spec)
        self._dense = {
            name: Doubling(encode(np.empty((_ROWS_FIRST, each.size), np.float32), _stored(each)))
            for name, each in spec.vectors.items() if not each.multi
        }  # fmt: skip
        self._integers = Doubling(np.empty(_ROWS_FIRST, np.uint64)) if spec.id == "integer" else None
        kept = {*map(vector_column, self._dense), *([ID] if self._integers else [])}
        self._rest = pa.schema([each for each in self._schema if each.name not in kept])
        if not self._rest.names:
            self._rest = pa.schema([pa.field("", pa.null())])  # so that a batch of no columns has rows
        self._chunks: tuple[_Chunk, ...] = ()
        self._texts = {name: GrowingText(each) for name, each in spec.fields.items() if each.type == "text"}
        self._sparse = {name: GrowingSparse() for name in spec.sparse}
        self.heads: dict[str, tuple[VectorIndex, int]] = {}
        """An index of the first so many rows, by vector; set by whoever built it."""

    def append(self, batch: pa.RecordBatch, bytes_size: int | None = None) -> None:
        """Rows of `points_schema`, checked; other columns are left alone. `bytes_size` of them, where it is known."""
        for name, dense in self._dense.items():
            spec = self._spec.vectors[name]
            dense.append(encode(_vectors(batch.column(vector_column(name)), spec.size), _stored(spec)))
        if self._integers is not None:
            self._integers.append(batch.column(ID).to_numpy())
        self._append_rest(batch)
        for name, text in self._texts.items():
            text.append(batch.column(field_column(name)))
        for name, sparse in self._sparse.items():
            sparse.append(batch.column(indices_column(name)), batch.column(values_column(name)))
        self.rows += batch.num_rows
        self.bytes_size += batch.nbytes if bytes_size is None else bytes_size

    def _append_rest(self, batch: pa.RecordBatch) -> None:
        rows, start, known = batch.num_rows, self.rows, len(self._chunks)
        columns = [batch.column(name) if name else pa.nulls(rows) for name in self._rest.names]
        new = pa.RecordBatch.from_arrays(columns, schema=self._rest)
        while known and self._chunks[known - 1].batch.num_rows <= 2 * rows:
            known -= 1
            start = self._chunks[known].start
            rows = self.rows + batch.num_rows - start
        if known < len(self._chunks):
            new = pa.concat_batches([*(each.batch for each in self._chunks[known:]), new])
        self._chunks = (*self._chunks[:known], _Chunk(self._spec, start, new, self._ids_of(start, new)))

    def _ids_of(self, start: int, batch: pa.RecordBatch) -> Ids:
        if self._integers is None:
            return batch.column(ID)
        return self._integers.array[start : start + batch.num_rows]

    def frozen(self) -> GrowingPart:
        """What is there by now."""
        return GrowingPart(
            self, self._spec, self.rows, {name: each.array[: self.rows] for name, each in self._dense.items()},
            None if self._integers is None else self._integers.array[: self.rows], self._chunks,
            {name: each.frozen(self.rows) for name, each in self._texts.items()},
            {name: each.frozen(self.rows) for name, each in self._sparse.items()},
        )  # fmt: skip


def _vectors(column: pa.FixedSizeListArray, size: int) -> npt.NDArray[np.float32]:
    """Of all rows, none null, float32 [n, size]; nothing is copied."""
    flat, begin = column.values, column.offset * size
    if flat.null_count:  # under a null beside these rows
        flat, begin = column.flatten(), 0
    numbers: npt.NDArray[np.float32] = flat.to_numpy()
    return numbers[begin : begin + len(column) * size].reshape(-1, size)


class GrowingPart:
    """Part. What a growing segment had when it was frozen."""

    def __init__(
        self, segment: GrowingSegment, spec: CollectionSpec, rows: int, dense: dict[str, npt.NDArray[Any]],
        integers: npt.NDArray[np.uint64] | None, chunks: tuple[_Chunk, ...], texts: dict[str, TextPart],
        sparse: dict[str, SparsePart],
    ) -> None:  # fmt: skip
        self.key = segment.key
        self.name = "growing"
        self.rows = rows
        self._segment = segment
        self._spec = spec
        self._vectors = dense
        self._integers = integers
        self._chunks = chunks
        self._texts = texts
        self._sparse = sparse

    @cached_property
    def ids(self) -> Ids:
        """See Part."""
        return self._column(ID) if self._integers is None else self._integers

    @cached_property
    def id_order(self) -> Longs:
        """See Part."""
        return order_of(self.ids)

    def dense(self, name: str) -> DenseRows:
        """See Part."""
        spec = self._spec.vectors[name]
        return DenseRows(self._vectors[name], spec.size, _stored(spec))

    def multi(self, name: str) -> tuple[DenseRows, Longs]:
        """See Part."""
        column, size = self._column(vector_column(name)), self._spec.vectors[name].size
        counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        flat = column.flatten().flatten().to_numpy().reshape(-1, size)
        return DenseRows(flat, size, "float32"), offsets

    def indexed(self, name: str) -> tuple[VectorIndex | None, int]:
        """See Part."""
        found = self._segment.heads.get(name)
        return (None, 0) if found is None or found[1] > self.rows else found

    def passing(self, filter_: Filter) -> Bits:
        """See Part."""
        if len(self._chunks) == 1:
            return self._chunks[0].columns.evaluate(filter_)
        found = [
            np.unpackbits(each.columns.evaluate(filter_), count=each.batch.num_rows, bitorder="little")
            for each in self._chunks
        ]
        return np.packbits(np.concatenate(found), bitorder="little") if found else np.empty(0, np.uint8)

    def text(self, name: str) -> TextPart:
        """See Part."""
        return self._texts[name]

    def sparse(self, name: str) -> SparsePart:
        """See Part."""
        return self._sparse[name]

    def column(self, name: str) -> pa.Array:
        """See Part."""
        return self._column(field_column(name))

    def _column(self, name: str) -> pa.Array:
        found = [each.batch.column(name) for each in self._chunks]
        if not found:
            return pa.nulls(0, points_schema(self._spec).field(name).type)
        return found[0] if len(found) == 1 else pa.concat_arrays(found)

    def points(self, rows: Longs) -> pa.RecordBatch:
        """See Part."""
        schema, wanted = points_schema(self._spec), pa.array(rows, pa.int64())
        return pa.RecordBatch.from_arrays([self._points(each, rows, wanted) for each in schema], schema=schema)

    def _points(self, column: pa.Field, rows: Longs, wanted: pa.Array) -> pa.Array:
        if column.name == ID and self._integers is not None:
            return pa.array(self._integers[rows])
        if column.name.startswith("vector.") and (name := column.name[7:]) in self._vectors:
            flat = self.dense(name).float32(rows).reshape(-1)
            return pa.FixedSizeListArray.from_arrays(pa.array(flat), self._spec.vectors[name].size)
        return self._column(column.name).take(wanted)
