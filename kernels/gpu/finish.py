"""What a search found is brought into order: scored again from what is kept, in float64, where that is asked for."""

from __future__ import annotations

import torch
import triton

from kernels.gpu import order
from kernels.gpu.knn import Search, refined
from kernels.gpu.rows import DeviceRows, Tensor

RANKED_MAX = 128
"""So many are ranked by counting those that are better; more are sorted."""
_DOT, _COSINE, _L2 = 0, 1, 2
_METRICS = {"dot": _DOT, "cosine": _COSINE, "l2": _L2}


def ranked(search: Search, refine: DeviceRows | None, scores: Tensor, rows: Tensor) -> None:
    """All that `search` wanted, into `scores` float32 and `rows` int64 [q, wanted]: best first, of equals the lower row; by the
    scan's scores, or exactly from `refine`. Waits for nothing."""
    many, wanted = scores.shape
    if wanted > RANKED_MAX or (refine is not None and refine.signs):
        found = search.best()
        if refine is not None:
            found = refined(refine, search.queries, found[1])
        scores.copy_(found[0])
        rows.copy_(found[1])
        return
    kept, scales = search.kept, search.scales
    if refine is not None:
        scales = torch.ones_like(scales)
        _rescore(search, refine, wanted)
    order.in_order[(many,)](kept, scales, scores, rows, kept.shape[1], wanted, BLOCK=triton.next_power_of_2(wanted))


def _rescore(search: Search, refine: DeviceRows, wanted: int) -> None:
    data, weighted = refine.data, refine.weights is not None
    scaled = refine.kind == "int8" and refine.scales is not None and refine.metric != "cosine" and not weighted
    order.rescored[(len(search.queries), wanted)](
        search.kept, data, data if refine.scales is None else refine.scales,
        data if refine.weights is None else refine.weights, search.queries, search.kept.shape[1], refine.size,
        WIDTH=data.shape[1], BLOCK=triton.next_power_of_2(refine.size), METRIC=_METRICS[refine.metric],
        SCALED=scaled, WEIGHTED=weighted,
    )  # fmt: skip
