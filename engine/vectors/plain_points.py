"""Points as clients write them, in JSON or as Python values, as Arrow columns; and what a change of payloads may say.

{"id": 1, "vector": [0.1, ...], "payload": {"field": value, ...}}, as users of Qdrant know them, or, of more vectors than one,
"vector": {"name": [0.1, ...], "sparse name": {"indices": [7, 9], "values": [0.5, 2]}, "multi": [[...], ...]}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import InvalidArgument, TooLarge, nearest, quoted
from engine.limits import FIELD_VALUES_MAX, PAYLOAD_BYTES_MAX, SPARSE_VALUES_MAX, VECTORS_OF_POINT_MAX
from engine.vectors.by_spec import by_spec
from engine.vectors.column_casts import Lists
from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from engine.vectors.plain_numbers import Indices, Singles, flat_indices, flat_numbers, matrix, of_size
from engine.vectors.point_fields import payload_bytes
from engine.vectors.rows import (
    ID,
    field_column,
    field_type,
    indices_column,
    points_schema,
    values_column,
    vector_column,
)
from engine.vectors.values import Plain, checked_id, echo, plain_value

_KEYS: Final = ("id", "vector", "payload")
_Sparse = tuple[Indices, Singles]


def points_of(spec: CollectionSpec, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Points as one batch of `rows.points_schema`, whose columns `checked_points` still has to see.

    A vector may be a list or a numpy array, `vector` itself one if the collection has one dense vector. Values of the payload are
    as `values.plain_value` takes them; of an array a list, or one alone; null is left out. Any thread.

    Raises InvalidArgument, "points[17].payload.price: expected ..., got ..."; TooLarge.
    """
    parsed = _Points(spec)
    for at, each in enumerate(rows):
        parsed.add(each, f"points[{at}]")
    return parsed.batch()


def payload_patch(spec: CollectionSpec, mapping: Mapping[str, Any]) -> dict[str, pa.Scalar[Any]]:
    """What fields of a payload become, by field, as scalars of `rows.field_type`: null for one that is taken away.

    Raises InvalidArgument, "payload.price: expected ..., got ...", for a field there is not or that says whose a point is;
    TooLarge. A point it is put into may still become too large: `checked_points` says.
    """
    if not isinstance(mapping, Mapping):
        raise InvalidArgument(f"payload: expected fields with values, got {echo(mapping)}")
    found: dict[str, pa.Scalar[Any]] = {}
    total = 0
    for name, value in mapping.items():
        field = _field(spec, name, "payload")
        if name == spec.tenant:
            raise InvalidArgument(f"payload.{name}: says whose a point is, and cannot be changed")
        plain = None if value is None else _payload_value(field, value, f"payload.{name}")
        column = pa.array([plain], field_type(field))
        total += int(payload_bytes(column, field)[0])
        found[name] = column[0]
    if total > PAYLOAD_BYTES_MAX:
        raise TooLarge(f"payload: {total} bytes, at most {PAYLOAD_BYTES_MAX} are allowed")
    return found


class _Points:
    """Values by column, of the points added so far."""

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec
        self._ids: list[int | str] = []
        self._dense: dict[str, list[Singles | None]] = {name: [] for name in spec.vectors}
        self._sparse: dict[str, list[_Sparse | None]] = {name: [] for name in spec.sparse}
        self._fields: dict[str, list[Any]] = {name: [] for name in spec.fields}
        self._needed = [name for name, each in spec.vectors.items() if not each.multi]

    def add(self, point: Mapping[str, Any], path: str) -> None:
        """Raises InvalidArgument."""
        if not isinstance(point, Mapping):
            raise InvalidArgument(f"{path}: expected a point, got {echo(point)}")
        for key in point:
            if key not in _KEYS:
                raise InvalidArgument(f"{path}: unknown key {quoted(str(key))}{nearest(str(key), _KEYS)}")
        try:
            self._ids.append(checked_id(point.get("id"), self._spec.id))
        except InvalidArgument as error:
            raise InvalidArgument(f"{path}.id: {error.message}") from error
        self._add_vectors(point.get("vector"), f"{path}.vector")
        self._add_payload(point.get("payload"), f"{path}.payload")

    def _add_vectors(self, given: object, path: str) -> None:
        named = self._named(given, path)
        for dense in self._dense.values():
            dense.append(None)
        for sparse in self._sparse.values():
            sparse.append(None)
        for name, value in named.items():
            where = path if value is given else f"{path}.{name}"
            if value is not None:
                self._add_vector(name, value, where)
        for name in self._needed:
            if self._dense[name][-1] is None:
                raise InvalidArgument(f"{path}: vector {quoted(name)} is missing")

    def _named(self, given: object, path: str) -> Mapping[str, object]:
        if given is None:
            return {}
        if isinstance(given, Mapping):
            return given
        if len(self._needed) != 1:
            names = ", ".join(map(quoted, [*self._dense, *self._sparse][:10]))
            raise InvalidArgument(f"{path}: expected vectors by name ({names}), got {echo(given)}")
        return {self._needed[0]: given}

    def _add_vector(self, name: str, value: object, path: str) -> None:
        try:
            if name in self._dense:
                self._dense[name][-1] = _dense(value, self._spec.vectors[name])
            elif name in self._sparse:
                self._sparse[name][-1] = _sparse(value)
            else:
                known = nearest(str(name), [*self._dense, *self._sparse])
                raise InvalidArgument(f"no vector {quoted(str(name))}{known}")
        except (InvalidArgument, TooLarge) as error:
            raise type(error)(f"{path}: {error.message}") from error

    def _add_payload(self, given: object, path: str) -> None:
        for column in self._fields.values():
            column.append(None)
        if given is None:
            return
        if not isinstance(given, Mapping):
            raise InvalidArgument(f"{path}: expected fields with values, got {echo(given)}")
        for name, value in given.items():
            field = _field(self._spec, name, path)
            if value is not None:
                self._fields[name][-1] = _payload_value(field, value, f"{path}.{name}")

    def batch(self) -> pa.RecordBatch:
        """All of them."""
        spec, schema, types = self._spec, points_schema(self._spec), _types(self._spec)
        columns: dict[str, pa.Array] = {ID: pa.array(self._ids, types[ID])}
        for name, each in spec.vectors.items():
            columns[vector_column(name)] = (_multi_column if each.multi else _dense_column)(self._dense[name], each)
        for name in spec.sparse:
            columns[indices_column(name)], columns[values_column(name)] = _sparse_columns(self._sparse[name])
        for name, values in self._fields.items():
            column = field_column(name)
            columns[column] = _payload_column(values, types[column], name)
        return pa.RecordBatch.from_arrays([columns[name] for name in types], schema=schema)


@by_spec
def _types(spec: CollectionSpec) -> Mapping[str, pa.DataType]:
    """Of the columns, in order: pyarrow makes a new object for each question."""
    schema = points_schema(spec)
    return dict(zip(schema.names, schema.types, strict=True))


def _field(spec: CollectionSpec, name: object, path: str) -> FieldSpec:
    found = spec.fields.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidArgument(f"{path}: no field {quoted(str(name))}{nearest(str(name), spec.fields)}")
    return found


def _payload_value(spec: FieldSpec, value: object, path: str) -> Plain | list[Plain]:
    if not spec.array:
        return _one(spec, value, path)
    values = _values(spec, value)
    if len(values) > FIELD_VALUES_MAX:
        raise TooLarge(f"{path}: {len(values)} values, at most {FIELD_VALUES_MAX} are allowed")
    return [_one(spec, each, f"{path}[{at}]") for at, each in enumerate(values)]


def _one(spec: FieldSpec, value: object, path: str) -> Plain:
    try:
        return plain_value(spec.type, value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}") from error


def _values(spec: FieldSpec, value: object) -> Sequence[object]:
    """Of a list; of one value alone, which a pair may be."""
    if not isinstance(value, list | tuple):
        return (value,)
    is_pair = spec.type == "geo" and any(isinstance(each, int | float) for each in value)
    return (value,) if is_pair else value


def _dense(value: object, spec: VectorSpec) -> Singles:
    if spec.multi:
        return matrix(value, spec.size, VECTORS_OF_POINT_MAX)
    return of_size(flat_numbers(value), spec.size)


def _sparse(value: object) -> _Sparse:
    if not isinstance(value, Mapping) or value.keys() != {"indices", "values"}:
        raise InvalidArgument(f"expected {{'indices': [...], 'values': [...]}}, got {echo(value)}")
    indices, weights = flat_indices(value["indices"]), flat_numbers(value["values"])
    if len(indices) != len(weights):
        raise InvalidArgument(f"{len(indices)} indices for {len(weights)} values")
    if len(indices) > SPARSE_VALUES_MAX:
        raise TooLarge(f"{len(indices)} values, at most {SPARSE_VALUES_MAX} are allowed")
    return indices, weights


def _dense_column(values: Sequence[Singles | None], spec: VectorSpec) -> pa.Array:
    flat = np.concatenate(values) if values else np.zeros(0, np.float32)  # type: ignore[arg-type]  # none is None
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), spec.size)


def _multi_column(values: Sequence[Singles | None], spec: VectorSpec) -> pa.Array:
    kept = [each for each in values if each is not None]
    flat = np.concatenate(kept).reshape(-1) if kept else np.zeros(0, np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), spec.size)
    return _lists(values).column(vectors)


def _sparse_columns(values: Sequence[_Sparse | None]) -> tuple[pa.Array, pa.Array]:
    kept = [each for each in values if each is not None]
    lists = _lists([None if each is None else each[0] for each in values])
    indices = np.concatenate([each[0] for each in kept]) if kept else np.zeros(0, np.uint32)
    weights = np.concatenate([each[1] for each in kept]) if kept else np.zeros(0, np.float32)
    return lists.column(pa.array(indices)), lists.column(pa.array(weights))


def _lists(values: Sequence[npt.NDArray[Any] | None]) -> Lists:
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([0 if each is None else len(each) for each in values], out=offsets[1:])
    valid = (
        None if all(each is not None for each in values) else np.array([each is not None for each in values], np.bool_)
    )
    return Lists(valid, offsets, pa.nulls(0))


def _payload_column(values: Iterable[Any], kind: pa.DataType, name: str) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowCapacityError) as error:  # more text than Arrow's offsets reach
        raise TooLarge(f"points: field {quoted(name)}: {error}") from error
