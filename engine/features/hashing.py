"""Hashes of Arrow values: who an entity is, which event this is, and which slot of a distinct count a value falls into."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kernels.hashing import hash_numbers, hash_strings

Hashes = npt.NDArray[np.uint64]
Checks = npt.NDArray[np.uint32]


_DICTIONARY = pa.lib.Type_DICTIONARY
_WIDE = {pa.lib.Type_LARGE_STRING, pa.lib.Type_LARGE_BINARY}
_TEXTS = {pa.lib.Type_STRING, pa.lib.Type_BINARY} | _WIDE
_AS_THEY_ARE = {pa.lib.Type_INT64, pa.lib.Type_UINT64, pa.lib.Type_TIMESTAMP}


def hash_values(values: pa.Array) -> Hashes:
    """uint64 [n] of whole numbers, bools, numbers, instants or texts; what is null hashes to anything. Equal values of any
    integer width are equal."""
    return hash_keys(values)[0]


def hash_keys(values: pa.Array) -> tuple[Hashes, Checks | None]:
    """As `hash_values`, and for texts a second, independent hash (uint32 [n])."""
    kind = values.type
    if kind.id == _DICTIONARY:
        values, kind = values.cast(kind.value_type), kind.value_type
    hashes = np.empty(len(values), np.uint64)
    if kind.id in _TEXTS:
        checks = np.empty(len(values), np.uint32)
        validity, offsets, data = values.buffers()
        hash_strings(
            offsets.address, kind.id in _WIDE, _address(data), _address(validity), values.offset, hashes, checks
        )
        return hashes, checks
    if kind.id in _AS_THEY_ARE and not values.null_count:
        hash_numbers(_address(values.buffers()[1]) + 8 * values.offset, hashes)
    else:
        words = _words(values, kind)
        hash_numbers(words.ctypes.data, hashes)
    return hashes, None


def _address(buffer: pa.Buffer | None) -> int:
    return 0 if buffer is None else buffer.address


def _words(values: pa.Array, kind: pa.DataType) -> npt.NDArray[np.int64]:
    """The values as 64-bit words; 0 where null."""
    if pa.types.is_floating(kind):
        numbers = filled(values.cast(pa.float64()), 0.0) + 0.0  # -0.0 becomes 0.0
        return numbers.view(np.int64)
    if pa.types.is_timestamp(kind) or pa.types.is_uint64(kind):
        return filled(values.view(pa.int64()), 0)
    if pa.types.is_date(kind):
        values = values.cast(pa.int32())
    return filled(values.cast(pa.int64()), 0)


def filled(values: pa.Array, value: Any) -> npt.NDArray[Any]:  # noqa: ANN401  of the array's type
    """The values as a numpy array, `value` where null; without a copy where nothing is."""
    whole = values if values.null_count == 0 else pc.fill_null(values, value)
    array: npt.NDArray[Any] = whole.to_numpy(zero_copy_only=False)
    return array
