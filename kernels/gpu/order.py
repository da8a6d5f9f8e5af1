"""Triton kernels that bring what a search found into order. They know arrays alone; `kernels.gpu.finish` says when they run."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.scan import EMPTY, key_of, score_of


@triton.jit
def rescored(
    kept, data, row_scales, weights, queries, room, size,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, METRIC: tl.constexpr, SCALED: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Keys `kept` int64 [q, room] become those of exact scores, of rows `data` [n, WIDTH] of numbers and `queries` float32
    [q, size]: multiplied and summed in float64, as `kernels.gpu.rows.exact_scores` has it. Grid: q, keys in front."""
    query = tl.program_id(0).to(tl.int64)
    place = kept + query * room + tl.program_id(1)
    key = tl.load(place)
    if key != EMPTY:
        row = 4294967295 - (key & 4294967295)
        at = tl.arange(0, BLOCK)
        there = at < size
        x = tl.load(data + row * WIDTH + at, mask=there, other=0).to(tl.float32).to(tl.float64)
        q = tl.load(queries + query * size + at, mask=there, other=0.0).to(tl.float64)
        if WEIGHTED:
            x = x * tl.load(weights + at, mask=there, other=0.0).to(tl.float64)
        if SCALED:
            x = x * tl.load(row_scales + row).to(tl.float64)
        if METRIC == 2:
            score = -tl.sum((x - q) * (x - q), 0)
        else:
            score = tl.sum(x * q, 0)
            if METRIC == 1:
                lengths = tl.sqrt(tl.sum(x * x, 0)) * tl.sqrt(tl.sum(q * q, 0))
                score = score / tl.where(lengths > 0, lengths, 1.0)
        tl.store(place, key_of(score.to(tl.float32), row))


@triton.jit
def in_order(kept, scales, scores, rows, room, wanted, BLOCK: tl.constexpr):
    """The `wanted` keys in front of `kept` int64 [q, room] as `scores` float32, times `scales` [q], and `rows` int64
    [q, wanted], best first; rows -1 of EMPTY. Grid: q."""
    query = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    keys = tl.load(kept + query * room + at, mask=at < wanted, other=EMPTY)
    better = (keys[None, :] > keys[:, None]) | ((keys[None, :] == keys[:, None]) & (at[None, :] < at[:, None]))
    place = query * wanted + tl.sum(better.to(tl.int32), 1)
    row = tl.where(keys == EMPTY, -1, 4294967295 - (keys & 4294967295))
    tl.store(scores + place, score_of(keys) * tl.load(scales + query), mask=at < wanted)
    tl.store(rows + place, row, mask=at < wanted)
