"""64-bit hashes of whole numbers and byte strings, the same on every machine and in every version: they are stored.

A number's hash is a bijection (the finaliser of MurmurHash3, Appleby 2008), so two numbers never collide. A string is taken
eight bytes at a time by multiply and rotate, and finalised alike; a second, independent 32-bit `check` makes the chance that
two of a hundred million strings are taken for one about 1 in 10**13.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types, uint32, uint64

from kernels.compiled import kernel
from kernels.memory import bit, load_i32, load_i64, load_u8, load_u64
from kernels.signed import fills, signed

NO_CHECK = 0
"""Of numbers, which need none."""

_K1, _K2, _K3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)
_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_S33, _S29, _S35, _S3, _S8 = np.uint64(33), np.uint64(29), np.uint64(35), np.uint64(3), np.uint64(8)

_SMALL = np.uint64(0x2020202020202020)
"""What small ASCII letters and digits have in each byte, and capitals lack."""


@kernel(inline="always")
def mix(value: int) -> int:
    """A bijection of 64-bit words in which every bit depends on every bit."""
    word = uint64(value) ^ _K1
    word = (word ^ (word >> _S33)) * _M1
    word = (word ^ (word >> _S33)) * _M2
    return word ^ (word >> _S33)


@kernel()
def hash_bytes(address: int, length: int) -> int:
    """The hash of `length` bytes at `address`."""
    word = uint64(length) * _K3 ^ _K2
    at = 0
    while at + 8 <= length:
        word = _absorb(word, load_u64(address + at))
        at += 8
    if at < length:
        tail = uint64(0)
        for index in range(length - 1, at - 1, -1):
            tail = (tail << _S8) | uint64(load_u8(address + index))
        word = _absorb(word, tail)
    return mix(word)


@kernel()
def hash_lower(address: int, length: int) -> int:
    """The hash of `length` ASCII letters and digits at `address`, capitals made small, which is one bit."""
    word = uint64(length) * _K3 ^ _K2
    at = 0
    while at + 8 <= length:
        word = _absorb(word, load_u64(address + at) | _SMALL)
        at += 8
    if at < length:
        tail = uint64(0)
        for index in range(length - 1, at - 1, -1):
            tail = (tail << _S8) | uint64(load_u8(address + index)) | _SMALL & uint64(0xFF)
        word = _absorb(word, tail)
    return mix(word)


@kernel(inline="always")
def _absorb(word: int, piece: int) -> int:
    word = word ^ (piece * _K1)
    return ((word << _S29) | (word >> _S35)) * _K2 + _K3


@signed(types.void(types.int64, fills(types.uint64)))
def hash_numbers(values: int, hashes: npt.NDArray[np.uint64]) -> None:
    """Fills `hashes` (uint64 [n]) with those of n 64-bit words at address `values`.

    An address, because for arrays that must not be written to numba would compile another kernel, on the request that brings one.
    """
    for index in range(hashes.shape[0]):
        hashes[index] = mix(load_u64(values + 8 * index))


@signed(
    types.void(
        types.int64, types.boolean, types.int64, types.int64, types.int64, fills(types.uint64), fills(types.uint32)
    )
)
def hash_strings(
    offsets: int, wide: bool, data: int, validity: int, first: int,
    hashes: npt.NDArray[np.uint64], checks: npt.NDArray[np.uint32],
) -> None:  # fmt: skip
    """Fills `hashes` (uint64 [n]) and `checks` (uint32 [n], below 2**31) for n strings of an Arrow array.

    `offsets` (32-bit, 64-bit where `wide`), `data` and `validity` (0: none is null) are addresses of its buffers, `first` the
    array's offset into them. A null hashes to 0.
    """
    for index in range(hashes.shape[0]):
        if bit(validity, first + index):
            if wide:
                begin, end = load_i64(offsets + 8 * (first + index)), load_i64(offsets + 8 * (first + index + 1))
            else:
                begin = np.int64(load_i32(offsets + 4 * (first + index)))
                end = np.int64(load_i32(offsets + 4 * (first + index + 1)))
            word = hash_bytes(data + begin, end - begin)
            hashes[index] = word
            checks[index] = _check(data + begin, end - begin)
        else:
            hashes[index] = uint64(0)
            checks[index] = uint32(0)


@kernel()
def _check(address: int, length: int) -> int:
    """FNV-1a (Fowler, Noll, Vo), of another family than the hash, cut to 31 bits."""
    word = uint32(2166136261)
    for index in range(length):
        word = uint32((word ^ uint32(load_u8(address + index))) * uint32(16777619))
    return word & uint32(0x7FFFFFFF)
