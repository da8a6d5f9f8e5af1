"""Statistics of many ranges of sorted events at once, for features as of past instants.

Events lie sorted by segment (one life of one entity) and time. Trees over blocks of `BLOCK` events make long ranges cost a
logarithm, without the cancellation that differences of prefix sums suffer. Every kernel fills the caller's arrays and releases
the interpreter's lock. `reference.py` has the readable twins.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import kernel

Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

BLOCK: Final = 16
NEVER: Final = -(2**63)
"""An instant before all others: no event."""

_ONE = np.uint64(1)


class Ranges(NamedTuple):
    """What each query asks about: the events in [a, c), and of [c, b) those whose `arrival` is not after its `known`.

    `arrival` is of the events, all else of the queries; it is empty where every event counts, and then c = b.
    """

    a: Longs
    c: Longs
    b: Longs
    known: Longs
    arrival: Longs


class Sums(NamedTuple):
    """Heap-ordered trees of 2 * `leaves` nodes: the sum, the sum of squared deviations from the node's own mean, the least and
    the greatest. Node leaves + i is of values[i * BLOCK:(i + 1) * BLOCK], node j of nodes 2j and 2j + 1. Nodes that reach past
    the last full block are without meaning, and no range asks for them."""

    leaves: int
    total: Floats
    squares: Floats
    low: Floats
    high: Floats


class Moments(NamedTuple):
    """Of each query the number of values, the sum, the least and the greatest; 0, 0, +inf and -inf of nothing."""

    number: Longs
    total: Floats
    low: Floats
    high: Floats


@kernel(cache=True, nogil=True)
def lower_bound(values: Longs, low: int, high: int, wanted: int) -> int:
    """The first position in ascending values[low:high] that is >= wanted; `high` where none is."""
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@kernel(cache=True, nogil=True)
def _gallop_back(values: Longs, low: int, high: int, wanted: int) -> int:
    """`lower_bound` for a place that is likely near `high`."""
    step = 1
    while high - step > low and values[high - step] >= wanted:
        step <<= 1
    return lower_bound(values, max(low, high - step), high - (step >> 1), wanted)


@kernel(cache=True, nogil=True)
def window_ranges(
    times: Longs, begin: Longs, end: Longs, as_of: Longs, length: int, tile: int, shape: int, a: Longs, b: Longs
) -> None:
    """Positions [a, b) of each query's window within [begin, end), by whole tiles.

    `shape`: 0 sawtooth, 1 sliding, 2 tumbling (see engine/features/window.py).
    """
    for i in range(len(begin)):
        head = as_of[i] // tile
        b[i] = end[i]
        if shape == 2:
            first = head
        elif shape == 1:
            first = head - length // tile
            b[i] = _gallop_back(times, begin[i], end[i], head * tile)
        else:
            first = (as_of[i] - length) // tile
        a[i] = _gallop_back(times, begin[i], b[i], first * tile)


@kernel(cache=True, nogil=True)
def _blocks(a: int, c: int) -> tuple[int, int]:
    """The blocks that lie whole in [a, c), as [first, end): what is left are [a, first * BLOCK) and [end * BLOCK, c)."""
    first, end = (a + BLOCK - 1) // BLOCK, c // BLOCK
    if first < end:
        return first, end
    return c // BLOCK + 1, c // BLOCK + 1


@kernel(cache=True, nogil=True)
def build_sums(values: Floats, tree: Sums) -> None:
    """Fills the tree over `values`."""
    total, squares, low, high = tree.total, tree.squares, tree.low, tree.high
    for leaf in range(len(values) // BLOCK):
        block, node = values[leaf * BLOCK : (leaf + 1) * BLOCK], tree.leaves + leaf
        total[node], low[node], high[node] = 0.0, np.inf, -np.inf
        for value in block:
            total[node] += value
            low[node], high[node] = min(low[node], value), max(high[node], value)
        mean, squares[node] = total[node] / BLOCK, 0.0
        for value in block:
            squares[node] += (value - mean) * (value - mean)
    size, width = BLOCK, tree.leaves
    while width > 1:
        for node in range(width >> 1, width):
            left, right = 2 * node, 2 * node + 1
            total[node] = total[left] + total[right]
            low[node], high[node] = min(low[left], low[right]), max(high[left], high[right])
            apart = (total[left] - total[right]) / size
            squares[node] = squares[left] + squares[right] + apart * apart * size * 0.5
        width, size = width >> 1, size << 1


@kernel(cache=True, nogil=True)
def range_moments(values: Floats, ranges: Ranges, tree: Sums, out: Moments) -> None:
    """Count, sum, least and greatest of the values in each range."""
    for i in range(len(ranges.a)):
        a, c = ranges.a[i], ranges.c[i]
        count, total, low, high = c - a, 0.0, np.inf, -np.inf
        left, right = _blocks(a, c)
        for j in range(a, min(left * BLOCK, c)):
            total += values[j]
            low, high = min(low, values[j]), max(high, values[j])
        for j in range(right * BLOCK, c):
            total += values[j]
            low, high = min(low, values[j]), max(high, values[j])
        left, right = left + tree.leaves, right + tree.leaves
        while left < right:
            if left & 1:
                total += tree.total[left]
                low, high = min(low, tree.low[left]), max(high, tree.high[left])
                left += 1
            if right & 1:
                right -= 1
                total += tree.total[right]
                low, high = min(low, tree.low[right]), max(high, tree.high[right])
            left, right = left >> 1, right >> 1
        for j in range(c, ranges.b[i]):
            if ranges.arrival[j] <= ranges.known[i]:
                count += 1
                total += values[j]
                low, high = min(low, values[j]), max(high, values[j])
        out.number[i], out.total[i], out.low[i], out.high[i] = count, total, low, high


@kernel(cache=True, nogil=True)
def range_squares(values: Floats, ranges: Ranges, tree: Sums, moments: Moments, out: Floats) -> None:
    """Sum of squared deviations from the mean of each range (Chan, Golub and LeVeque 1983): no difference of squares."""
    for i in range(len(ranges.a)):
        out[i] = 0.0
        if moments.number[i] == 0:
            continue
        a, c = ranges.a[i], ranges.c[i]
        mean, squares = moments.total[i] / moments.number[i], 0.0
        left, right = _blocks(a, c)
        for j in range(a, min(left * BLOCK, c)):
            squares += (values[j] - mean) * (values[j] - mean)
        for j in range(right * BLOCK, c):
            squares += (values[j] - mean) * (values[j] - mean)
        left, right, size = left + tree.leaves, right + tree.leaves, BLOCK
        while left < right:
            if left & 1:
                apart = tree.total[left] / size - mean
                squares += tree.squares[left] + apart * apart * size
                left += 1
            if right & 1:
                right -= 1
                apart = tree.total[right] / size - mean
                squares += tree.squares[right] + apart * apart * size
            left, right, size = left >> 1, right >> 1, size << 1
        for j in range(c, ranges.b[i]):
            if ranges.arrival[j] <= ranges.known[i]:
                squares += (values[j] - mean) * (values[j] - mean)
        out[i] = squares


@kernel(cache=True, nogil=True)
def range_count(ranges: Ranges, out: Floats) -> None:
    """How many events each range has."""
    for i in range(len(ranges.a)):
        count = ranges.c[i] - ranges.a[i]
        for j in range(ranges.c[i], ranges.b[i]):
            if ranges.arrival[j] <= ranges.known[i]:
                count += 1
        out[i] = count


@kernel(cache=True, nogil=True)
def range_ends(ranges: Ranges, first: Longs, last: Longs) -> None:
    """Positions of the first and last event of each range, -1 for none."""
    for i in range(len(ranges.a)):
        some = ranges.a[i] < ranges.c[i]
        first[i], last[i] = (ranges.a[i], ranges.c[i] - 1) if some else (-1, -1)
        for j in range(ranges.c[i], ranges.b[i]):
            if ranges.arrival[j] <= ranges.known[i]:
                last[i] = j
                if first[i] < 0:
                    first[i] = j


@kernel(cache=True, nogil=True)
def build_slots(slots: Longs, leaves: int, tree: Words) -> None:
    """Fills a heap-ordered tree [2 * leaves, words] of bit sets, of zeros so far: which slots occur under each node."""
    for leaf in range(len(slots) // BLOCK):
        for j in range(leaf * BLOCK, (leaf + 1) * BLOCK):
            tree[leaves + leaf, slots[j] >> 6] |= _ONE << np.uint64(slots[j] & 63)
    for node in range(leaves - 1, 0, -1):
        for word in range(tree.shape[1]):
            tree[node, word] = tree[2 * node, word] | tree[2 * node + 1, word]


@kernel(cache=True, nogil=True)
def range_slots(slots: Longs, ranges: Ranges, leaves: int, tree: Words, out: Longs) -> None:
    """How many different slots occur in each range."""
    seen = np.zeros(tree.shape[1], np.uint64)
    for i in range(len(ranges.a)):
        seen[:] = 0
        a, c = ranges.a[i], ranges.c[i]
        left, right = _blocks(a, c)
        for j in range(a, min(left * BLOCK, c)):
            seen[slots[j] >> 6] |= _ONE << np.uint64(slots[j] & 63)
        for j in range(right * BLOCK, c):
            seen[slots[j] >> 6] |= _ONE << np.uint64(slots[j] & 63)
        left, right = left + leaves, right + leaves
        while left < right:
            if left & 1:
                _unite(seen, tree[left])
                left += 1
            if right & 1:
                right -= 1
                _unite(seen, tree[right])
            left, right = left >> 1, right >> 1
        for j in range(c, ranges.b[i]):
            if ranges.arrival[j] <= ranges.known[i]:
                seen[slots[j] >> 6] |= _ONE << np.uint64(slots[j] & 63)
        out[i] = _ones(seen)


@kernel(cache=True, nogil=True)
def _unite(words: Words, more: Words) -> None:
    for i in range(len(words)):
        words[i] |= more[i]


@kernel(cache=True, nogil=True)
def _ones(words: Words) -> int:
    count = 0
    for word in words:
        while word:
            word &= word - _ONE
            count += 1
    return count


@kernel(cache=True, nogil=True)
def decay(times: Longs, values: Floats, segments: Longs, half_life: float, out: Floats) -> None:
    """out[i]: the segment's values up to i, each halved for every `half_life` between its time and times[i]."""
    for i in range(len(times)):
        out[i] = values[i]
        if i > 0 and segments[i] == segments[i - 1]:
            out[i] += out[i - 1] * 2.0 ** (-(times[i] - times[i - 1]) / half_life)


@kernel(cache=True, nogil=True)
def range_decayed(
    times: Longs, values: Floats, decayed: Floats, half_life: float, ranges: Ranges, as_of: Longs, out: Floats
) -> None:
    """The decayed sum of each range, which must begin where its segment does."""
    for i in range(len(ranges.a)):
        found, last = 0.0, ranges.c[i] - 1
        if ranges.a[i] <= last:
            found = decayed[last] * 2.0 ** (-(as_of[i] - times[last]) / half_life)
        for j in range(ranges.c[i], ranges.b[i]):
            if ranges.arrival[j] <= ranges.known[i]:
                found += values[j] * 2.0 ** (-(as_of[i] - times[j]) / half_life)
        out[i] = found


@kernel(cache=True, nogil=True)
def range_top(codes: Longs, kinds: int, ranges: Ranges, out: Longs) -> None:  # noqa: C901  one loop over each part
    """The most frequent codes of each range into out [queries, k], most frequent first, ties to the lesser; -1: none.

    `codes` are 0 ... kinds - 1. Ranges that follow one another (as those of one segment in order of time do) share their
    counts: each event is added once and taken out once.
    """
    counts, alive, place = np.zeros(kinds, np.int64), np.empty(kinds, np.int64), np.empty(kinds, np.int64)
    low = high = number = 0
    for i in range(len(ranges.a)):
        a, c, b = ranges.a[i], ranges.c[i], ranges.b[i]
        out[i, :] = -1
        if a >= b:
            continue
        if a < low or c < high or a >= high:
            number = _take_all(codes, low, high, counts, alive, place, number)
            low = high = a
        for j in range(high, c):
            number = _add(codes[j], counts, alive, place, number)
        number = _take_all(codes, low, a, counts, alive, place, number)
        low, high = a, max(a, c)
        for j in range(c, b):
            if ranges.arrival[j] <= ranges.known[i]:
                number = _add(codes[j], counts, alive, place, number)
        top, least = out[i], 0
        for j in range(number):
            if counts[alive[j]] >= least:
                least = _insert(alive[j], counts, top)
        for j in range(c, b):
            if ranges.arrival[j] <= ranges.known[i]:
                number = _take(codes[j], counts, alive, place, number)


@kernel(cache=True, nogil=True)
def _add(code: int, counts: Longs, alive: Longs, place: Longs, number: int) -> int:
    """One more of `code`; `alive` has the codes that count, `number` of them, each at its `place`."""
    if counts[code] == 0:
        alive[number], place[code] = code, number
        number += 1
    counts[code] += 1
    return number


@kernel(cache=True, nogil=True)
def _take(code: int, counts: Longs, alive: Longs, place: Longs, number: int) -> int:
    """One less of `code`."""
    counts[code] -= 1
    if counts[code] == 0:
        number -= 1
        alive[place[code]], place[alive[number]] = alive[number], place[code]
    return number


@kernel(cache=True, nogil=True)
def _take_all(codes: Longs, low: int, high: int, counts: Longs, alive: Longs, place: Longs, number: int) -> int:
    for j in range(low, high):
        number = _take(codes[j], counts, alive, place, number)
    return number


@kernel(cache=True, nogil=True)
def _insert(code: int, counts: Longs, top: Longs) -> int:
    """Puts `code` at its place among the best so far; the count below which none has a place."""
    at = len(top)
    while at > 0:
        other = top[at - 1]
        if other >= 0 and (counts[other] > counts[code] or (counts[other] == counts[code] and other < code)):
            break
        at -= 1
    for j in range(len(top) - 1, at, -1):
        top[j] = top[j - 1]
    if at < len(top):
        top[at] = code
    return counts[top[-1]] if top[-1] >= 0 else 0


@kernel(cache=True, nogil=True)
def scatter(values: Floats, rows: Longs, out: Floats) -> None:
    """out[rows[i]] = values[i]."""
    for i in range(len(rows)):
        out[rows[i]] = values[i]
