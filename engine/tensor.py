"""Tensors as numpy views, with the datatypes of the Open Inference Protocol v2. It knows no wire message.

Raw content is little-endian, row-major. BYTES elements are each a 4-byte length and that many bytes, and live in numpy
as an object array of `bytes`. BF16 has no numpy dtype: its bits live in a uint16 array.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument, TooLarge, quoted
from engine.limits import STRING_BYTES_MAX, TENSOR_DIMENSIONS_MAX, TENSOR_ELEMENTS_MAX

Array = npt.NDArray[Any]
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class DataType:
    """One Open Inference Protocol datatype: its wire name, its numpy dtype and its bytes an element (None for BYTES)."""

    name: str
    dtype: np.dtype[Any]
    size: int | None

    def __repr__(self) -> str:
        return self.name


def _fixed(name: str, dtype: str) -> DataType:
    return DataType(name, np.dtype(dtype), np.dtype(dtype).itemsize)


BOOL = _fixed("BOOL", "?")
UINT8, UINT16, UINT32, UINT64 = (_fixed(f"UINT{8 * n}", f"<u{n}") for n in (1, 2, 4, 8))
INT8, INT16, INT32, INT64 = (_fixed(f"INT{8 * n}", f"<i{n}") for n in (1, 2, 4, 8))
FP16, FP32, FP64 = (_fixed(f"FP{8 * n}", f"<f{n}") for n in (2, 4, 8))
BF16 = _fixed("BF16", "<u2")
BYTES = DataType("BYTES", np.dtype(object), None)

DATATYPES: dict[str, DataType] = {
    each.name: each
    for each in (BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BF16, BYTES)
}


@dataclass(slots=True)  # not frozen: that costs four times as much to make, several times a request
class Tensor:
    """A typed array. `array.dtype` is always `datatype.dtype`; the array is C-contiguous and must not be written to.

    Neither are the fields, once it is made.
    """

    datatype: DataType
    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions, outermost first."""
        return self.array.shape

    @property
    def values(self) -> Array:
        """The elements as numpy can reckon with them: BF16 as float32 copies, all else the array itself."""
        return _bfloat16_values(self.array) if self.datatype is BF16 else self.array

    @staticmethod
    def from_raw(name: str, datatype: DataType, shape: Sequence[int], raw: Buffer) -> Tensor:
        """A tensor over `raw` without copying it (BYTES elements are copied out; unaligned content too).

        Raises InvalidArgument, naming the input, when the length of `raw` disagrees with the shape.
        """
        count = element_count(name, shape)
        if datatype.size is None:
            return Tensor(datatype, _object_array(split_bytes(name, raw, count), shape))
        if len(raw) != count * datatype.size:
            raise InvalidArgument(
                f"input {quoted(name)}: {datatype.name} of shape {list(shape)} takes {count * datatype.size} bytes, "
                f"got {len(raw)}"
            )
        array: Array = np.ndarray(shape, datatype.dtype, raw)
        return Tensor(datatype, array if type(raw) is bytes or array.flags.aligned else array.copy())

    @staticmethod
    def from_values(name: str, datatype: DataType, shape: Sequence[int], values: Sequence[Any] | Array) -> Tensor:
        """A tensor copied from a flat run of Python values or an array; out-of-range values raise InvalidArgument."""
        count = element_count(name, shape)
        if len(values) != count:
            raise InvalidArgument(
                f"input {quoted(name)}: shape {list(shape)} takes {count} elements, got {len(values)}"
            )
        if datatype.size is None:
            return Tensor(datatype, _object_array(check_strings(name, values), shape))
        try:
            fitted = _bfloat16_bits(values) if datatype is BF16 else _fitted(values, datatype.dtype)
            return Tensor(datatype, fitted.reshape(shape))
        except (OverflowError, ValueError, TypeError) as error:
            raise InvalidArgument(f"input {quoted(name)}: a value does not fit {datatype.name}: {error}") from error

    @staticmethod
    def from_texts(texts: Sequence[str], shape: Sequence[int] = (-1,)) -> Tensor:
        """BYTES of texts that have a UTF-8 form, [n] unless `shape` says otherwise."""
        return Tensor(BYTES, _object_array([each.encode() for each in texts], shape))

    def to_raw(self) -> bytes | memoryview:
        """The raw content: a view of the array where it can be one, little-endian and row-major."""
        if self.datatype.size is None:
            return join_bytes(self.array.ravel().tolist())
        return np.ascontiguousarray(self.array, self.datatype.dtype).reshape(-1).view(np.uint8).data

    def to_bytes(self) -> bytes:
        """A copy of the raw content, little-endian and row-major."""
        return self.array.tobytes() if self.datatype.size is not None else join_bytes(self.array.ravel().tolist())

    @property
    def bytes_size(self) -> int:
        """Bytes of raw content, as batching counts them."""
        if self.datatype.size is not None:
            return self.array.nbytes
        return sum(len(each) for each in self.array.flat) + 4 * self.array.size


def datatype_named(name: str, *, of: str) -> DataType:
    """The datatype called `name`; InvalidArgument, naming the tensor `of`, where there is none."""
    found = DATATYPES.get(name)
    if found is None:
        raise InvalidArgument(f"input {quoted(of)}: unknown datatype {quoted(name)}; known: {', '.join(DATATYPES)}")
    return found


def element_count(name: str, shape: Sequence[int]) -> int:
    """The product of `shape`, checked: no negative dimension, bounded rank, bounded product."""
    if len(shape) > TENSOR_DIMENSIONS_MAX:
        raise InvalidArgument(
            f"input {quoted(name)}: {len(shape)} dimensions, at most {TENSOR_DIMENSIONS_MAX} are allowed"
        )
    count = beside_zeros = 1
    for size in shape:
        if size < 0:
            raise InvalidArgument(f"input {quoted(name)}: shape {list(shape)} has a negative dimension")
        count *= size
        beside_zeros *= size or 1  # numpy multiplies these too
    if beside_zeros > TENSOR_ELEMENTS_MAX:
        raise InvalidArgument(
            f"input {quoted(name)}: shape {list(shape)[:8]} overflows: at most {TENSOR_ELEMENTS_MAX} elements are allowed"
        )
    return count


def _fitted(values: Sequence[Any] | Array, dtype: np.dtype[Any]) -> Array:
    """A copy of `values` as `dtype`; ValueError where numpy would silently cut, wrap, parse or overflow one."""
    given = np.asarray(values)
    if given.size and given.dtype.kind not in "biuf":
        raise ValueError("not numbers, or beyond 64 bits")
    with np.errstate(all="ignore"):
        array = np.array(values, dtype, order="C")
    changed = np.isinf(array) & np.isfinite(given) if dtype.kind == "f" else array != given
    if changed.any():
        raise ValueError(f"{given[changed].flat[0]}")
    return array


def _bfloat16_values(bits: Array) -> Array:
    """The float32 values of an array of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _bfloat16_bits(values: Sequence[Any] | Array) -> Array:
    """The bits of `values` rounded to bfloat16, ties to even; a NaN stays one."""
    exact = _fitted(values, np.dtype(np.float32))
    wide = exact.view(np.uint32).astype(np.uint64)
    bits = ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)
    bits[np.isnan(exact)] = 0x7FC0
    return bits


def split_bytes(name: str, raw: Buffer, count: int) -> list[bytes]:
    """The elements of raw BYTES content, which must hold exactly `count` of them."""
    if len(raw) < 4 * count:  # before any loop: each element has a 4-byte length
        raise InvalidArgument(
            f"input {quoted(name)}: {count} BYTES elements take at least {4 * count} bytes, got {len(raw)}"
        )
    view, elements, at, end = bytes(raw), [], 0, len(raw)
    for index in range(count):
        if at + 4 > end:
            raise InvalidArgument(f"input {quoted(name)}: BYTES content ends before element {index} of {count}")
        (length,) = _LENGTH.unpack_from(view, at)
        at += 4
        if at + length > end:
            raise InvalidArgument(
                f"input {quoted(name)}: BYTES element {index} claims {length} bytes, {end - at} are left"
            )
        if length > STRING_BYTES_MAX:
            raise _string_too_long(name, index, length)
        elements.append(view[at : at + length])
        at += length
    if at != end:
        raise InvalidArgument(f"input {quoted(name)}: {end - at} bytes follow the last of {count} BYTES elements")
    return elements


def join_bytes(elements: Iterable[bytes]) -> bytes:
    """Raw BYTES content of `elements`."""
    pack = _LENGTH.pack
    return b"".join([pack(len(each)) + each for each in elements])


def check_strings(name: str, values: Iterable[Any]) -> list[bytes]:
    """`values` as bytes, text encoded as UTF-8: the list itself where it is one of bytes. InvalidArgument for anything else,
    TooLarge past the bound."""
    given = values if isinstance(values, list) else list(values)
    if set(map(type, given)) <= {bytes} and max(map(len, given), default=0) <= STRING_BYTES_MAX:
        return given
    elements = []
    for index, value in enumerate(given):
        if not isinstance(value, str | bytes):
            raise InvalidArgument(
                f"input {quoted(name)}: BYTES element {index} must be a string, got {type(value).__name__}"
            )
        encoded = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        if len(encoded) > STRING_BYTES_MAX:
            raise _string_too_long(name, index, len(encoded))
        elements.append(encoded)
    return elements


def _string_too_long(name: str, index: int, length: int) -> TooLarge:
    return TooLarge(
        f"input {quoted(name)}: BYTES element {index} has {length} bytes, at most {STRING_BYTES_MAX} are allowed"
    )


def _object_array(elements: list[bytes], shape: Sequence[int]) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


_LENGTH = struct.Struct("<I")
