"""How good lists are, against what was liked later. Pure."""

from collections.abc import Sequence

import numpy as np

from benchmarks.workloads.recommendation.catalogue import Longs


def recall_at(k: int, ranked: Longs, targets: Longs) -> float:
    """The share of `targets` (at least one) among the first `k`; of k where there are more targets than that."""
    found = np.isin(ranked[:k], targets).sum()
    return float(found) / min(k, len(targets))


def ndcg_at(k: int, ranked: Longs, targets: Longs) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen, TOIS 2002): gain 1 for a target, over log2(rank + 1)."""
    gains = np.isin(ranked[:k], targets)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return float((gains * discounts[: len(gains)]).sum() / discounts[: min(k, len(targets))].sum())


def mean_of(values: Sequence[float]) -> float:
    """NaN of none."""
    return float(np.mean(values)) if values else float("nan")
