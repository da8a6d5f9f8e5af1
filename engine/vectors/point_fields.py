"""The payload of a batch of points as it is kept: each field one Arrow type, every value valid. It knows no points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import InvalidArgument, TooLarge
from engine.limits import FIELD_VALUES_MAX
from engine.vectors.column_casts import BadValue, Lists, exact, first_null, lists_of, string_bytes, strings
from engine.vectors.declaration import FieldSpec, FieldType
from engine.vectors.rows import field_type

Longs = npt.NDArray[np.int64]


def is_plain(spec: FieldSpec) -> bool:
    """Whether every value that is there and of the right type may be kept."""
    return not spec.array and spec.type in _PLAIN


def payload_column(column: pa.Array, spec: FieldSpec) -> pa.Array:
    """A field's values as `rows.field_type` has them. Raises BadValue; InvalidArgument for a column of something else."""
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), field_type(spec))
    if not spec.array:
        return _values(column, spec.type)
    found = lists_of(column)
    if found is None:
        raise InvalidArgument(f"expected lists of {spec.type} values, got {column.type}")
    many = np.flatnonzero(found.lengths > FIELD_VALUES_MAX)
    if len(many):
        at = int(many[0])
        raise BadValue(at, f"{found.lengths[at]} values, at most {FIELD_VALUES_MAX} are allowed", TooLarge)
    return found.column(_inner(found, spec))


def _inner(found: Lists, spec: FieldSpec) -> pa.Array:
    flat = found.flat
    if pa.types.is_null(flat.type) and not len(flat):
        return pa.array([], field_type(FieldSpec(spec.type)))
    try:
        missing = first_null(flat)
        if missing is not None:
            raise BadValue(missing, "expected a value, got null")
        return _values(flat, spec.type)
    except BadValue as error:
        row = found.row_of(error.row)
        raise BadValue(row, f"[{error.row - found.offsets[row]}]: {error.problem}", error.kind) from None


def payload_bytes(column: pa.Array, spec: FieldSpec) -> Longs:
    """What each value of `payload_column` takes, int64 [n]; nothing where it is null."""
    if spec.array:
        found = lists_of(column)
        assert found is not None
        ends = np.zeros(len(found.flat) + 1, np.int64)
        np.cumsum(_value_bytes(found.flat, spec.type), out=ends[1:])
        return np.diff(ends[found.offsets])
    return _value_bytes(column, spec.type)


def _value_bytes(column: pa.Array, kind: FieldType) -> Longs:
    if kind in ("keyword", "text"):
        return string_bytes(column)
    found = np.full(len(column), _WIDTHS[kind], np.int64)
    if column.null_count:
        found[~column.is_valid().to_numpy(zero_copy_only=False)] = 0
    return found


def _values(column: pa.Array, kind: FieldType) -> pa.Array:
    found = _BY_KIND[kind](column)
    if found is None:
        raise InvalidArgument(f"expected {kind} values, got {column.type}")
    return found


def _integers(column: pa.Array) -> pa.Array | None:
    if not pa.types.is_integer(column.type):
        return None
    return exact(column, pa.int64(), "an integer of 64 bits, signed")


def _floats(column: pa.Array) -> pa.Array | None:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    found = exact(column, pa.float64(), "a number that 64 bits can hold")
    finite = pc.is_finite(found).fill_null(True).to_numpy(zero_copy_only=False)
    if not finite.all():
        at = int(np.argmin(finite))
        raise BadValue(at, f"expected a finite number, got {found[at].as_py()}")
    return found


def _truths(column: pa.Array) -> pa.Array | None:
    return exact(column, pa.bool_(), "true or false") if pa.types.is_boolean(column.type) else None


def _instants(column: pa.Array) -> pa.Array | None:
    """Of no zone is UTC; a zone changes only how an instant is shown."""
    if not pa.types.is_timestamp(column.type):
        return None
    return exact(
        column.view(pa.timestamp(column.type.unit, "UTC")), pa.timestamp("us", "UTC"), "an instant in microseconds"
    )


def _places(column: pa.Array) -> pa.Array | None:
    """Pairs, or structs of `lat` and `lon`."""
    degrees = _of_struct(column) if pa.types.is_struct(column.type) else _of_pairs(column)
    if degrees is None:
        return None
    wrong = ~((np.abs(degrees[:, 0]) <= 90) & (np.abs(degrees[:, 1]) <= 180))
    if wrong.any():
        at = int(np.argmax(wrong))
        latitude, longitude = degrees[at].tolist()
        raise BadValue(
            at, f"expected a latitude within 90 and a longitude within 180 degrees, got {latitude} and {longitude}"
        )
    mask = column.is_null() if column.null_count else None
    return pa.FixedSizeListArray.from_arrays(pa.array(degrees.reshape(-1)), 2, mask=mask)


def _of_pairs(column: pa.Array) -> npt.NDArray[np.float64] | None:
    found = lists_of(column)
    if found is None:
        return None
    valid = np.ones(len(column), np.bool_) if found.valid is None else found.valid
    wrong = valid & (found.lengths != 2)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise BadValue(at, f"expected latitude and longitude, got {found.lengths[at]} numbers")
    flat = _degrees(found.flat, found.row_of)
    degrees = np.zeros((len(column), 2))
    if flat is not None:
        degrees[valid] = flat.reshape(-1, 2)
    return degrees if flat is not None or not valid.any() else None


def _of_struct(column: pa.StructArray) -> npt.NDArray[np.float64] | None:
    if sorted(each.name for each in column.type) != ["lat", "lon"]:
        return None
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(valid)
    degrees = np.zeros((len(column), 2))
    for place, name in enumerate(("lat", "lon")):
        flat = _degrees(column.field(name).filter(pa.array(valid)), lambda value: int(rows[value]))
        if flat is None:
            return None
        degrees[valid, place] = flat
    return degrees


def _degrees(flat: pa.Array, row_of: Callable[[int], int]) -> npt.NDArray[np.float64] | None:
    """Numbers as float64. Raises BadValue for a null."""
    missing = first_null(flat)
    if missing is not None:
        raise BadValue(row_of(missing), "expected latitude and longitude, got null")
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        return None
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float64)


_WIDTHS: Final[Mapping[FieldType, int]] = {"integer": 8, "float": 8, "bool": 1, "datetime": 8, "geo": 16}
_PLAIN: Final = frozenset({"keyword", "text", "integer", "bool", "datetime"})
_BY_KIND: Final[Mapping[FieldType, Callable[[pa.Array], pa.Array | None]]] = {
    "keyword": strings,
    "text": strings,
    "integer": _integers,
    "float": _floats,
    "bool": _truths,
    "datetime": _instants,
    "geo": _places,
}
