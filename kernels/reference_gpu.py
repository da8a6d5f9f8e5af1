"""The readable twins of the kernels for GPUs: the same answers by plain numpy, and the same rounds over a matrix of scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.gpu.rounds import Room, golden_stride, rounds

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

EMPTY = -(2**63)


def scores(rows: Floats | Singles, queries: Singles, metric: str) -> Floats:
    """float64 [q, n]: dot products, cosines (0 where there is no direction) or minus squared distances."""
    x, q = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return -((q[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    found: Floats = q @ x.T
    if metric == "cosine":
        lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)[None, :]
        found = found / np.where(lengths > 0, lengths, 1)
    return found


def nearest(found: Floats, k: int, bits: Bytes | None = None) -> tuple[Floats, Longs]:
    """The k best of scores [q, n], of equals the lower row first, of rows whose bits are set; rows -1 where there are no more."""
    many, rows = found.shape
    passing = np.ones(rows, bool) if bits is None else np.unpackbits(bits, count=rows, bitorder="little").astype(bool)
    out, at = np.full((many, k), -np.inf), np.full((many, k), -1, np.int64)
    for query in range(many):
        allowed = np.flatnonzero(passing)
        best = allowed[np.argsort(-found[query, allowed], kind="stable")][:k]
        out[query, : len(best)], at[query, : len(best)] = found[query, best], best
    return out, at


def keys_of(found: Singles, rows: Longs) -> Longs:
    """Keys of scores and rows: see kernels/gpu/scan.py."""
    bits = (found + np.float32(0)).view(np.int32)
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    return (ordered << 32) | (0xFFFFFFFF - rows)


def searched_in_rounds(found: Singles, room: Room, tile: int) -> tuple[Longs, int]:
    """The keys of the `room.wanted` best of float32 scores [n], as the GPU goes about it, and how many passes that took."""
    tiles = -(-len(found) // tile)
    stride, lowest, passes = golden_stride(tiles), EMPTY, 0
    while True:
        passes += 1
        best, lost = np.empty(0, np.int64), False
        for begin, end, every in rounds(len(found), tile, len(found) if passes > 1 else 0, room):
            turns = np.arange(begin, end, dtype=np.int64) * stride % tiles
            at = (turns[:, None] * tile + np.arange(tile)).ravel()
            keys = keys_of(found[at[at < len(found)]], at[at < len(found)])
            past = keys if every else keys[keys > lowest]
            lost |= len(past) > room.keys - room.wanted
            best = np.sort(np.concatenate([best, past[: room.keys - room.wanted]]))[::-1][: room.wanted]
            lowest = max(lowest, int(best[-1])) if len(best) == room.wanted else lowest
        if not lost:
            return best, passes
        lowest -= lowest != EMPTY


def int8_codes(rows: Singles) -> tuple[npt.NDArray[np.int8], Singles]:
    """Rows in 8 bits, and what each is multiplied by: its greatest number / 127."""
    factors = np.abs(rows).max(axis=1) / np.float32(127)
    codes = np.rint(rows / np.where(factors > 0, factors, 1)[:, None])
    return np.clip(codes, -127, 127).astype(np.int8), factors.astype(np.float32)


def signs_of(rows: Singles) -> Bytes:
    """1 bit a number, set where it is at least 0; see kernels/scoring.py."""
    return np.packbits(rows >= 0, axis=1, bitorder="little")


def rabitq_scores(rows: Singles, queries: Singles, turn: Singles) -> Floats:
    """The estimates [q, n] of dot products from the signs of rows turned by `turn` [d, d] (Gao and Long, SIGMOD 2024): the
    product with the signs, times the row's squared length over the sum of its turned numbers' sizes."""
    turned = rows.astype(np.float64) @ turn
    sizes = np.abs(turned).sum(axis=1)
    factors = (turned**2).sum(axis=1) / np.where(sizes > 0, sizes, 1)
    return (queries.astype(np.float64) @ turn) @ np.where(turned >= 0, 1.0, -1.0).T * factors
