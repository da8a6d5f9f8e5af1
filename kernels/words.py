"""The words of ASCII texts as hashes, and what each row has of them. `engine.vectors.words` says what a word is, and is the twin.

Texts are an Arrow array of strings: `offsets` (32-bit, 64-bit where `wide`), `data` and `validity` (0: none is null) are
addresses of its buffers, `first` the array's offset into them. Nothing here holds the interpreter's lock, however much text.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from kernels.compiled import kernel
from kernels.hashing import hash_lower
from kernels.memory import bit, load_i32, load_i64, load_u8
from kernels.signed import fills, reads, signed

Words = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]
Counts = npt.NDArray[np.uint32]

OTHER = -1
"""The count of a text that is not all ASCII."""

_I64, _U32, _U64, _BOOL = types.int64, types.uint32, types.uint64, types.boolean
_ADDRESSES = (_I64, _BOOL, _I64, _I64, _I64)
_FEW = 24
_IN_WORD = np.array([chr(code).isalnum() and code < 128 for code in range(256)], np.uint8)


@kernel(inline="always")
def _begin(offsets: int, wide: bool, index: int) -> int:
    return load_i64(offsets + 8 * index) if wide else np.int64(load_i32(offsets + 4 * index))


@signed(types.void(*_ADDRESSES, fills(_I64)))
def count_words(offsets: int, wide: bool, data: int, validity: int, first: int, counts: Longs) -> None:
    """Fills `counts` [n] with how many words each text has, OTHER where it is not ASCII; null has none."""
    for row in range(counts.shape[0]):
        found, before, seen = 0, 0, 0
        if bit(validity, first + row):
            for at in range(_begin(offsets, wide, first + row), _begin(offsets, wide, first + row + 1)):
                byte = load_u8(data + at)
                seen |= byte
                inside = np.int64(_IN_WORD[byte])
                found += inside & ~before
                before = inside
        counts[row] = OTHER if seen >= 128 else found


@signed(types.void(*_ADDRESSES, _I64, reads(_I64), reads(_I64), fills(_U64)))
def hash_words(
    offsets: int, wide: bool, data: int, validity: int, first: int, longest: int, counts: Longs, starts: Longs,
    hashes: Words,
) -> None:  # fmt: skip
    """Fills hashes[starts[i]:starts[i + 1]] with those of the words of text i, in order, where `counts` [n] is not OTHER. Of a
    word only the first `longest` letters count."""
    for row in range(counts.shape[0]):
        if counts[row] > 0:
            place = starts[row]
            at, end = _begin(offsets, wide, first + row), _begin(offsets, wide, first + row + 1)
            while at < end:
                if _IN_WORD[load_u8(data + at)]:
                    begin = at
                    while at < end and _IN_WORD[load_u8(data + at)]:
                        at += 1
                    hashes[place] = hash_lower(data + begin, min(at - begin, longest))
                    place += 1
                at += 1


@kernel()
def _sort(hashes: Words, begin: int, end: int) -> None:
    """Ascending; few by insertion."""
    if end - begin > _FEW:
        hashes[begin:end].sort()
        return
    for at in range(begin + 1, end):
        item, place = hashes[at], at
        while place > begin and hashes[place - 1] > item:
            hashes[place] = hashes[place - 1]
            place -= 1
        hashes[place] = item


@signed(_I64(reads(_I64), fills(_U64), fills(_I64), fills(_U32)))
def fold_words(starts: Longs, hashes: Words, ends: Longs, frequencies: Counts) -> int:
    """Makes what row i has, hashes[starts[i]:starts[i + 1]], ascending and each once, all rows close together.

    Row i then ends before `ends` [n][i]; `frequencies`, as long as `hashes`, says how often each was there. Returns the highest.
    """
    size, highest = 0, np.uint32(0)
    for row in range(ends.shape[0]):
        begin, end = starts[row], starts[row + 1]
        _sort(hashes, begin, end)
        for at in range(begin, end):
            if at > begin and hashes[at] == hashes[size - 1]:
                frequencies[size - 1] += np.uint32(1)
            else:
                hashes[size], frequencies[size] = hashes[at], 1
                size += 1
            highest = max(highest, frequencies[size - 1])
        ends[row] = size
    return np.int64(highest)
