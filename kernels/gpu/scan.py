"""Triton kernels that search: score rows and keep those past a threshold, choose the best of what was kept, unpack a bitset.

They know arrays alone; `kernels.gpu.knn` says in what order they run and why that is exact. Pointers are of contiguous tensors.
A hit is one int64, its key: the score as an ordered 32-bit integer above 2^32 - 1 - row, so that of two keys the greater is the
better hit, and of equal scores that of the lower row. No two rows have one key.
"""

from __future__ import annotations

import triton
import triton.language as tl

EMPTY = tl.constexpr(-(2**63))
"""The key of no row: less than any other."""
HALF, INT8, SIGNS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
"""What rows are kept as: float16 or bfloat16; int8; bits, of which one is 1 and zero -1."""


@triton.jit
def key_of(scores, rows):
    """Keys of float32 scores and int64 rows below 2^32; -0.0 counts as 0.0."""
    bits = (scores + 0.0).to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (4294967295 - rows)


@triton.jit
def score_of(keys):
    """The float32 scores of keys; minus infinity of EMPTY, and NaN of the greatest of all numbers, which nothing reaches."""
    ordered = (keys >> 32).to(tl.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return tl.where(keys == EMPTY, float("-inf"), bits.to(tl.float32, bitcast=True))


@triton.jit
def _products(
    data, queries, rows, live, some, SIZE: tl.constexpr, KIND: tl.constexpr, ROWS: tl.constexpr, QUERIES: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    """Dot products [ROWS, QUERIES]; of SIGNS the sum of a query's numbers where the bit is set. Rows that are not live are
    not read."""
    acc = tl.zeros((ROWS, QUERIES), tl.float32 if KIND == HALF else tl.int32)
    within = tl.arange(0, STEP)
    for begin in range(0, SIZE, STEP):
        at = begin + within
        there = at < SIZE
        block = tl.load(data + rows[:, None] * SIZE + at[None, :], mask=live[:, None] & there[None, :], other=0)
        if KIND == SIGNS:
            for plane in tl.static_range(8):
                column = tl.load(
                    queries + some[None, :] * (8 * SIZE) + plane * SIZE + at[:, None], mask=there[:, None], other=0
                )
                acc = tl.dot(((block >> plane) & 1).to(tl.int8), column, acc, out_dtype=tl.int32)
        else:
            column = tl.load(queries + some[None, :] * SIZE + at[:, None], mask=there[:, None], other=0)
            acc = tl.dot(block, column, acc, out_dtype=acc.dtype)
    return acc


@triton.jit
def _scored(
    data, row_scales, row_terms, queries, query_scales, query_terms, rows, live, some, SIZE: tl.constexpr,
    KIND: tl.constexpr, SCALED: tl.constexpr, SHIFTED: tl.constexpr, ROWS: tl.constexpr, QUERIES: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    """Scores [ROWS, QUERIES]: (product * query's scale + query's term) * row's scale + row's term."""
    scores = _products(data, queries, rows, live, some, SIZE, KIND, ROWS, QUERIES, STEP).to(tl.float32)
    scores = scores * tl.load(query_scales + some)[None, :] + tl.load(query_terms + some)[None, :]
    if SCALED:
        scores = scores * tl.load(row_scales + rows, mask=live, other=0.0)[:, None]
    if SHIFTED:
        scores = scores + tl.load(row_terms + rows, mask=live, other=0.0)[:, None]
    return scores


@triton.jit
def _keep(scores, rows, live, some, thresholds, kept, counts, place, room, first, EVERY: tl.constexpr):
    """Write the keys of scores past their query's threshold behind one another, or of every row at its own place."""
    line = kept + some[None, :].to(tl.int64) * room + first
    if EVERY:
        keys = tl.where(live[:, None], key_of(scores, rows[:, None]), EMPTY)
        tl.store(line + place[:, None], keys)
    else:
        lowest = tl.load(thresholds + some)
        passes = live[:, None] & (scores >= score_of(lowest)[None, :])
        if tl.max(tl.max(passes.to(tl.int32), 1), 0) > 0:  # seldom: thresholds are near the end's from early on
            keys = key_of(scores, rows[:, None])
            passes = passes & (keys > lowest[None, :])
            slots = tl.atomic_add(
                counts + some[None, :] + tl.zeros_like(passes).to(tl.int32), 1, mask=passes, sem="relaxed"
            )
            tl.store(line + slots, keys, mask=passes & (slots < room - first))


@triton.jit(
    do_not_specialize=["begin", "end", "tiles", "stride", "positions", "base", "room", "first", "query_blocks"]
)  # or it is compiled anew for multiples of 16, seconds each
def scan(
    data, row_scales, row_terms, chosen, bits, queries, query_scales, query_terms, thresholds, kept, counts,
    begin, end, tiles, stride, positions, base, room, first, query_blocks,
    SIZE: tl.constexpr, KIND: tl.constexpr, SCALED: tl.constexpr, SHIFTED: tl.constexpr, CHOSEN: tl.constexpr,
    FILTERED: tl.constexpr, EVERY: tl.constexpr, ROWS: tl.constexpr, QUERIES: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Scores tiles `begin` to `end` - 1 of `tiles`, taken in steps of `stride` (coprime to `tiles`), ROWS positions each.

    A position is a row, or with CHOSEN where `chosen` int32, read as unsigned, names one. `data` [n, SIZE] of KIND;
    `row_scales`, `row_terms` float32 [n] where SCALED and SHIFTED. `queries` [QUERIES * query_blocks, SIZE] of the same kind,
    of SIGNS int8 [.., 8, SIZE] by bit of the byte; `query_scales`, `query_terms` float32, `thresholds` int64, `counts` int32,
    one each; of queries that are none the threshold is the greatest int64. With FILTERED only rows whose bit is set are read.
    Keys, of `base` + row, go to `kept` int64 [.., room] from `first` on. `counts` goes on past the room: what did not fit is
    lost, and whoever sees that must scan again.
    """
    block = tl.program_id(0) % query_blocks
    workers = tl.num_programs(0) // query_blocks
    some = block * QUERIES + tl.arange(0, QUERIES)
    within = tl.arange(0, ROWS)
    wide = tl.full((), 0, tl.int64) + stride  # turn * stride is past 2^31
    for turn in range(begin + tl.program_id(0) // query_blocks, end, workers):
        tile = (turn * wide) % tiles
        at = tile * ROWS + within
        live = at < positions
        rows = at
        if CHOSEN:
            rows = tl.load(chosen + at, mask=live, other=0).to(tl.int64) & 4294967295
        if FILTERED:
            byte = tl.load(bits + (rows >> 3), mask=live, other=0).to(tl.int32)
            live = live & (((byte >> (rows & 7).to(tl.int32)) & 1) != 0)
        if EVERY or tl.max(live.to(tl.int32), 0) > 0:
            scores = _scored(
                data, row_scales, row_terms, queries, query_scales, query_terms, rows, live, some,
                SIZE, KIND, SCALED, SHIFTED, ROWS, QUERIES, STEP,
            )  # fmt: skip
            place = (turn - begin) * ROWS + within
            _keep(scores, base + rows, live, some, thresholds, kept, counts, place, room, first, EVERY)


@triton.jit(do_not_specialize=["wanted"])
def settle(kept, counts, thresholds, lost, wanted, ROOM: tl.constexpr):
    """The `wanted` best keys of each query's `kept` int64 [q, ROOM] go to its front, in no order, and EMPTY behind them up to
    there. Of a query `wanted` + counts[q] keys are looked at, at most ROOM. `thresholds` rises to the least of those in front
    (that is EMPTY where they are fewer), `counts` becomes zero; `lost` int32 [1] becomes 1 where there was no room for
    something. Grid: q.

    The least is found bit by bit, from the greatest: 64 counts take no longer than the steps of a sorting network, and compile
    in a second, where a network of 4,096 keys took 40.
    """
    query = tl.program_id(0).to(tl.int64)
    line = kept + query * ROOM
    filled = wanted + tl.load(counts + query)
    at = tl.arange(0, ROOM)
    keys = tl.load(line + at, mask=at < filled, other=EMPTY)
    one = tl.full((), 1, tl.int64)
    least = tl.full((), 0, tl.int64)  # with the sign's bit flipped, so that bits count upwards
    for nth in range(64):
        higher = least | (one << (63 - nth))
        many = tl.sum((keys >= (higher ^ EMPTY)).to(tl.int32), 0)
        least = tl.where(many >= wanted, higher, least)
    least = least ^ EMPTY
    best = (keys >= least) & (keys != EMPTY)
    places = tl.cumsum(best.to(tl.int32), 0) - 1
    tl.store(line + places, keys, mask=best)
    tl.store(line + at, EMPTY, mask=(at >= tl.sum(best.to(tl.int32), 0)) & (at < wanted))
    tl.store(thresholds + query, tl.maximum(least, tl.load(thresholds + query)))
    if filled > ROOM:
        tl.store(lost, 1)
    tl.store(counts + query, 0)


@triton.jit(do_not_specialize=["size"])
def rows_of_bits(bits, chosen, count, size, BYTES: tl.constexpr):
    """The rows whose bits are set in `bits` uint8 [size], into `chosen` int32 (to be read as unsigned) from count[0] int64 (0
    at first) on: ascending within each 8 BYTES rows, and those in whatever order programs come."""
    at = tl.program_id(0) * BYTES + tl.arange(0, BYTES)
    byte = tl.load(bits + at, mask=at < size, other=0).to(tl.int32)
    bit = tl.arange(0, 8)
    one = tl.reshape((byte[:, None] >> bit[None, :]) & 1, (BYTES * 8,))
    rows = tl.program_id(0) * (BYTES * 8) + tl.arange(0, BYTES * 8)
    places = tl.cumsum(one, 0)
    begin = tl.atomic_add(count, tl.sum(one, 0).to(tl.int64), sem="relaxed")
    tl.store(chosen + begin + places - 1, rows, mask=one != 0)
