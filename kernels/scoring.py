"""Exact scores of stored vectors against one query, of chosen rows, of a range, and of a set of rows straight into the best k.

`data` [n, d] is kept as float32; as float16, its bits in uint16; as int8, times `scales` float32 [d]; or as signs, uint8
[n, ceil(d / 8)], bit j % 8 (from the least) of byte j // 8 set where x_j >= 0. `scales` is looked at for int8 alone. `query`
is float32 [d]. The higher score is always the better:

| metric | score |
|---|---|
| DOT | sum of q_j x_j; of signs x_j is 1 or -1 (asymmetric) |
| L2 | minus the sum of (q_j - x_j)^2; not of signs |
| HAMMING | minus the number of dimensions whose signs differ; of signs alone |

Sums are float32, in the order that suits the processor. 160 rows of 384 float32 out of 180 MB take about 12 µs, 3.2 where they
are in the cache; a trial of the same loop took 11.7 with rows asked for four ahead and 13.4 without.
`reference_vectors` has the readable twins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from kernels.bitsets import has, members
from kernels.compiled import kernel
from kernels.instructions import borrowed, half_to_float, ones, prefetch_row, sum_masked
from kernels.ranking import PART_SHIFT, offer
from kernels.signed import fills, reads, signed

Stored = npt.NDArray[Any]
Longs = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

DOT, L2, HAMMING = 0, 1, 2

_SUMS = {"reassoc", "contract", "arcp", "nsz"}
_AHEAD = 4
"""How many rows before it is scored a row is asked for."""
_AT_ONCE = 256

_I64, _F32, _U8 = types.int64, types.float32, types.uint8
_KINDS = (types.float32, types.uint16, types.int8, types.uint8)


def _made_ready(data: Stored, query: Singles, scales: Singles, metric: int) -> tuple[Singles, Bytes]:
    """The query as `_score` wants it: numbers, and signs."""
    raise NotImplementedError


def _score(data: Stored, row: int, numbers: Singles, signs: Bytes, scales: Singles, metric: int) -> float:
    """One row's score."""
    raise NotImplementedError


def _ready_as_it_is(data: Stored, query: Singles, scales: Singles, metric: int) -> tuple[Singles, Bytes]:
    return query.copy(), np.empty(1, np.uint8)


def _ready_scaled(data: Stored, query: Singles, scales: Singles, metric: int) -> tuple[Singles, Bytes]:
    numbers = query.copy()
    if metric == DOT:
        for at in range(numbers.shape[0]):
            numbers[at] *= scales[at]
    return numbers, np.empty(1, np.uint8)


def _ready_signs(data: Stored, query: Singles, scales: Singles, metric: int) -> tuple[Singles, Bytes]:
    """Twice the query's numbers and zeros to a multiple of 16, then their sum: 2 sum(q_j of bits set) - sum(q_j) is quick."""
    sixteens = (query.shape[0] + 15) // 16 * 16
    numbers, signs = np.zeros(sixteens + 1, np.float32), np.zeros(data.shape[1], np.uint8)
    for at in range(query.shape[0]):
        numbers[at] = 2 * query[at]
        numbers[sixteens] += query[at]
        signs[at >> 3] |= np.uint8((query[at] >= 0) << (at & 7))
    return numbers, signs


def _score_floats(data: Stored, row: int, numbers: Singles, signs: Bytes, scales: Singles, metric: int) -> float:
    total = np.float32(0)
    if metric == DOT:
        for at in range(numbers.shape[0]):
            total += numbers[at] * data[row, at]
        return total
    for at in range(numbers.shape[0]):
        apart = numbers[at] - data[row, at]
        total += apart * apart
    return -total


def _score_halves(data: Stored, row: int, numbers: Singles, signs: Bytes, scales: Singles, metric: int) -> float:
    total = np.float32(0)
    if metric == DOT:
        for at in range(numbers.shape[0]):
            total += numbers[at] * half_to_float(data[row, at])
        return total
    for at in range(numbers.shape[0]):
        apart = numbers[at] - half_to_float(data[row, at])
        total += apart * apart
    return -total


def _score_scaled(data: Stored, row: int, numbers: Singles, signs: Bytes, scales: Singles, metric: int) -> float:
    total = np.float32(0)
    if metric == DOT:
        for at in range(numbers.shape[0]):
            total += numbers[at] * np.float32(data[row, at])
        return total
    for at in range(numbers.shape[0]):
        apart = numbers[at] - scales[at] * np.float32(data[row, at])
        total += apart * apart
    return -total


def _score_signs(data: Stored, row: int, numbers: Singles, signs: Bytes, scales: Singles, metric: int) -> float:
    width = data.shape[1]
    if metric == HAMMING:
        differing = np.uint32(0)
        for at in range(width):
            differing += np.uint32(ones(data[row, at] ^ signs[at]))
        return -np.float32(differing)
    total = sum_masked(numbers, data, row * width, width >> 1) - numbers[numbers.shape[0] - 1]
    if width & 1:
        for at in range(8):
            if (data[row, width - 1] >> np.uint8(at)) & np.uint8(1):
                total += numbers[8 * (width - 1) + at]
    return total


_SCORE = {
    types.float32: _score_floats,
    types.uint16: _score_halves,
    types.int8: _score_scaled,
    types.uint8: _score_signs,
}


@overload(_made_ready, inline="always", strict=False)
def _ready_by_kind(data: Any, query: Any, scales: Any, metric: Any) -> Any:  # noqa: ANN401  numba's types
    if data.dtype == types.int8:
        return _ready_scaled
    return _ready_signs if data.dtype == types.uint8 else _ready_as_it_is


@overload(_score, inline="always", strict=False)
def _score_by_kind(data: Any, row: Any, numbers: Any, signs: Any, scales: Any, metric: Any) -> Any:  # noqa: ANN401
    return _SCORE[data.dtype]


@kernel(inline="always")
def _let_go(numbers: Singles, signs: Bytes) -> None:
    """The last use of what was borrowed."""
    numbers[0], signs[0] = 0, 0


def _for_kinds(returns: types.Type, *more: types.Type) -> list[Any]:
    """Signatures of data of each kind, query, scales, metric, and more."""
    return [returns(reads(kind, 2), reads(_F32), reads(_F32), _I64, *more) for kind in _KINDS]


@signed(*_for_kinds(types.void, reads(_I64), fills(_F32)), fastmath=_SUMS, quick=True)
def score_rows(data: Stored, query: Singles, scales: Singles, metric: int, rows: Longs, out: Singles) -> None:
    """Fills `out` [m] with the scores of `rows` [m], in any order; minus infinity for rows below 0."""
    own_numbers, own_signs = _made_ready(data, query, scales, metric)
    data, scales, numbers, signs = borrowed(data), borrowed(scales), borrowed(own_numbers), borrowed(own_signs)
    count = rows.shape[0]
    for index in range(count):
        if index + _AHEAD < count and rows[index + _AHEAD] >= 0:
            prefetch_row(data, rows[index + _AHEAD])
        row = rows[index]
        out[index] = _score(data, row, numbers, signs, scales, metric) if row >= 0 else np.float32(-np.inf)
    _let_go(own_numbers, own_signs)


@signed(*_for_kinds(types.void, _I64, _I64, fills(_F32)), fastmath=_SUMS)
def score_range(data: Stored, query: Singles, scales: Singles, metric: int, begin: int, end: int, out: Singles) -> None:
    """Fills `out` [end - begin] with the scores of rows begin to end - 1."""
    own_numbers, own_signs = _made_ready(data, query, scales, metric)
    data, scales, numbers, signs = borrowed(data), borrowed(scales), borrowed(own_numbers), borrowed(own_signs)
    for row in range(begin, end):
        out[row - begin] = _score(data, row, numbers, signs, scales, metric)
    _let_go(own_numbers, own_signs)


@signed(
    *_for_kinds(_I64, reads(_I64), reads(_U8), _I64, _I64, fills(_F32), fills(_I64), _I64), fastmath=_SUMS, quick=True
)
def offer_rows(
    data: Stored, query: Singles, scales: Singles, metric: int, rows: Longs, alive: Bytes, least: int, part: int,
    best_scores: Singles, best_places: Longs, size: int,
) -> int:  # fmt: skip
    """Puts `rows` of a part on a heap of places (see `kernels.ranking`), `size` of which are there; returns its new size.

    But for rows below 0 and those not in the bitset `alive` (empty: all are). A row named twice may be there twice. Where fewer
    than `least` have a score that is a number, nothing is put there, and -1 is returned.
    """
    own_numbers, own_signs = _made_ready(data, query, scales, metric)
    count, scored, everything = rows.shape[0], 0, alive.shape[0] == 0
    own_found, own_scores = np.empty(count + 1, np.int64), np.empty(count + 1, np.float32)
    data, scales, numbers, signs = borrowed(data), borrowed(scales), borrowed(own_numbers), borrowed(own_signs)
    rows, alive, found, scores = borrowed(rows), borrowed(alive), borrowed(own_found), borrowed(own_scores)
    heap_scores, heap_places = borrowed(best_scores), borrowed(best_places)
    for index in range(count):
        if index + _AHEAD < count and rows[index + _AHEAD] >= 0:
            prefetch_row(data, rows[index + _AHEAD])
        row = rows[index]
        if row >= 0 and (everything or has(alive, row)):
            score = _score(data, row, numbers, signs, scales, metric)
            found[scored], scores[scored] = row, score
            scored += score == score
    if scored < least:
        size = -1
    else:
        for index in range(scored):
            size = offer(heap_scores, heap_places, size, scores[index], (part << PART_SHIFT) | found[index])
    _let_go(own_numbers, own_signs)
    own_found[0], own_scores[0] = 0, 0
    return size


@signed(*_for_kinds(_I64, _I64, _I64, reads(_U8), _I64, fills(_F32), fills(_I64), _I64), fastmath=_SUMS)
def offer_set(
    data: Stored, query: Singles, scales: Singles, metric: int, begin: int, end: int, chosen: Bytes, part: int,
    best_scores: Singles, best_places: Longs, size: int,
) -> int:  # fmt: skip
    """As `offer_rows`, of those of the rows `begin` to `end` - 1 that are in the bitset `chosen`, which says so of each row from
    0 on."""
    own_numbers, own_signs = _made_ready(data, query, scales, metric)
    data, scales, numbers, signs = borrowed(data), borrowed(scales), borrowed(own_numbers), borrowed(own_signs)
    chosen, best_scores, best_places = borrowed(chosen), borrowed(best_scores), borrowed(best_places)
    some = np.empty(_AT_ONCE, np.int64)
    while begin < end:
        count = members(chosen, begin, end, some)
        for index in range(count):
            row = some[index]
            if index + _AHEAD < count and some[index + _AHEAD] - row > _AHEAD:  # the processor reads on by itself
                prefetch_row(data, some[index + _AHEAD])
            score = _score(data, row, numbers, signs, scales, metric)
            size = offer(best_scores, best_places, size, score, (part << PART_SHIFT) | row)
        begin = some[count - 1] + 1 if count == _AT_ONCE else end
    _let_go(own_numbers, own_signs)
    return size


def _decode(data: Stored, row: int, scales: Singles, vector: Singles) -> None:
    """Fills `vector` [d] with a row's numbers."""
    raise NotImplementedError


def _decode_floats(data: Stored, row: int, scales: Singles, vector: Singles) -> None:
    for at in range(vector.shape[0]):
        vector[at] = data[row, at]


def _decode_halves(data: Stored, row: int, scales: Singles, vector: Singles) -> None:
    for at in range(vector.shape[0]):
        vector[at] = half_to_float(data[row, at])


def _decode_scaled(data: Stored, row: int, scales: Singles, vector: Singles) -> None:
    for at in range(vector.shape[0]):
        vector[at] = scales[at] * np.float32(data[row, at])


_DECODE = {types.float32: _decode_floats, types.uint16: _decode_halves, types.int8: _decode_scaled}


@overload(_decode, inline="always", strict=False)
def _decode_by_kind(data: Any, row: Any, scales: Any, vector: Any) -> Any:  # noqa: ANN401
    return _DECODE[data.dtype]


@kernel(fastmath=_SUMS)
def _raise_all(query: Singles, vector: Singles, highest: Singles) -> None:
    """Raises each token's highest to its product with one vector; four at a time, which go over it once."""
    query, vector, highest = borrowed(query), borrowed(vector), borrowed(highest)
    tokens, width = query.shape[0], query.shape[1]
    fours = tokens & ~3
    for token in range(0, fours, 4):
        one, two, three, four = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for at in range(width):
            value = vector[at]
            one += query[token, at] * value
            two += query[token + 1, at] * value
            three += query[token + 2, at] * value
            four += query[token + 3, at] * value
        highest[token], highest[token + 1] = max(highest[token], one), max(highest[token + 1], two)
        highest[token + 2], highest[token + 3] = max(highest[token + 2], three), max(highest[token + 3], four)
    for token in range(fours, tokens):
        one = np.float32(0)
        for at in range(width):
            one += query[token, at] * vector[at]
        highest[token] = max(highest[token], one)


@signed(
    *(
        types.void(reads(kind, 2), reads(_F32, 2), reads(_F32), reads(_I64), reads(_I64), fills(_F32))
        for kind in _KINDS[:3]
    ),
    fastmath=_SUMS,
)
def maxsim(data: Stored, query: Singles, scales: Singles, offsets: Longs, rows: Longs, out: Singles) -> None:
    """Fills `out` [m] with the late-interaction scores of `rows` [m] (Khattab and Zaharia, "ColBERT", SIGIR 2020).

    The sum over the rows of `query` [t, d] of their greatest dot product with any of a row's vectors, which are
    data[offsets[row]:offsets[row + 1]]. Minus infinity for a row that has none, or is below 0. Not of signs.
    """
    tokens = query.shape[0]
    own_highest, own_vector = np.empty(tokens, np.float32), np.empty(data.shape[1], np.float32)
    data, query, scales = borrowed(data), borrowed(query), borrowed(scales)
    highest, vector = borrowed(own_highest), borrowed(own_vector)
    for index in range(rows.shape[0]):
        row = rows[index]
        if row < 0 or offsets[row] == offsets[row + 1]:
            out[index] = -np.inf
            continue
        highest[:] = -np.inf
        for at in range(offsets[row], offsets[row + 1]):
            _decode(data, at, scales, vector)
            _raise_all(query, vector, highest)
        out[index] = highest.sum()
    own_highest[:] = 0
    own_vector[:] = 0
