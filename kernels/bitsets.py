"""Sets of rows as bits: bit i of byte i // 8, counted from the least, as numpy.packbits(bitorder="little") and FAISS have them.

A set of n rows is uint8 [ceil(n / 8)], and bits past the rows are 0. Results are as long as `out`; operands at least so.
Rows are int64 and must be within the set: nothing is checked. Kernels go over bytes where the compiler takes 64 at once
anyhow, else over 64-bit words. `reference_vectors` has the readable twins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from kernels.compiled import kernel
from kernels.instructions import borrowed, lowest, ones
from kernels.signed import fills, reads, signed

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

_I64, _U8 = types.int64, types.uint8
_BITS, _OUT, _ROWS = reads(_U8), fills(_U8), reads(_I64)


def bitset_bytes(rows: int) -> int:
    """The bytes of a set of so many rows."""
    return (rows + 7) >> 3


@kernel(inline="always")
def has(bits: Bytes, row: int) -> bool:
    """Whether a row is in a set. For use in kernels."""
    return (bits[row >> 3] >> np.uint8(row & 7)) & np.uint8(1) != 0


@kernel()
def word_at(bits: Bytes, word: int) -> int:
    """64 bits of a set, as uint64, 0 past its end. For use in kernels."""
    first = word * 8
    if first + 8 <= bits.shape[0]:
        return bits[first : first + 8].view(np.uint64)[0]
    found = np.uint64(0)
    for at in range(first, bits.shape[0]):
        found |= np.uint64(bits[at]) << np.uint64(8 * (at - first))
    return found


@signed(types.void(_BITS, _BITS, _OUT), quick=True)
def intersect(one: Bytes, other: Bytes, out: Bytes) -> None:
    """Rows in both; `out` may be one of them."""
    for at in range(out.shape[0]):
        out[at] = one[at] & other[at]


@signed(types.void(_BITS, _BITS, _OUT))
def unite(one: Bytes, other: Bytes, out: Bytes) -> None:
    """Rows in either; `out` may be one of them."""
    for at in range(out.shape[0]):
        out[at] = one[at] | other[at]


@signed(types.void(_BITS, _BITS, _OUT))
def subtract(one: Bytes, other: Bytes, out: Bytes) -> None:
    """Rows in `one` and not in `other`; `out` may be one of them."""
    for at in range(out.shape[0]):
        out[at] = one[at] & ~other[at]


@signed(types.void(_BITS, _I64, _OUT))
def invert(bits: Bytes, rows: int, out: Bytes) -> None:
    """Those of the first `rows` rows that are not in the set; `out` may be the set."""
    for at in range(out.shape[0]):
        out[at] = ~bits[at]
    _cut(out, rows)


@kernel()
def _cut(bits: Bytes, rows: int) -> None:
    """Clears what is past the first `rows`."""
    whole = rows >> 3
    if whole < bits.shape[0]:
        bits[whole] &= np.uint8((1 << (rows & 7)) - 1)
        for at in range(whole + 1, bits.shape[0]):
            bits[at] = 0


@signed(_I64(_BITS), quick=True)
def count(bits: Bytes) -> int:
    """How many rows are in the set."""
    total, whole = np.uint64(0), bits.shape[0] >> 3
    words = bits[: whole * 8].view(np.uint64)
    for at in range(whole):
        total += ones(words[at])
    for at in range(whole * 8, bits.shape[0]):
        total += np.uint64(ones(bits[at]))
    return np.int64(total)


@signed(_I64(_BITS, _BITS), quick=True)
def count_both(one: Bytes, other: Bytes) -> int:
    """How many rows are in both of two sets, as far as the shorter goes."""
    size = min(one.shape[0], other.shape[0])
    total, whole = np.uint64(0), size >> 3
    words, others = one[: whole * 8].view(np.uint64), other[: whole * 8].view(np.uint64)
    for at in range(whole):
        total += ones(words[at] & others[at])
    for at in range(whole * 8, size):
        total += np.uint64(ones(one[at] & other[at]))
    return np.int64(total)


@signed(_I64(_OUT, _ROWS), quick=True)
def set_rows(bits: Bytes, rows: Longs) -> int:
    """Puts rows into the set, in any order; returns how many were not in it."""
    changed = 0
    for index in range(rows.shape[0]):
        at, mask = rows[index] >> 3, np.uint8(1 << (rows[index] & 7))
        changed += (bits[at] & mask) == 0
        bits[at] |= mask
    return changed


@signed(_I64(_OUT, _ROWS), quick=True)
def clear_rows(bits: Bytes, rows: Longs) -> int:
    """Takes rows out of the set, in any order; returns how many were in it."""
    changed = 0
    for index in range(rows.shape[0]):
        at, mask = rows[index] >> 3, np.uint8(1 << (rows[index] & 7))
        changed += (bits[at] & mask) != 0
        bits[at] &= ~mask
    return changed


@signed(types.void(_OUT, _I64, _I64), quick=True)
def fill_range(bits: Bytes, begin: int, end: int) -> None:
    """Puts rows begin to end - 1 into the set."""
    for row in range(begin, min(end, (begin + 7) & ~7)):
        bits[row >> 3] |= np.uint8(1 << (row & 7))
    begin = (begin + 7) & ~7
    for at in range(begin >> 3, end >> 3):
        bits[at] = np.uint8(255)
    for row in range(max(begin, end & ~7), end):
        bits[row >> 3] |= np.uint8(1 << (row & 7))


@signed(types.void(_OUT, _I64, _I64), quick=True)
def clear_range(bits: Bytes, begin: int, end: int) -> None:
    """Takes rows begin to end - 1 out of the set."""
    for row in range(begin, min(end, (begin + 7) & ~7)):
        bits[row >> 3] &= ~np.uint8(1 << (row & 7))
    begin = (begin + 7) & ~7
    for at in range(begin >> 3, end >> 3):
        bits[at] = np.uint8(0)
    for row in range(max(begin, end & ~7), end):
        bits[row >> 3] &= ~np.uint8(1 << (row & 7))


@kernel()
def members(bits: Bytes, begin: int, end: int, rows: Longs) -> int:
    """`next_rows` below `end`, for use in kernels."""
    found, room, bits, rows = 0, rows.shape[0], borrowed(bits), borrowed(rows)
    word, words = begin >> 6, (min(end, bits.shape[0] * 8) + 63) >> 6
    keep = ~np.uint64(0) << np.uint64(begin & 63)
    while word < words and found < room:
        left = word_at(bits, word) & keep
        if word == end >> 6:
            left &= (np.uint64(1) << np.uint64(end & 63)) - np.uint64(1)
        keep = ~np.uint64(0)
        while left and found < room:
            rows[found] = word * 64 + np.int64(lowest(left))
            left &= left - np.uint64(1)
            found += 1
        word += 1
    return found


@signed(_I64(_BITS, _I64, fills(_I64)))
def next_rows(bits: Bytes, begin: int, rows: Longs) -> int:
    """Fills `rows` with the set's rows from `begin` on, ascending, until it is full; returns how many were found.

    With `begin` 0 and room for `count(bits)` it is the whole set.
    """
    return members(bits, begin, bits.shape[0] * 8, rows)
