"""Arrow columns as clients send them, made into the one type that is kept, where nothing is lost. It knows no points.

What is wrong with one value is raised as `BadValue`, which says where; what is wrong with a whole column as InvalidArgument by
those who know its name, for which the functions here return None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import InvalidArgument, TooLarge, VireoError
from engine.limits import LOG_BATCH_BYTES_MAX

Longs = npt.NDArray[np.int64]
LIST_VALUES_MAX: Final = (1 << 31) - 1
"""Values of all lists of one column: Arrow's offsets have 32 bits."""


class BadValue(Exception):
    """A value that cannot be taken: its row in the column, and what is wrong with it."""

    def __init__(self, row: int, problem: str, kind: type[VireoError] = InvalidArgument) -> None:
        super().__init__(row, problem)
        self.row, self.problem, self.kind = row, problem, kind


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """A column of lists: `valid` bool [n], None is all; `offsets` int64 [n + 1] into `flat`; a null one has no values."""

    valid: npt.NDArray[np.bool_] | None
    offsets: Longs
    flat: pa.Array

    @property
    def lengths(self) -> Longs:
        """How many values each has."""
        return np.diff(self.offsets)

    def row_of(self, value: int) -> int:
        """Which list has a value of `flat`."""
        return int(np.searchsorted(self.offsets, value, side="right")) - 1

    def column(self, flat: pa.Array) -> pa.ListArray:
        """The same lists with other values."""
        mask = None if self.valid is None else pa.array(~self.valid)
        return pa.ListArray.from_arrays(pa.array(self.offsets.astype(np.int32)), flat, mask=mask)


def is_listed(kind: pa.DataType) -> bool:
    """A list of any sort."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def lists_of(column: pa.Array) -> Lists | None:
    """The lists of a column, None where it has none. Raises TooLarge."""
    if not is_listed(column.type):
        return None
    column = sound_if_empty(column)
    valid = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    if valid is not None:
        lengths[~valid] = 0
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    overlap = pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type)
    bound = LOG_BATCH_BYTES_MAX if overlap else LIST_VALUES_MAX
    if offsets[-1] > bound:
        raise TooLarge(f"{offsets[-1]} values in one column, at most {bound} are allowed")
    return Lists(valid, offsets, column.flatten() if offsets[-1] else sound_if_empty(column.values.slice(0, 0)))


def sound_if_empty(column: pa.Array) -> pa.Array:
    """`column`, anew where it has no rows: Arrow validates no offset of such a column, and ends the process if it leads elsewhere
    (26.0)."""
    return column if len(column) else pa.array([], column.type)


def compact(column: pa.Array) -> pa.Array:
    """The same with nothing left under its nulls."""
    return column.take(pa.array(np.arange(len(column)))) if column.null_count else column


def strings(column: pa.Array) -> pa.StringArray | None:
    """A column of strings of any sort, dictionaries too, as strings. Raises TooLarge."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return None
        column = _decoded(column)
        kind = column.type
    if not _is_text(kind):
        return None
    if not pa.types.is_string(kind):
        _check_bytes(_bytes_of(column))
        column = _sound_views(column).cast(pa.string())
    return compact(column)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _decoded(column: pa.DictionaryArray) -> pa.Array:
    """A few values may be meant by many rows: what they come to is counted first."""
    sizes = string_bytes(column.dictionary)
    indices = column.indices.drop_null().to_numpy()
    _check_bytes(int(sizes[indices].sum()))
    dictionary = column.dictionary
    if pa.types.is_string_view(dictionary.type):
        _check_bytes(_bytes_of(dictionary))
        column = pa.DictionaryArray.from_arrays(column.indices, _sound_views(dictionary).cast(pa.string()))
    return column.dictionary_decode()


def string_bytes(column: pa.Array) -> Longs:
    """Bytes of each string, int64 [n], 0 of null."""
    if not pa.types.is_string_view(column.type):
        return np.asarray(pc.binary_length(column).fill_null(0), np.int64)
    found = _views_of(column)[:, 0].astype(np.int64)
    if column.null_count:
        found[~column.is_valid().to_numpy(zero_copy_only=False)] = 0
    return found


def _views_of(column: pa.StringViewArray) -> npt.NDArray[np.int32]:
    """Of each string its size, and where it is, [n, 4]."""
    if not len(column):
        return np.zeros((0, 4), np.int32)
    return np.frombuffer(column.buffers()[1], np.int32, 4 * len(column), 16 * column.offset).reshape(-1, 4)


def _sound_views(column: pa.Array) -> pa.Array:
    """`column` without the views of its nulls: Arrow does not validate them, but follows them when it casts (26.0)."""
    if not column.null_count or not pa.types.is_string_view(column.type):
        return column
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    views = np.where(valid[:, np.newaxis], _views_of(column), np.int32(0))
    bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(column.type, len(column), [bits, pa.py_buffer(views), *column.buffers()[2:]])


def _bytes_of(column: pa.Array) -> int:
    return int(string_bytes(column).sum())


def _check_bytes(total: int) -> None:
    if total > LOG_BATCH_BYTES_MAX:
        raise TooLarge(f"{total} bytes of text in one column, at most {LOG_BATCH_BYTES_MAX} are allowed")


def damaged_row(column: pa.Array) -> int | None:
    """The row of the first value that Arrow's full validation refuses, for example text that is not UTF-8; None where it is the
    column, not a value, that is damaged. Nothing is read that may not be there."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        row = _list_of(column, damaged_row(column.values))
    elif pa.types.is_fixed_size_list(kind):
        at = damaged_row(column.values)
        row = None if at is None else at // max(kind.list_size, 1) - column.offset
    else:
        row = first_failing(column, lambda part: part.validate(full=True))
    return row if row is not None and 0 <= row < len(column) else None


def _list_of(column: pa.ListArray, value: int | None) -> int | None:
    """The row of a list that has a value, by offsets that nobody has checked."""
    wide = np.dtype(np.int32 if pa.types.is_list(column.type) else np.int64)
    offsets = column.buffers()[1]
    if value is None or offsets is None or offsets.size < (column.offset + len(column) + 1) * wide.itemsize:
        return None
    found = np.frombuffer(offsets, wide, len(column) + 1, column.offset * wide.itemsize)
    return int(np.searchsorted(found, value, side="right")) - 1


def first_failing(column: pa.Array, attempt: Callable[[pa.Array], object]) -> int | None:
    """The row at which `attempt` raises ArrowException, which looks at each value alone; None if it passes."""

    def fails(rows: int) -> bool:
        try:
            attempt(column.slice(0, rows))
        except pa.ArrowException:
            return True
        return False

    if not fails(len(column)):
        return None
    passing, failing = 0, len(column)
    while failing - passing > 1:
        middle = (passing + failing) // 2
        passing, failing = (passing, middle) if fails(middle) else (middle, failing)
    return passing


def exact(column: pa.Array, kind: pa.DataType, expected: str) -> pa.Array:
    """`column` as `kind`, where every value stays what it is. Raises BadValue."""
    if column.type == kind:
        return compact(column)

    def attempt(part: pa.Array) -> pa.Array:
        return part.cast(kind)

    try:
        return compact(attempt(column))
    except pa.ArrowInvalid:
        at = first_failing(column, attempt)
        raise BadValue(at or 0, f"expected {expected}, got {_shown(column, at or 0)}") from None


def _shown(column: pa.Array, row: int) -> str:
    """A number or an instant, without Python's idea of it: it has fewer years."""
    kind = column.type
    value = column[row].cast(pa.int64()) if pa.types.is_timestamp(kind) else column[row]
    return f"{value.as_py()}{' ' + kind.unit if pa.types.is_timestamp(kind) else ''}"


def singles(column: pa.Array) -> npt.NDArray[np.float32] | None:
    """Numbers without nulls as float32, None where they are none; what is too large becomes infinite."""
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return None
    with np.errstate(over="ignore"):
        return np.require(column.to_numpy(zero_copy_only=False), np.float32, ["C", "A"])


def first_null(column: pa.Array) -> int | None:
    """The row of the first null."""
    if not column.null_count:
        return None
    return int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
