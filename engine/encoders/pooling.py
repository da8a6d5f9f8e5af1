"""One vector of those of a text's tokens. Pure; numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.encoders.declaration import Pooling

Floats = npt.NDArray[np.float32]


def pooled(hidden: Floats, mask: npt.NDArray[np.int64], pooling: Pooling) -> Floats:
    """float32 [n, d] of `hidden` [n, tokens, d]; `mask` [n, tokens] is 1 where a token is no padding, which comes last."""
    if pooling == "cls":
        first: Floats = hidden[:, 0]
        return first
    if pooling == "last":
        last: Floats = hidden[np.arange(len(hidden)), mask.sum(1) - 1]
        return last
    weights = mask[:, :, None].astype(np.float32)
    mean: Floats = (hidden * weights).sum(1) / weights.sum(1)
    return mean


def normalised(vectors: Floats) -> Floats:
    """Of length 1; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
