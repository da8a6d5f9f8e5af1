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
NEVER = tl.constexpr(2**63 - 1)
"""A threshold that no key is past."""
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
def _held(queries, some, SIZE: tl.constexpr, KIND: tl.constexpr, STEP: tl.constexpr):
    """All numbers of a block of queries, a tensor [STEP, QUERIES] a part, of SIGNS one a part and bit: they stay on the
    multiprocessor."""
    within = tl.arange(0, STEP)
    parts = ()
    for part in tl.static_range(0, SIZE, STEP):
        at = part + within
        there = (at < SIZE)[:, None]
        if KIND == SIGNS:
            for plane in tl.static_range(8):
                column = queries + some[None, :] * (8 * SIZE) + plane * SIZE + at[:, None]
                parts = parts + (tl.load(column, mask=there, other=0),)  # noqa: RUF005 - Triton knows no unpacking
        else:
            column = queries + some[None, :] * SIZE + at[:, None]
            parts = parts + (tl.load(column, mask=there, other=0),)  # noqa: RUF005
    return parts


@triton.jit
def _block(data, rows, live, begin, SIZE: tl.constexpr, STEP: tl.constexpr):
    """Numbers `begin` and on of rows that are live, [ROWS, STEP]."""
    at = begin + tl.arange(0, STEP)
    if SIZE % STEP == 0:
        return tl.load(data + rows[:, None] * SIZE + at[None, :], mask=live[:, None], other=0)
    return tl.load(data + rows[:, None] * SIZE + at[None, :], mask=live[:, None] & (at < SIZE)[None, :], other=0)


@triton.jit
def _products_of_held(
    data, held, rows, live, SIZE: tl.constexpr, KIND: tl.constexpr, ROWS: tl.constexpr, QUERIES: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    """Dot products [ROWS, QUERIES]; of SIGNS the sum of a query's numbers where the bit is set. Rows that are not live are
    not read."""
    acc = tl.zeros((ROWS, QUERIES), tl.float32 if KIND == HALF else tl.int32)
    for part in tl.static_range((SIZE + STEP - 1) // STEP):
        block = _block(data, rows, live, part * STEP, SIZE, STEP)
        if KIND == SIGNS:
            for plane in tl.static_range(8):
                acc = tl.dot(((block >> plane) & 1).to(tl.int8), held[part * 8 + plane], acc, out_dtype=tl.int32)
        else:
            acc = tl.dot(block, held[part], acc, out_dtype=acc.dtype)
    return acc


@triton.jit
def _products(
    data, queries, rows, live, some, SIZE: tl.constexpr, KIND: tl.constexpr, ROWS: tl.constexpr, QUERIES: tl.constexpr,
    STEP: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """The same with the queries read anew for each tile: where they are too wide to be held."""
    acc = tl.zeros((ROWS, QUERIES), tl.float32 if KIND == HALF else tl.int32)
    within = tl.arange(0, STEP)
    for begin in tl.range(0, SIZE, STEP, num_stages=AHEAD):
        at = begin + within
        there = (at < SIZE)[:, None]
        block = _block(data, rows, live, begin, SIZE, STEP)
        if KIND == SIGNS:
            for plane in tl.static_range(8):
                column = queries + some[None, :] * (8 * SIZE) + plane * SIZE + at[:, None]
                bits = ((block >> plane) & 1).to(tl.int8)
                acc = tl.dot(bits, tl.load(column, mask=there, other=0), acc, out_dtype=tl.int32)
        else:
            column = queries + some[None, :] * SIZE + at[:, None]
            acc = tl.dot(block, tl.load(column, mask=there, other=0), acc, out_dtype=acc.dtype)
    return acc


@triton.jit
def _scores(
    acc, row_scales, row_terms, term, inverse, rows, live, TERMED: tl.constexpr, SCALED: tl.constexpr,
    SHIFTED: tl.constexpr,
):  # fmt: skip
    """Scores over the query's scale [ROWS, QUERIES]: (product + query's term) * row's scale + row's term * query's inverse."""
    scores = acc.to(tl.float32)
    if TERMED:
        scores = scores + term[None, :]
    if SCALED:
        scores = scores * tl.load(row_scales + rows, mask=live, other=0.0)[:, None]
    if SHIFTED:
        scores = scores + tl.load(row_terms + rows, mask=live, other=0.0)[:, None] * inverse[None, :]
    return scores


@triton.jit
def _or(one, other):
    return one | other


@triton.jit
def _keep(scores, rows, live, some, thresholds, kept, counts, room, first):
    """Write the keys of scores past their query's threshold behind one another. What a tile seldom needs is read here, so that
    it takes no registers of those that do without."""
    lowest = tl.load(thresholds + some)
    keys = key_of(scores, rows[:, None])
    passes = live[:, None] & (keys > lowest[None, :])
    slots = tl.atomic_add(counts + some[None, :] + tl.zeros_like(passes).to(tl.int32), 1, mask=passes, sem="relaxed")
    line = kept + some[None, :].to(tl.int64) * room + first
    tl.store(line + slots, keys, mask=passes & (slots < room - first))


@triton.jit
def _keep_every(scores, rows, live, some, kept, place, room):
    """Write the keys of all rows, each at its own place."""
    keys = tl.where(live[:, None], key_of(scores, rows[:, None]), EMPTY)
    tl.store(kept + some[None, :].to(tl.int64) * room + place[:, None], keys)


@triton.jit
def _sift(past, rows, sifted, found, room):
    """Write rows with a score past its query's threshold behind one another."""
    some = tl.reduce(past.to(tl.int32), 1, _or)
    slots = tl.atomic_add(found, tl.sum(some, 0), sem="relaxed") + tl.cumsum(some, 0) - 1
    tl.store(sifted + slots, rows.to(tl.int32), mask=(some != 0) & (slots < room))


@triton.jit
def _course(course, found, sifted_room, ROWS: tl.constexpr, SIFTED: tl.constexpr):
    """Positions, tiles and stride; of rows that were sifted as many as there are, in order."""
    if SIFTED:
        positions = tl.minimum(tl.load(found), sifted_room).to(tl.int64)
        return positions, (positions + ROWS - 1) // ROWS, tl.full((), 1, tl.int64)
    return tl.load(course), tl.load(course + 1), tl.load(course + 2)


@triton.jit
def _rows(chosen, at, live, CHOSEN: tl.constexpr):
    """Rows int64 at positions: those, or what is listed there."""
    if CHOSEN:
        return tl.load(chosen + at, mask=live, other=0).to(tl.int64) & 4294967295
    return at


@triton.jit
def _passing(bits, rows, live, FILTERED: tl.constexpr):
    """Which rows may be found."""
    if FILTERED:
        byte = tl.load(bits + (rows >> 3), mask=live, other=0).to(tl.int32)
        return live & (((byte >> (rows & 7).to(tl.int32)) & 1) != 0)
    return live


@triton.jit(do_not_specialize=["begin", "end", "base", "room", "first", "query_blocks", "sifted_room"])
def scan(  # or it is compiled anew for multiples of 16, seconds each
    data, row_scales, row_terms, chosen, bits, queries, query_terms, query_inverses, thresholds, kept, counts, course,
    sifted, found, begin, end, base, room, first, query_blocks, sifted_room,
    SIZE: tl.constexpr, KIND: tl.constexpr, TERMED: tl.constexpr, SCALED: tl.constexpr, SHIFTED: tl.constexpr,
    CHOSEN: tl.constexpr, FILTERED: tl.constexpr, EVERY: tl.constexpr, ROWS: tl.constexpr, QUERIES: tl.constexpr,
    STEP: tl.constexpr,
    SIFT: tl.constexpr, SIFTED: tl.constexpr, HELD: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Scores tiles `begin` to `end` - 1, of which there may be fewer, as `course` has them: int64 [3] of positions, tiles of
    ROWS positions each, and the stride (coprime to the tiles) in which they are taken.

    A position is a row, or with CHOSEN where `chosen` int32, read as unsigned, names one. `data` [n, SIZE] of KIND;
    `row_scales`, `row_terms` float32 [n] where SCALED and SHIFTED. `queries` [QUERIES * query_blocks, SIZE] of the same kind,
    of SIGNS int8 [.., 8, SIZE] by bit of the byte; `query_scales`, `query_terms` float32, `thresholds` int64, `counts` int32,
    one each; of queries that are none the threshold is the greatest int64. With FILTERED only rows whose bit is set are kept.
    Keys, of `base` + row, go to `kept` int64 [.., room] from `first` on; with EVERY those of all rows, each at its own place.
    `counts` goes on past the room: what did not fit is lost, and whoever sees that must scan again.
    With SIFT no key is kept, but rows that have any go to `sifted` int32 [query_blocks, sifted_room], `found` int32 counts them
    for each block: few registers, and hardly any time of tiles where there is one. A second scan, SIFTED, keeps their keys.
    AHEAD: stages of the pipeline in which rows are loaded, over tiles where the queries are HELD, else within one.
    """
    block = tl.program_id(0) % query_blocks
    workers, worker = tl.num_programs(0) // query_blocks, tl.program_id(0) // query_blocks
    some = block * QUERIES + tl.arange(0, QUERIES)
    within = tl.arange(0, ROWS)
    sifted = sifted + block.to(tl.int64) * sifted_room
    positions, tiles, stride = _course(course, found + block, sifted_room, ROWS, SIFTED)
    term = tl.load(query_terms + some) if TERMED else 0
    inverse = tl.load(query_inverses + some) if SHIFTED else 0
    lowest = tl.load(thresholds + some)
    least = tl.where(lowest == NEVER, float("inf"), score_of(lowest))
    held = _held(queries, some, SIZE, KIND, STEP) if HELD else ()
    last = tl.minimum(tiles, end).to(tl.int32)
    if EVERY and worker == 0:
        tl.store(counts + some, tl.maximum(last - begin, 0) * ROWS + tl.zeros_like(some), mask=lowest != NEVER)
    tile = (((begin + worker) * stride) % tl.maximum(tiles, 1)).to(tl.int32)
    step = ((workers * stride) % tl.maximum(tiles, 1)).to(tl.int32)
    for turn in tl.range(begin + worker, last, workers, num_stages=AHEAD if HELD else 1):
        at = tile.to(tl.int64) * ROWS + within
        live = at < positions
        rows = _rows(sifted if SIFTED else chosen, at, live, CHOSEN or SIFTED)
        passing = _passing(bits, rows, live, FILTERED)
        if HELD:
            acc = _products_of_held(data, held, rows, live, SIZE, KIND, ROWS, QUERIES, STEP)
        else:
            acc = _products(data, queries, rows, live, some, SIZE, KIND, ROWS, QUERIES, STEP, AHEAD)
        scores = _scores(acc, row_scales, row_terms, term, inverse, rows, live, TERMED, SCALED, SHIFTED)
        if EVERY:
            place = first + (turn - begin) * ROWS + within
            _keep_every(scores, base + rows, passing, some, kept, place, room)
        else:
            past = (scores >= least[None, :]) & passing[:, None] if FILTERED else scores >= least[None, :]
            if tl.reduce(past.to(tl.int32), None, _or) != 0:  # seldom: thresholds are near the end's from early on
                if SIFT:
                    _sift(past & live[:, None], rows, sifted, found + block, sifted_room)
                else:
                    _keep(scores, base + rows, passing, some, thresholds, kept, counts, room, first)
        tile += step
        tile = tl.where(tile >= tiles, tile - tiles.to(tl.int32), tile)


@triton.jit(do_not_specialize=["wanted", "block", "sifted_room"])
def settle(kept, counts, thresholds, lost, found, wanted, block, sifted_room, ROOM: tl.constexpr):
    """The `wanted` best keys of each query's `kept` int64 [q, ROOM] go to its front, in no order, and EMPTY behind them up to
    there. Of a query `wanted` + counts[q] keys are looked at, at most ROOM. `thresholds` rises to where those in front begin
    (that is EMPTY where they are fewer), `counts` becomes zero, and `found` of each `block` queries; `lost` int32 [1] becomes
    1 where there was no room for something. Grid: q.

    Where they begin is found bit by bit, from the greatest, until so many are past it: that takes no longer than the steps of
    a sorting network, and compiles in a second, where a network of 4,096 keys took 40.
    """
    query = tl.program_id(0).to(tl.int64)
    line = kept + query * ROOM
    filled = wanted + tl.load(counts + query)
    at = tl.arange(0, ROOM)
    keys = tl.load(line + at, mask=at < filled, other=EMPTY)
    one = tl.full((), 1, tl.int64)
    least = tl.full((), 0, tl.int64)  # with the sign's bit flipped, so that bits count upwards
    there = tl.sum((keys != EMPTY).to(tl.int32), 0)
    nth = tl.where(there > wanted, 63, -1)
    while nth >= 0:
        higher = least | (one << nth.to(tl.int64))
        many = tl.sum((keys >= (higher ^ EMPTY)).to(tl.int32), 0)
        least = tl.where(many >= wanted, higher, least)
        nth = tl.where(many == wanted, -1, nth - 1)
    least = least ^ EMPTY
    best = (keys >= least) & (keys != EMPTY)
    places = tl.cumsum(best.to(tl.int32), 0) - 1
    tl.store(line + places, keys, mask=best)
    tl.store(line + at, EMPTY, mask=(at >= tl.sum(best.to(tl.int32), 0)) & (at < wanted))
    tl.store(thresholds + query, tl.maximum(least, tl.load(thresholds + query)))
    tl.store(counts + query, 0)
    if filled > ROOM:
        tl.store(lost, 1)
    if query % block == 0:
        if tl.load(found + query // block) > sifted_room:
            tl.store(lost, 1)
        tl.store(found + query // block, 0)


@triton.jit
def set_course(count, course, ROWS: tl.constexpr):
    """`course` int64 [3] of count[0] int64 positions, for `scan`: the stride is the number nearest to the tiles over the golden
    ratio, from there upwards, that is coprime to them."""
    positions = tl.load(count)
    tiles = (positions + ROWS - 1) // ROWS
    stride = tl.maximum((tiles * 2654435769 + 2147483648) >> 32, 1)
    common = tl.full((), 2, tl.int64)
    stride -= 1
    while common != 1:
        stride += 1
        common, rest = stride, tiles
        while rest != 0:
            common, rest = rest, common % rest
        common = tl.where(tiles == 0, 1, common)
    tl.store(course, positions)
    tl.store(course + 1, tiles)
    tl.store(course + 2, stride)


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
