"""Which rows have a term, and the best of them by BM25 or by the dot product of sparse vectors.

A sealed segment is inverted: term i, of `terms` uint64 [t], ascending, is in rows[offsets[i]:offsets[i + 1]], uint32, ascending,
with as many frequencies (uint16, uint32) or weights (float32). A growing segment is rows as they came: row i has
terms[starts[i]:starts[i + 1]], uint64 hashes or uint32 indices, each once. Sums of sealed rows are kept in `sums` float32 [n],
which is `UNTOUCHED` throughout between queries, and only what a query touched is put back; `touched` int64 [n + 1] is room for
which. Both are one thread's. A bitset `chosen` leaves the other rows out, empty: all are in.

BM25 (Robertson and Zaragoza, 2009): idf f (k1 + 1) / (f + k1 (1 - b + b length / mean length)), summed over the query's terms.
`idf` and the mean length are given: they are of the whole collection. `reference_vectors` has the readable twins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from kernels.bitsets import has
from kernels.compiled import kernel
from kernels.hashing import mix
from kernels.instructions import borrowed
from kernels.ranking import offer, sort_heap
from kernels.signed import fills, reads, signed

Words = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]
Rows = npt.NDArray[np.uint32]
Counts = npt.NDArray[Any]
Singles = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

UNTOUCHED = np.float32(-np.inf)
"""The sum of a row that has none of a query's terms."""

_LEAST = np.finfo(np.float32).min

ABSENT = -1
"""The ordinal of a term that no row has."""

_I64, _F32, _U8, _U16, _U32, _U64 = types.int64, types.float32, types.uint8, types.uint16, types.uint32, types.uint64
_FREQUENCIES = (_U16, _U32)
_QUICK_SLOTS = 2048
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def new_sums(rows: int) -> tuple[Singles, Longs]:
    """`sums` and `touched` of a segment of so many rows; `touched` has one place more, to write to in vain."""
    return np.full(rows, UNTOUCHED, np.float32), np.empty(rows + 1, np.int64)


@signed(types.void(reads(_U64), reads(_U64), fills(_I64)), quick=True)
def find_terms(terms: Words, wanted: Words, ordinals: Longs) -> None:
    """Fills `ordinals` [q] with the place in `terms` of each of `wanted` [q], ABSENT where it is not there."""
    for index in range(wanted.shape[0]):
        low, high = 0, terms.shape[0]
        while low < high:
            middle = (low + high) >> 1
            if terms[middle] < wanted[index]:
                low = middle + 1
            else:
                high = middle
        ordinals[index] = low if low < terms.shape[0] and terms[low] == wanted[index] else ABSENT


@kernel(inline="always")
def _add(sums: Singles, touched: Longs, count: int, row: int, gain: float) -> int:
    """Without a branch, which would be guessed wrong. A sum that overflows stays finite below: it must not look untouched."""
    before = sums[row]
    new = before == UNTOUCHED
    touched[count], sums[row] = row, max(gain + (np.float32(0) if new else before), _LEAST)
    return count + new


@kernel(inline="always")
def _gain(scale: float, often: int, flat: float, slope: float, length: int) -> float:
    """What a term adds to BM25, rounded alike wherever it is asked, so that a row scores the same growing and sealed."""
    frequency = np.float32(often)
    return np.float32(scale * frequency / (frequency + flat + slope * np.float32(length)))


@kernel()
def _best_touched(
    sums: Singles, touched: Longs, count: int, chosen: Bytes, best_scores: Singles, best_rows: Longs
) -> int:
    """The best of the touched rows; their sums are put back."""
    sums, touched, chosen = borrowed(sums), borrowed(touched), borrowed(chosen)
    best_scores, best_rows = borrowed(best_scores), borrowed(best_rows)
    size, everything = 0, chosen.shape[0] == 0
    for index in range(count):
        row = touched[index]
        score = sums[row]
        sums[row] = UNTOUCHED
        if everything or has(chosen, row):
            size = offer(best_scores, best_rows, size, score, row)
    sort_heap(best_scores, best_rows, size)
    return size


@signed(
    _I64(
        reads(_I64), reads(_U32), reads(_F32), reads(_I64), reads(_F32), reads(_U8), fills(_F32), fills(_I64),
        fills(_F32), fills(_I64),
    )
)  # fmt: skip
def best_by_weights(
    offsets: Longs, rows: Rows, weights: Singles, ordinals: Longs, query: Singles, chosen: Bytes, sums: Singles,
    touched: Longs, best_scores: Singles, best_rows: Longs,
) -> int:  # fmt: skip
    """The highest dot products with a sparse query, whose terms are `ordinals` [q] (ABSENT: none) and weights `query` [q].

    Fills `best_*` [k], the best first; returns how many there are: only rows with one of the terms.
    """
    kept_sums, kept_touched = borrowed(sums), borrowed(touched)
    count = 0
    for index in range(ordinals.shape[0]):
        if ordinals[index] >= 0:
            for at in range(offsets[ordinals[index]], offsets[ordinals[index] + 1]):
                count = _add(kept_sums, kept_touched, count, np.int64(rows[at]), query[index] * weights[at])
    return _best_touched(sums, touched, count, chosen, best_scores, best_rows)


@signed(
    *(
        _I64(
            reads(_I64), reads(_U32), reads(each), reads(_U32), reads(_I64), reads(_F32), _F32, _F32, _F32, reads(_U8),
            fills(_F32), fills(_I64), fills(_F32), fills(_I64),
        )
        for each in _FREQUENCIES
    )
)  # fmt: skip
def best_by_bm25(
    offsets: Longs, rows: Rows, frequencies: Counts, lengths: Rows, ordinals: Longs, idf: Singles, mean_length: float,
    k1: float, b: float, chosen: Bytes, sums: Singles, touched: Longs, best_scores: Singles, best_rows: Longs,
) -> int:  # fmt: skip
    """The best by BM25 of the rows with one of the terms `ordinals` [q] (ABSENT: none), each of `idf` [q].

    `lengths` uint32 [n]: words of each row. Fills `best_*` [k], the best first; returns how many there are.
    """
    kept_sums, kept_touched = borrowed(sums), borrowed(touched)
    flat, slope = np.float32(k1 * (1 - b)), np.float32(k1 * b / mean_length)
    count = 0
    for index in range(ordinals.shape[0]):
        if ordinals[index] >= 0:
            scale = np.float32(idf[index] * (k1 + 1))
            for at in range(offsets[ordinals[index]], offsets[ordinals[index] + 1]):
                row = np.int64(rows[at])
                gain = _gain(scale, frequencies[at], flat, slope, lengths[row])
                count = _add(kept_sums, kept_touched, count, row, gain)
    return _best_touched(sums, touched, count, chosen, best_scores, best_rows)


@kernel(inline="always")
def _spread(term: int, mask: int) -> int:
    """A quick hash, for a table that is nearly empty."""
    return np.int64((np.uint64(term) * _MULTIPLIER) >> np.uint64(40)) & mask


@kernel()
def _asked(wanted: Counts) -> Longs:
    """An open-addressing table of places in `wanted`, -1 where there is none; of equals the first.

    Nearly empty while that is cheap: then that a term is not asked for is guessed right.
    """
    slots = 64
    while slots < 8 * wanted.shape[0] or slots < min(64 * wanted.shape[0], _QUICK_SLOTS):
        slots *= 2
    table = np.full(slots, -1, np.int64)
    for index in range(wanted.shape[0]):
        at = _spread(wanted[index], slots - 1)
        while table[at] >= 0 and wanted[table[at]] != wanted[index]:
            at = (at + 1) & (slots - 1)
        if table[at] < 0:
            table[at] = index
    return table


@kernel(inline="always")
def _place(table: Longs, wanted: Counts, term: int) -> int:
    """The place of a term in `wanted`, -1 where it is not."""
    mask = table.shape[0] - 1
    at = _spread(term, mask)
    while table[at] >= 0 and wanted[table[at]] != term:
        at = (at + 1) & mask
    return table[at]


@signed(*(types.void(reads(_I64), reads(each), _I64, reads(_U8), reads(each), fills(_I64)) for each in (_U64, _U32)))
def scan_counts(starts: Longs, terms: Counts, rows: int, chosen: Bytes, wanted: Counts, counts: Longs) -> None:
    """Fills `counts` [q] with how many of the first `rows` rows of a growing segment have each of `wanted` [q], all different."""
    counts[:] = 0
    own_table = _asked(wanted)
    table, wanted, everything = borrowed(own_table), borrowed(wanted), chosen.shape[0] == 0
    for row in range(rows):
        if everything or has(chosen, row):
            for at in range(starts[row], starts[row + 1]):
                place = _place(table, wanted, terms[at])
                if place >= 0:
                    counts[place] += 1
    own_table[0] = -1


@signed(
    *(
        _I64(
            reads(_I64), reads(_U64), reads(each), reads(_U32), _I64, reads(_U64), reads(_F32), _F32, _F32, _F32,
            reads(_U8), fills(_F32), fills(_I64),
        )
        for each in _FREQUENCIES
    )
)  # fmt: skip
def scan_by_bm25(
    starts: Longs, terms: Words, frequencies: Counts, lengths: Rows, rows: int, wanted: Words, idf: Singles,
    mean_length: float, k1: float, b: float, chosen: Bytes, best_scores: Singles, best_rows: Longs,
) -> int:  # fmt: skip
    """As `best_by_bm25`, of the first `rows` rows of a growing segment; `wanted` [q] are term hashes, all different."""
    flat, slope = np.float32(k1 * (1 - b)), np.float32(k1 * b / mean_length)
    size, everything = 0, chosen.shape[0] == 0
    own_table = _asked(wanted)
    table, wanted, chosen = borrowed(own_table), borrowed(wanted), borrowed(chosen)
    best_scores, best_rows = borrowed(best_scores), borrowed(best_rows)
    for row in range(rows):
        total, matched = np.float32(0), 0
        if everything or has(chosen, row):
            for at in range(starts[row], starts[row + 1]):
                place = _place(table, wanted, terms[at])
                if place >= 0:
                    gain, matched = (
                        _gain(np.float32(idf[place] * (k1 + 1)), frequencies[at], flat, slope, lengths[row]),
                        matched + 1,
                    )
                    total = np.float32(total + gain)
        if matched:
            size = offer(best_scores, best_rows, size, total, row)
    sort_heap(best_scores, best_rows, size)
    own_table[0] = -1
    return size


@signed(
    _I64(
        reads(_I64), reads(_U32), reads(_F32), _I64, reads(_U32), reads(_F32), reads(_U8), fills(_F32), fills(_I64)
    )
)  # fmt: skip
def scan_by_weights(
    starts: Longs, indices: Rows, weights: Singles, rows: int, wanted: Rows, query: Singles, chosen: Bytes,
    best_scores: Singles, best_rows: Longs,
) -> int:  # fmt: skip
    """As `best_by_weights`, of the first `rows` rows of a growing segment; `wanted` [q] are its indices, all different."""
    size, everything = 0, chosen.shape[0] == 0
    own_table = _asked(wanted)
    table, wanted, chosen = borrowed(own_table), borrowed(wanted), borrowed(chosen)
    best_scores, best_rows = borrowed(best_scores), borrowed(best_rows)
    for row in range(rows):
        total, matched = np.float32(0), 0
        if everything or has(chosen, row):
            for at in range(starts[row], starts[row + 1]):
                place = _place(table, wanted, indices[at])
                if place >= 0:
                    total, matched = total + query[place] * weights[at], matched + 1
        if matched:
            size = offer(best_scores, best_rows, size, total, row)
    sort_heap(best_scores, best_rows, size)
    own_table[0] = -1
    return size


@signed(_I64(reads(_U64), fills(_I64), fills(_U64), fills(_I64)))
def _number(hashes: Words, numbers: Longs, found: Words, counts: Longs) -> int:
    """Numbers the different hashes in the order they are met: fills each one's, and what is `found` how often."""
    slots, many = 1 << 16, 0
    table = np.full(slots, -1, np.int64)
    for index in range(hashes.shape[0]):
        at = np.int64(mix(hashes[index])) & (slots - 1)
        while table[at] >= 0 and found[table[at]] != hashes[index]:
            at = (at + 1) & (slots - 1)
        if table[at] < 0:
            table[at], found[many], counts[many] = many, hashes[index], 0
            many += 1
        numbers[index] = table[at]
        counts[table[at]] += 1
        if 2 * many > slots:
            slots *= 4
            table = np.full(slots, -1, np.int64)
            for number in range(many):
                at = np.int64(mix(found[number])) & (slots - 1)
                while table[at] >= 0:
                    at = (at + 1) & (slots - 1)
                table[at] = number
    return many


@signed(types.void(reads(_I64), fills(_I64), fills(_I64)))
def _scatter(numbers: Longs, ends: Longs, order: Longs) -> None:
    """Puts the place of each number where the next of its kind belongs."""
    for index in range(numbers.shape[0]):
        order[ends[numbers[index]]] = index
        ends[numbers[index]] += 1


def invert(hashes: Words) -> tuple[Words, Longs, Longs]:
    """The postings of triples (row, term, frequency) whose rows never descend and whose terms are `hashes` uint64 [n].

    Gives `terms`, ascending, `offsets` int64 [t + 1], and `order` int64 [n]: `rows[order]` and `frequencies[order]` are as
    `offsets` say. Linear but for a sort of the different terms: each triple is put in its place by counting.
    """
    numbers, found, counts = (
        np.empty(len(hashes), np.int64),
        np.empty(len(hashes), np.uint64),
        np.empty(len(hashes), np.int64),
    )
    many = int(_number(hashes, numbers, found, counts))
    by_term = np.argsort(found[:many])
    offsets = np.zeros(many + 1, np.int64)
    np.cumsum(counts[by_term], out=offsets[1:])
    ends, order = np.empty(many, np.int64), np.empty(len(hashes), np.int64)
    ends[by_term] = offsets[:-1]
    _scatter(numbers, ends, order)
    return found[by_term], offsets, order
