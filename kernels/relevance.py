"""Scores of any kind as relevance, which can be weighed against likeness."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]


def scaled(scores: npt.NDArray[np.floating]) -> Singles:
    """Scaled to [0, 1], as cosines of vectors that are alike are: distances and words have scales of their own. Of minus infinity
    it is 0."""
    finite = np.isfinite(scores)
    if not finite.any():
        return np.ones(len(scores), np.float32)
    low, high = float(scores[finite].min()), float(scores[finite].max())
    if not high > low:
        return np.array(finite, np.float32)
    scaled: Singles = ((np.where(finite, scores, low) - low) / (high - low)).astype(np.float32)
    return scaled
