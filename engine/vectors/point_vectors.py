"""The vectors of a batch of points as they are kept: float32, of the declared size, finite, of length 1 where the metric is
cosine. It knows neither ids nor payloads."""

from __future__ import annotations

from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import InvalidArgument, TooLarge
from engine.limits import SPARSE_VALUES_MAX, VECTORS_OF_POINT_MAX
from engine.vectors.column_casts import BadValue, Lists, exact, first_null, lists_of, singles
from engine.vectors.declaration import VectorSpec
from kernels.directions import normalise, squared_lengths

Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_FEW: Final = 16
"""Numbers that Python looks at sooner than numpy."""
_TINY: Final = float(np.finfo(np.float32).tiny) ** 2


def dense(column: pa.Array, spec: VectorSpec) -> pa.FixedSizeListArray:
    """One vector a row. Raises BadValue; InvalidArgument for a column of something else."""
    missing = first_null(column)
    if missing is not None:
        raise BadValue(missing, "expected a vector, got null")
    found = _listed(column, f"a list of {spec.size} numbers")
    return _of_size(_rows(found, spec), spec)


def plain_dense(column: pa.FixedSizeListArray, spec: VectorSpec) -> pa.FixedSizeListArray:
    """`dense` of a column that is of the right type already. Raises BadValue."""
    flat = column.values
    if column.null_count or flat.null_count:
        return dense(column, spec)
    begin = column.offset * spec.size
    rows = flat.to_numpy()[begin : begin + len(column) * spec.size].reshape(-1, spec.size)
    if not rows.flags.aligned:
        return dense(column, spec)
    checked = checked_rows(rows, spec)
    return column if checked is rows else _column(checked, spec)


def multi(column: pa.Array, spec: VectorSpec) -> pa.ListArray:
    """Any number of vectors a row; a null becomes none. Raises BadValue, InvalidArgument."""
    outer = _listed(column, f"a list of lists of {spec.size} numbers")
    at = _over(outer, VECTORS_OF_POINT_MAX)
    if at is not None:
        raise BadValue(at, f"{outer.lengths[at]} vectors, at most {VECTORS_OF_POINT_MAX} are allowed", TooLarge)
    missing = first_null(outer.flat)
    if missing is not None:
        raise BadValue(outer.row_of(missing), "expected vectors, got a null among them")
    inner = _listed(outer.flat, f"a list of lists of {spec.size} numbers")
    try:
        flat = _of_size(_rows(inner, spec), spec)
    except BadValue as error:
        row = outer.row_of(error.row)
        raise BadValue(row, f"[{error.row - outer.offsets[row]}]: {error.problem}", error.kind) from None
    return Lists(None, outer.offsets, flat).column(flat)


def sparse(indices: pa.Array, values: pa.Array) -> tuple[pa.ListArray, pa.ListArray]:
    """Sparse vectors, null where there is none. Raises BadValue, InvalidArgument."""
    places = _listed(indices, "lists of indices")
    weights = _listed(values, "lists of values")
    apart = np.flatnonzero(places.lengths != weights.lengths)
    if len(apart):
        at = int(apart[0])
        raise BadValue(at, f"{places.lengths[at]} indices for {weights.lengths[at]} values")
    at_null = indices.is_null().to_numpy(zero_copy_only=False) != values.is_null().to_numpy(zero_copy_only=False)
    if at_null.any():
        raise BadValue(int(np.argmax(at_null)), "expected indices and values, got one of them without the other")
    many = _over(places, SPARSE_VALUES_MAX)
    if many is not None:
        raise BadValue(many, f"{places.lengths[many]} values, at most {SPARSE_VALUES_MAX} are allowed", TooLarge)
    return places.column(_ascending(places)), weights.column(pa.array(_finite(weights)))


def _ascending(places: Lists) -> pa.Array:
    """The indices as uint32. Raises BadValue."""
    flat = places.flat
    if not pa.types.is_integer(flat.type) and len(flat):
        raise InvalidArgument(f"indices: expected whole numbers, got {flat.type}")
    missing = first_null(flat)
    if missing is not None:
        raise BadValue(places.row_of(missing), "indices: expected whole numbers, got a null among them")
    try:
        found = exact(flat, pa.uint32(), "an index of 32 bits, unsigned") if len(flat) else pa.array([], pa.uint32())
    except BadValue as error:
        raise BadValue(places.row_of(error.row), f"indices: {error.problem}") from None
    numbers = found.to_numpy()
    wrong = numbers[1:] <= numbers[:-1]
    begins = places.offsets[1:-1]
    wrong[begins[(begins > 0) & (begins < len(numbers))] - 1] = False
    if wrong.any():
        at = int(np.argmax(wrong))
        pair = f"got {numbers[at + 1]} after {numbers[at]}"
        raise BadValue(places.row_of(at + 1), f"indices: expected to ascend strictly, {pair}")
    return found


def _finite(weights: Lists) -> Singles:
    found = _numbers(weights, "values")
    finite = np.isfinite(found)
    if not finite.all():
        at = int(np.argmin(finite))
        raise BadValue(
            weights.row_of(at), f"values: expected finite numbers of 32 bits, got {weights.flat[at].as_py()}"
        )
    return found


def _listed(column: pa.Array, expected: str) -> Lists:
    found = lists_of(column)
    if found is not None:
        return found
    if pa.types.is_null(column.type) or not len(column):
        return Lists(np.zeros(len(column), np.bool_), np.zeros(len(column) + 1, np.int64), pa.nulls(0))
    raise InvalidArgument(f"expected {expected}, got {column.type}")


def _over(found: Lists, most: int) -> int | None:
    """The first row with more values than allowed."""
    many = np.flatnonzero(found.lengths > most)
    return int(many[0]) if len(many) else None


def _rows(found: Lists, spec: VectorSpec) -> Singles:
    """All vectors of a column, [n, d]. Raises BadValue."""
    wrong = np.flatnonzero(found.lengths != spec.size)
    if len(wrong):
        at = int(wrong[0])
        raise BadValue(at, f"expected {spec.size} dimensions, got {found.lengths[at]}")
    return _numbers(found, "").reshape(-1, spec.size)


def _numbers(found: Lists, what: str) -> Singles:
    before = f"{what}: " if what else ""
    missing = first_null(found.flat)
    if missing is not None:
        raise BadValue(found.row_of(missing), f"{before}expected numbers, got a null among them")
    flat = singles(found.flat) if len(found.flat) else np.zeros(0, np.float32)
    if flat is None:
        raise InvalidArgument(f"{before}expected numbers, got {found.flat.type}")
    return flat


def _of_size(rows: Singles, spec: VectorSpec) -> pa.FixedSizeListArray:
    return _column(checked_rows(rows, spec), spec)


def _column(rows: Singles, spec: VectorSpec) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), spec.size)


def checked_rows(rows: Singles, spec: VectorSpec) -> Singles:
    """Vectors [n, d], finite, of length 1 where the metric is cosine. Raises BadValue."""
    squares = np.empty(len(rows), np.float64)
    if spec.metric != "cosine":
        squared_lengths(rows, squares)
        _check(rows, squares, 0.0)
        return rows
    out = np.empty_like(rows)
    normalise(rows, out, squares)
    _check(rows, squares, _TINY)
    return out


def _check(rows: Singles, squares: Doubles, least: float) -> None:
    if len(squares) <= _FEW:
        sound = all(least <= each < np.inf for each in squares.tolist())
    else:
        sound = bool(squares.min() >= least and squares.max() < np.inf)  # false of NaN
    if not sound:
        at = int(np.argmin((squares >= least) & (squares < np.inf)))
        _refuse(at, rows[at])


def _refuse(at: int, row: Singles) -> NoReturn:
    finite = np.isfinite(row)
    if not finite.all():
        place = int(np.argmin(finite))
        raise BadValue(at, f"expected finite numbers of 32 bits, got {row[place]} at dimension {place}")
    raise BadValue(at, "its length is 0, and cosine needs a direction")
