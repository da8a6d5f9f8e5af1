"""Random rows of length 1 on a GPU, in the kinds that are measured, and what is truly nearest to queries among them."""

from dataclasses import dataclass
from typing import Any

import torch

from kernels.gpu.rows import DeviceRows, encoded

SLICE_ROWS = 250_000


@dataclass(frozen=True, slots=True)
class Corpus:
    """The same rows as float16 and int8, and queries float32."""

    halves: DeviceRows
    codes: DeviceRows
    queries: Any


def corpus(rows: int, size: int, queries: int, seed: int, device: str) -> Corpus:
    """Made on the device, slice by slice."""
    torch.manual_seed(seed)
    halves = torch.empty((rows, size), dtype=torch.float16, device=device)
    codes = torch.empty((rows, size), dtype=torch.int8, device=device)
    scales = torch.empty(rows, dtype=torch.float32, device=device)
    for begin in range(0, rows, SLICE_ROWS):
        some = torch.nn.functional.normalize(torch.randn(min(SLICE_ROWS, rows - begin), size, device=device))
        halves[begin : begin + len(some)] = some.half()
        codes[begin : begin + len(some)], scales[begin : begin + len(some)] = encoded(some, "int8")
    asked = torch.nn.functional.normalize(torch.randn(queries, size, device=device))
    return Corpus(
        DeviceRows(halves, "float16", "dot", size), DeviceRows(codes, "int8", "dot", size, scales=scales), asked
    )


def nearest_in_float64(data: Any, queries: Any, k: int, bits: Any = None) -> Any:  # noqa: ANN401
    """Rows int64 [q, k] of the greatest dot products in float64, of those whose bit is set."""
    best = torch.full((len(queries), k), float("-inf"), dtype=torch.float64, device=data.device)
    at = torch.full((len(queries), k), -1, dtype=torch.int64, device=data.device)
    for begin in range(0, len(data), SLICE_ROWS):
        some = data[begin : begin + SLICE_ROWS]
        scores = queries.double() @ some.double().T
        rows = torch.arange(begin, begin + len(some), device=data.device)
        if bits is not None:
            passing = (bits[rows >> 3] >> (rows & 7).to(torch.uint8)) & 1
            scores.masked_fill_(passing[None, :] == 0, float("-inf"))
        merged = torch.cat([best, scores], 1).topk(k, dim=1)
        best = merged.values
        at = torch.cat([at, rows[None, :].expand(len(queries), -1)], 1).gather(1, merged.indices)
    return at


def bits_keeping(share: float, rows: int, device: str) -> Any:  # noqa: ANN401
    """A bitset in which some `share` of the rows are, at random."""
    kept = torch.rand((rows + 7) // 8 * 8, device=device) < share
    kept[rows:] = False
    powers = 2 ** torch.arange(8, device=device)
    return (kept.view(-1, 8) * powers).sum(1).to(torch.uint8)


def recall(found: Any, expected: Any) -> float:  # noqa: ANN401
    """The share of `expected` rows [q, k] that are among those found."""
    return float((found[:, :, None] == expected[:, None, :]).any(1).float().mean())
