"""Vectors on a device, as the scan reads them, and queries made ready to meet them.

| kind | a row | what a product with a query is |
|---|---|---|
| `float16`, `bfloat16` | d numbers | of the query in the same precision, summed in float32 |
| `int8` | d codes, a float32 scale: its greatest number / 127 | of the query in 8 bits, summed in integers |
| `binary` | d signs, 1 bit each | of the query in 8 bits; under `l2` of its signs: exact |
| `rabitq` | d signs of the row turned at random, and a float32 scale | of the turned query in 8 bits: an estimate |

Codes of `int8` may come with a scale for each dimension instead. `binary` under `l2` is minus the Hamming distance. `rabitq`
is the unbiased estimate of Gao and Long ("RaBitQ", SIGMOD 2024).

Scores: `dot` q x; `cosine` that at length 1 (0 where there is none); `l2` minus the squared distance; the higher is the better.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

Kind = Literal["float16", "bfloat16", "int8", "binary", "rabitq"]
Metric = Literal["dot", "cosine", "l2"]
Tensor = torch.Tensor

ALIGNED = {"float16": 16, "bfloat16": 16, "int8": 32, "binary": 16, "rabitq": 16}
"""Rows are padded with zeros to a multiple of so many numbers, or bytes of bits: what a GPU loads at once, and multiplies."""
SLICE_BYTES = 64 << 20
_HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_DTYPES = {**_HALVES, "int8": torch.int8, "binary": torch.uint8, "rabitq": torch.uint8}
_INT8_MAX = 127
_ROTATION_SEED = 11
_LEAST_UNDER_L2 = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class DeviceRows:
    """n rows of `size` dimensions: `data` [n, width]; `scales` and `terms` float32 [n], by which a row's products are
    multiplied and to which is added. `weights` float32 [d]: the scale of each dimension, where codes came with it; `turn`
    float32 [d, d]: what `rabitq` turns vectors by. Never changed."""

    data: Tensor
    kind: Kind
    metric: Metric
    size: int
    scales: Tensor | None = None
    terms: Tensor | None = None
    weights: Tensor | None = None
    turn: Tensor | None = None

    def __len__(self) -> int:
        """How many."""
        return len(self.data)

    @property
    def bytes_size(self) -> int:
        """What it takes on the device."""
        parts = (self.data, self.scales, self.terms, self.weights, self.turn)
        return sum(each.numel() * each.element_size() for each in parts if each is not None)

    def first(self, count: int) -> DeviceRows:
        """The first `count` of them, where they are."""
        scales, terms = (None if each is None else each[:count] for each in (self.scales, self.terms))
        return replace(self, data=self.data[:count], scales=scales, terms=terms)

    @property
    def signs(self) -> bool:
        """Whether a row is bits."""
        return self.kind in ("binary", "rabitq")


def checked(vectors: Tensor, what: str, first: int = 0) -> Tensor:
    """The same float32 [n, d]. Raises ValueError that names the first row with a number that is not finite."""
    bad = ~torch.isfinite(vectors).all(1)
    if bool(bad.any()):
        raise ValueError(f"{what} {first + int(bad.int().argmax())} has a number that is not finite")
    return vectors


def rows_of(vectors: Any, kind: Kind, metric: Metric, *, device: str = "cuda") -> DeviceRows:
    """Rows of `vectors`: anything with `shape` (n, d) whose slices are float32 numpy arrays; read slice by slice, so that no
    second copy of all is made.

    Raises ValueError where a number is not finite, or too large for its kind; what the device raises where it has no room.
    """
    count, size = vectors.shape
    turn = _turn(size, device) if kind == "rabitq" else None
    step = max(1, SLICE_BYTES // (4 * size))
    width = _width(size, kind)
    data = torch.zeros((count, width), dtype=_DTYPES[kind], device=device)
    scaled = kind in ("int8", "rabitq") or (kind in _HALVES and metric == "cosine")
    scales = torch.empty(count, dtype=torch.float32, device=device) if scaled else None
    terms = torch.empty(count, dtype=torch.float32, device=device) if metric == "l2" and kind != "binary" else None
    for begin in range(0, count, step):
        some = torch.from_numpy(np.array(vectors[begin : begin + step], np.float32)).to(device)
        end = begin + len(some)
        codes, factors = encoded(checked(some, "row", begin), kind, turn)
        data[begin:end, : codes.shape[1]] = codes
        if kind == "float16" and bool(torch.isinf(codes).any()):
            raise ValueError(f"rows {begin} to {end - 1} have numbers past what float16 holds, ±65504")
        squares = some.double().square().sum(1)
        if terms is not None:
            terms[begin:end] = -squares
        if scales is not None:
            scales[begin:end] = _factors(factors, squares, metric)
    return DeviceRows(data, kind, metric, size, scales, terms, None, turn)


def rows_of_codes(codes: Any, metric: Metric, size: int, *, weights: Any = None, device: str = "cuda") -> DeviceRows:
    """Rows that are codes already: int8 [n, d], number = code * `weights` float32 [d]; or without those uint8
    [n, ceil(d / 8)], bits as `kernels.scoring` has them. Of `cosine` numbers must have length 1 where they are int8."""
    kind: Kind = "binary" if weights is None else "int8"
    width = _width(size, kind)
    data = torch.zeros((len(codes), width), dtype=_DTYPES[kind], device=device)
    step = max(1, SLICE_BYTES // max(1, codes.shape[1]))
    factors = None if weights is None else torch.from_numpy(np.array(weights, np.float32)).to(device)
    terms = None
    if metric == "l2" and factors is not None:
        terms = torch.empty(len(codes), dtype=torch.float32, device=device)
    for begin in range(0, len(codes), step):
        some = torch.from_numpy(np.array(codes[begin : begin + step])).to(device)
        data[begin : begin + len(some), : some.shape[1]] = some
        if terms is not None:
            terms[begin : begin + len(some)] = -(some.double() * factors).square().sum(1)
    return DeviceRows(data, kind, metric, size, None, terms, factors)


def encoded(vectors: Tensor, kind: Kind, turn: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """float32 [n, d] as codes of a kind, and float32 [n] by which they are to be multiplied, if by anything."""
    if kind in _HALVES:
        return vectors.to(_HALVES[kind]), None
    if kind == "int8":
        factors = vectors.abs().amax(1) / _INT8_MAX
        codes = torch.round(vectors / torch.where(factors > 0, factors, 1)[:, None])
        return codes.clamp(-_INT8_MAX, _INT8_MAX).to(torch.int8), factors
    if kind == "binary":
        return packed(vectors), None
    assert turn is not None
    turned = vectors @ turn
    lengths = turned.abs().sum(1)
    return packed(turned), turned.square().sum(1) / torch.where(lengths > 0, lengths, 1)


def packed(vectors: Tensor) -> Tensor:
    """Signs, uint8 [n, ceil(d / 8)]: bit j % 8 (from the least) of byte j // 8 set where a number is at least 0."""
    wide = -(-vectors.shape[1] // 8) * 8
    bits = torch.zeros((len(vectors), wide), dtype=torch.uint8, device=vectors.device)
    bits[:, : vectors.shape[1]] = vectors >= 0
    powers = 2 ** torch.arange(8, dtype=torch.int32, device=vectors.device)
    return (bits.view(len(vectors), -1, 8).int() * powers).sum(2).to(torch.uint8)


def _factors(factors: Tensor | None, squares: Tensor, metric: Metric) -> Tensor:
    if metric != "cosine":
        assert factors is not None
        return factors
    inverse = torch.where(squares > 0, squares, 1).rsqrt().float()
    return inverse if factors is None else factors * inverse


def _width(size: int, kind: Kind) -> int:
    numbers = -(-size // 8) if kind in ("binary", "rabitq") else size
    return -(-numbers // ALIGNED[kind]) * ALIGNED[kind]


def _turn(size: int, device: str) -> Tensor:
    """A rotation at random, the same each time."""
    normal = np.random.default_rng(_ROTATION_SEED).standard_normal((size, size))
    return torch.from_numpy(np.linalg.qr(normal)[0].astype(np.float32)).to(device)


@dataclass(frozen=True, slots=True, eq=False)
class ReadyQueries:
    """Queries as the scan reads them: `codes` of the rows' kind (of signs int8 [q, 8, width] by bit of the byte). It tells scores
    over `scales`: to a product come `terms`, to a row's term it is multiplied by `inverses`. float32 [q]. Padded with zeros
    to the rows asked for."""

    codes: Tensor
    scales: Tensor
    terms: Tensor
    inverses: Tensor


def ready(queries: Tensor, rows: DeviceRows, padded: int) -> ReadyQueries:
    """float32 [q, d] made ready for `rows`, `padded` >= q of them."""
    numbers = queries
    if rows.metric == "cosine":
        numbers = torch.nn.functional.normalize(queries, eps=1e-30)
    if rows.weights is not None:
        numbers = numbers * rows.weights
    if rows.turn is not None:
        numbers = numbers @ rows.turn
    hamming = rows.kind == "binary" and rows.metric == "l2"
    if hamming:
        numbers = torch.where(numbers >= 0, 1.0, -1.0)
    greatest = numbers.abs().amax(1)
    if rows.metric == "l2":  # less than that is nothing beside a row's length, which is divided by it
        greatest = greatest.clamp(min=_LEAST_UNDER_L2)
    greatest = torch.where(greatest > 0, greatest, 1)
    if rows.kind in _HALVES:  # of at most 1, so that none is past what float16 holds
        codes, scales = (numbers / greatest[:, None]).to(_HALVES[rows.kind]), greatest
    elif hamming:
        codes, scales = numbers.to(torch.int8), torch.ones_like(greatest)
    else:
        scales = greatest / _INT8_MAX
        codes = torch.round(numbers / scales[:, None]).to(torch.int8)
    terms = torch.zeros_like(scales)
    if rows.signs:  # 2 sum(q of set bits) - sum(q), and minus the Hamming distance is half of that less d
        totals = codes.float().sum(1)
        terms = -(totals + rows.size) / 2 if hamming else -totals / 2
        scales = scales if hamming else 2 * scales
        codes = _by_bit(codes, rows.data.shape[1])
    if rows.metric == "l2" and not hamming:
        scales = 2 * scales
    return ReadyQueries(
        _longer(codes, padded, rows), _padded(scales, padded), _padded(terms, padded), _padded(1 / scales, padded)
    )


def scores_as_scanned(rows: DeviceRows, queries: Tensor) -> Tensor:
    """float64 [q, n]: what the scan computes, without it."""
    asked = ready(queries, rows, len(queries))
    numbers = torch.cat([(rows.data >> bit) & 1 for bit in range(8)], 1) if rows.signs else rows.data
    scores = asked.codes.double() @ numbers.double().T + asked.terms[:, None]
    if rows.scales is not None:
        scores = scores * rows.scales
    if rows.terms is not None:
        scores = scores + rows.terms * asked.inverses[:, None].double()
    return scores * asked.scales[:, None]


def _by_bit(codes: Tensor, width: int) -> Tensor:
    spread = torch.zeros((len(codes), 8 * width), dtype=torch.int8, device=codes.device)
    spread[:, : codes.shape[1]] = codes
    return spread.view(len(codes), width, 8).transpose(1, 2).reshape(len(codes), -1)


def _longer(codes: Tensor, padded: int, rows: DeviceRows) -> Tensor:
    width = 8 * rows.data.shape[1] if rows.signs else rows.data.shape[1]
    out = torch.zeros((padded, width), dtype=codes.dtype, device=codes.device)
    out[: len(codes), : codes.shape[1]] = codes
    return out


def _padded(values: Tensor, padded: int) -> Tensor:
    return torch.nn.functional.pad(values.float(), (0, padded - len(values))).contiguous()


def exact_scores(rows: DeviceRows, queries: Tensor, chosen: Tensor) -> Tensor:
    """Scores float32 [q, m] of rows `chosen` int64 [q, m] for float32 `queries` [q, d], from what is kept and summed in float64;
    minus infinity where a row is below 0. Not of `rabitq`, whose rows are only estimated."""
    assert rows.kind != "rabitq"
    if rows.kind == "binary" and rows.metric == "l2":
        queries = torch.where(queries >= 0, 1.0, -1.0)
    found = _numbers(rows, chosen.clamp(min=0))
    asked = queries.double()[:, None, :]
    if rows.metric == "l2":
        scores = -(found - asked).square().sum(2)
        scores = scores / 4 if rows.kind == "binary" else scores
    else:
        scores = (found * asked).sum(2)
        if rows.metric == "cosine":
            lengths = found.square().sum(2).sqrt() * asked.square().sum(2).sqrt()
            scores = scores / torch.where(lengths > 0, lengths, 1)
    return torch.where(chosen >= 0, scores, float("-inf")).float()


def _numbers(rows: DeviceRows, chosen: Tensor) -> Tensor:
    """Chosen rows [q, m] as float64 [q, m, d]; of int8 with a scale a row times that, but not under cosine, where it cancels."""
    data = rows.data[chosen]
    if rows.kind == "binary":
        bits = (data[..., None] >> torch.arange(8, dtype=torch.uint8, device=data.device)) & 1
        return 2 * bits.flatten(-2)[..., : rows.size].double() - 1
    numbers = data[..., : rows.size].double()
    if rows.weights is not None:
        return numbers * rows.weights
    if rows.kind == "int8" and rows.scales is not None and rows.metric != "cosine":
        return numbers * rows.scales[chosen][..., None]
    return numbers
