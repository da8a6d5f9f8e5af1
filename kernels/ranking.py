"""The best k of many: of rows and their scores, of several parts, of several legs; and those that differ from one another.

Everywhere the higher score is the better, and of equals the lower row (location, key): answers do not depend on the order in
which things come. NaN is never among the best. A heap is two arrays of k, `scores` and `places`, the worst first, filled from the
front; `settle` sorts it. A location is a part's ordinal << 32 | the row within it, so equals of lower parts come first.
`reference_vectors` has the readable twins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from kernels.bitsets import has
from kernels.compiled import kernel
from kernels.hashing import mix
from kernels.instructions import borrowed
from kernels.memory import load_u64
from kernels.signed import fills, reads, signed

Longs = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.int64]

PART_SHIFT = 32
"""A location's bits below the part."""

_EXPONENT = np.uint32(0x7F800000)
"""Of a float32 that is no finite number all these bits are set."""

_OPPOSITE = 1.001
"""More than the cosine of opposites is below 0, rounding included."""

_SUMS = {"reassoc", "contract", "arcp", "nsz"}
_I64, _F64, _F32, _U8 = types.int64, types.float64, types.float32, types.uint8


@kernel(inline="always")
def _worse(score: float, place: int, other: float, other_place: int) -> bool:
    return score < other or (score == other and place > other_place)


@kernel()
def _sink(scores: Singles, places: Longs, size: int, score: float, place: int) -> None:
    """Takes the first, worst item's place in the heap."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _worse(scores[child + 1], places[child + 1], scores[child], places[child]):
            child += 1
        if not _worse(scores[child], places[child], score, place):
            break
        scores[at], places[at] = scores[child], places[child]
        at = child
    scores[at], places[at] = score, place


@kernel()
def _rise(scores: Singles, places: Longs, size: int, score: float, place: int) -> None:
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if not _worse(score, place, scores[parent], places[parent]):
            break
        scores[at], places[at] = scores[parent], places[parent]
        at = parent
    scores[at], places[at] = score, place


@kernel(inline="always")
def offer(scores: Singles, places: Longs, size: int, score: float, place: int) -> int:
    """Puts one item on a heap of `size`, if it is among the best; returns the new size. For use in kernels."""
    if size < scores.shape[0]:
        if score == score:
            _rise(scores, places, size, score, place)
            return size + 1
    elif size > 0 and _worse(scores[0], places[0], score, place):
        _sink(scores, places, size, score, place)
    return size


@kernel()
def sort_heap(scores: Singles, places: Longs, size: int) -> None:
    """`settle`, for use in kernels."""
    for last in range(size - 1, 0, -1):
        score, place = scores[last], places[last]
        scores[last], places[last] = scores[0], places[0]
        _sink(scores, places, last, score, place)


@signed(types.void(fills(_F32), fills(_I64), _I64), quick=True)
def settle(scores: Singles, places: Longs, size: int) -> None:
    """Sorts a heap of `size`, the best first; then it is a heap no more."""
    sort_heap(scores, places, size)


@signed(_I64(reads(_F32), reads(_I64), fills(_F32), fills(_I64)), quick=True)
def top_k(scores: Singles, places: Longs, best_scores: Singles, best_places: Longs) -> int:
    """Fills `best_*` [k] with the k best, the best first; returns how many there are. A place below 0 is no item."""
    best_scores, best_places, size = borrowed(best_scores), borrowed(best_places), 0
    for index in range(scores.shape[0]):
        if places[index] >= 0:
            size = offer(best_scores, best_places, size, scores[index], places[index])
    sort_heap(best_scores, best_places, size)
    return size


@signed(_I64(reads(_F32), reads(_I64), _I64, reads(_U8), fills(_F32), fills(_I64), _I64), quick=True)
def offer_part(
    scores: Singles, rows: Longs, part: int, alive: Bytes, best_scores: Singles, best_locations: Longs, size: int
) -> int:
    """Puts what one part found on a heap of locations, but rows below 0 and those not in the bitset `alive` (empty: all are).

    Returns the heap's new size, 0 to begin with; `settle` sorts it when every part has been asked.
    """
    everything = alive.shape[0] == 0
    best_scores, best_locations, alive = borrowed(best_scores), borrowed(best_locations), borrowed(alive)
    for index in range(scores.shape[0]):
        row = rows[index]
        if row >= 0 and (everything or has(alive, row)):
            size = offer(best_scores, best_locations, size, scores[index], (part << PART_SHIFT) | row)
    return size


@signed(types.void(reads(_I64), reads(_I64), fills(types.uint64)), quick=True)
def ids_of(places: Longs, ids_at: Longs, ids: npt.NDArray[np.uint64]) -> None:
    """Fills `ids` [m] with the uint64 that row `places` & 2^32 - 1 of part `places` >> 32 has: those of a part lie at address
    `ids_at` [part], one after another."""
    for index in range(places.shape[0]):
        place = places[index]
        ids[index] = load_u64(ids_at[place >> PART_SHIFT] + 8 * (place & ((1 << PART_SHIFT) - 1)))


@signed(types.boolean(reads(_I64), fills(_I64)), quick=True)
def rows_of_one_part(places: Longs, rows: Longs) -> bool:
    """Whether all `places` [m] are of one part; `rows` [m] are then theirs, `places` & 2^32 - 1."""
    for index in range(places.shape[0]):
        if (places[index] ^ places[0]) >> PART_SHIFT != 0:
            return False
        rows[index] = places[index] & ((1 << PART_SHIFT) - 1)
    return True


@kernel()
def _slots(items: int) -> int:
    slots = 16
    while slots < 2 * items:
        slots *= 2
    return slots


@kernel()
def _slot_of(key: int, keys: Longs, numbers: Longs) -> int:
    """Where `key` is in an open-addressing table whose `numbers` are -1 where nothing is, or where it belongs."""
    mask = keys.shape[0] - 1
    at = np.int64(mix(key)) & mask
    while numbers[at] >= 0 and keys[at] != key:
        at = (at + 1) & mask
    return at


@kernel()
def _fused(keys: Longs, starts: Longs, gains: Floats, best_scores: Floats, best_keys: Longs) -> int:
    """The best keys by the sum of their gains, each leg's first mention of a key alone."""
    slots = _slots(keys.shape[0])
    table, legs, sums = np.empty(slots, np.int64), np.full(slots, -1, np.int64), np.zeros(slots, np.float64)
    for leg in range(starts.shape[0] - 1):
        for index in range(starts[leg], starts[leg + 1]):
            at = _slot_of(keys[index], table, legs)
            if legs[at] != leg:
                table[at], legs[at] = keys[index], leg
                sums[at] += gains[index]
    size = 0
    for at in range(slots):
        if legs[at] >= 0:
            size = offer(best_scores, best_keys, size, sums[at], table[at])
    sort_heap(best_scores, best_keys, size)
    return size


@signed(_I64(reads(_I64), reads(_I64), reads(_F64), _F64, fills(_F64), fills(_I64)), quick=True)
def fuse_ranks(
    keys: Longs, starts: Longs, weights: Floats, constant: float, best_scores: Floats, best_keys: Longs
) -> int:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009): weight / (constant + rank) summed, ranks from 1.

    Leg i's keys, the best first, are keys[starts[i]:starts[i + 1]], its weight weights[i]. Fills `best_*` [k], the best first;
    returns how many there are.
    """
    gains = np.empty(keys.shape[0], np.float64)
    for leg in range(starts.shape[0] - 1):
        for index in range(starts[leg], starts[leg + 1]):
            gains[index] = weights[leg] / (constant + (index - starts[leg] + 1))
    return _fused(keys, starts, gains, best_scores, best_keys)


@signed(_I64(reads(_I64), reads(_F32), reads(_I64), reads(_F64), fills(_F64), fills(_I64)), quick=True)
def fuse_scores(
    keys: Longs, scores: Singles, starts: Longs, weights: Floats, best_scores: Floats, best_keys: Longs
) -> int:
    """The weighted sum of scores scaled to [0, 1] by each leg's least and greatest; 1 where they are all equal.

    Legs as in `fuse_ranks`, with scores[starts[i]:starts[i + 1]], finite. Fills `best_*` [k], the best first; returns how many
    there are.
    """
    gains = np.empty(keys.shape[0], np.float64)
    for leg in range(starts.shape[0] - 1):
        least, most = np.inf, -np.inf
        for index in range(starts[leg], starts[leg + 1]):
            least, most = min(least, np.float64(scores[index])), max(most, np.float64(scores[index]))
        for index in range(starts[leg], starts[leg + 1]):
            scaled = (np.float64(scores[index]) - least) / (most - least) if most > least else 1.0
            gains[index] = weights[leg] * scaled
    return _fused(keys, starts, gains, best_scores, best_keys)


@kernel(fastmath=_SUMS)
def _dot(vectors: Singles, one: int, other: int, first: int, size: int) -> float:
    total = np.float32(0)
    for at in range(
        np.uint64(first), np.uint64(first + size)
    ):  # numba looks whether a signed index counts from the end
        total += vectors[one, at] * vectors[other, at]
    return total


@kernel()
def _fill_up(groups: Matrix, caps: Longs, chosen: Longs, count: int, left: Bytes) -> None:
    """Takes out the rows of which no more may be chosen, now that the last of `count` has been."""
    last = chosen[count - 1]
    for column in range(caps.shape[0]):
        value, same = groups[last, column], 0
        if value < 0:
            continue
        for place in range(count):
            same += groups[chosen[place], column] == value
        if same >= caps[column]:
            for row in range(groups.shape[0]):
                if groups[row, column] == value:
                    left[row] = 0


@kernel()
def _scale(vectors: Singles, row: int, first: int, size: int, scales: Singles) -> None:
    """By what a row is multiplied to have length 1, once it is asked for; of zeros 0."""
    if scales[row] < 0:
        square = _dot(vectors, row, row, first, size)
        scales[row] = 1 / np.sqrt(square) if square > 0 else np.float32(0)


@kernel()
def _nearest(
    vectors: Singles, row: int, first: int, size: int, scales: Singles, before: float, others: Longs
) -> float:  # fmt: skip
    """The greatest of `before` and a row's cosines with `others`."""
    _scale(vectors, row, first, size, scales)
    for index in range(others.shape[0]):
        before = max(before, _dot(vectors, row, others[index], first, size) * scales[row] * scales[others[index]])
    return before


@kernel()
def _likeliest(bounds: Floats, left: Bytes) -> int:
    """The row, of those that are left, of the greatest bound; -1 where none is left."""
    best = -1
    for row in range(bounds.shape[0]):
        if left[row] and (best < 0 or bounds[row] > bounds[best]):
            best = row
    return best


@kernel()
def _diverse(
    vectors: Singles, first: int, size: int, relevance: Singles, weight: float, groups: Matrix, caps: Longs, chosen: Longs
) -> int:  # fmt: skip
    """Lazily (Minoux, "Accelerated greedy algorithms", 1978): a gain never grows, so a row whose last one is too low need not be
    compared with what was chosen since. `bounds` are the last ones: of a row that was never compared what it were at best."""
    rows = vectors.shape[0]
    scales, nearest, left = np.full(rows, -1, np.float32), np.full(rows, -np.inf, np.float32), np.ones(rows, np.uint8)
    compared, bounds = np.zeros(rows, np.int64), np.empty(rows, np.float64)
    count = min(chosen.shape[0], rows)
    for row in range(rows):
        bounds[row] = relevance[row]
    for place in range(count):
        best = _likeliest(bounds, left)
        if best < 0:
            return place
        for index in range(-1 if place else rows, rows):
            row = index if index >= 0 else best  # it first: after it few others are worth a look
            if not left[row] or (index >= 0 and _worse(bounds[row], row, bounds[best], best)):
                continue
            nearest[row] = _nearest(
                vectors, row, first, size, scales, nearest[row], chosen[compared[row] : place]
            )  # fmt: skip
            compared[row] = place
            bounds[row] = weight * relevance[row] - (1 - weight) * nearest[row]
            if _worse(bounds[best], best, bounds[row], row):
                best = row
        chosen[place], left[best] = best, 0
        _scale(vectors, best, first, size, scales)
        _fill_up(groups, caps, chosen, place + 1, left)
        if not place:
            for row in range(rows):
                bounds[row] = weight * relevance[row] + (1 - weight) * _OPPOSITE
    return count


@signed(_I64(reads(_F32, 2), reads(_F32), _F32, fills(_I64)))
def diverse(vectors: Singles, relevance: Singles, weight: float, chosen: Longs) -> int:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) with cosine similarity.

    Fills `chosen` [k] with rows of `vectors` [n, d] in the order they are chosen; returns how many, min(k, n). The next is that
    of greatest weight * relevance - (1 - weight) * its greatest cosine with one chosen already; of the first there is none, so
    relevance alone chooses it. A zero vector is like nothing.
    """
    groups, caps = np.empty((vectors.shape[0], 0), np.int64), np.empty(0, np.int64)
    return _diverse(vectors, 0, vectors.shape[1], relevance, weight, groups, caps, chosen)


@signed(_I64(reads(_F32, 2), _I64, _I64, reads(_F32), _F32, reads(_I64, 2), reads(_I64), fills(_I64)))
def diverse_within(
    rows: Singles, first: int, size: int, relevance: Singles, weight: float, groups: Matrix, caps: Longs, chosen: Longs
) -> int:  # fmt: skip
    """As `diverse`, of the `size` columns of `rows` [n, w] from `first` on, but at most `caps` [g] rows of the same value in each
    column of `groups` [n, g]; values below 0 have no cap. Fewer than k where the caps leave no more."""
    return _diverse(rows, first, size, relevance, weight, groups, caps, chosen)


@signed(types.boolean(reads(_F32, 2), _I64, _I64), quick=True)
def all_finite(rows: Singles, first: int, size: int) -> bool:
    """Whether the `size` columns of `rows` from `first` on hold finite numbers alone."""
    bits, others = rows.view(np.uint32), 0
    for row in range(rows.shape[0]):
        for at in range(np.uint64(first), np.uint64(first + size)):
            others += (bits[row, at] & _EXPONENT) == _EXPONENT
    return others == 0
