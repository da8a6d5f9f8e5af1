"""How far the answers of two models to the same requests lie apart. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidArgument, nearest, quoted
from engine.optimization.record import Loss
from engine.servables.servable import Tensors
from engine.servables.signature import Signature, TensorSpec
from engine.tensor import BF16, Array, DataType, Tensor

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """What scores are judged by: `groups` within which they are ranked, one label a score (None: all are one group), `outcomes`,
    1 or 0 a score (None: not known), and the `k` of the best."""

    score: str | None
    k: int
    groups: Array | None = None
    outcomes: Array | None = None


def loss_between(before: Sequence[Tensors], after: Sequence[Tensors], judged: Judged) -> Loss:
    """Of the answers of two models, request by request. Values that are not numbers in both are alike; where only one is, the
    difference is infinite. Raises InvalidArgument where groups or outcomes are not one a score."""
    differences = [_differences(old[name], new[name]) for old, new in zip(before, after, strict=True) for name in old]
    gaps = [each for each, floating in differences if floating]
    others = [each for each, floating in differences if not floating]
    values, discrete = _joined(gaps), _joined(others)
    max_abs = float(values.max()) if values.size else 0.0
    mean_abs = float(values.mean()) if values.size else 0.0
    changed = float(discrete.mean()) if discrete.size else 0.0
    if judged.score is None:
        return Loss(max_abs, mean_abs, changed)
    scores = [_scores(each, judged.score) for each in before], [_scores(each, judged.score) for each in after]
    return _with_ranks(Loss(max_abs, mean_abs, changed), *scores, judged)


def score_output(signature: Signature, named: str | None) -> str | None:
    """The output that is a score: the one `named`, else the only floating one with one value a row, or with two, of which the
    second is taken. Raises InvalidArgument where none is called so."""
    if named is not None and named not in signature.output_names:
        raise InvalidArgument(f"--score: no output {quoted(named)}{nearest(named, signature.output_names)}")
    found = [each.name for each in signature.outputs if _is_score(each, batchable=signature.batchable)]
    if named is not None and named not in found:
        raise InvalidArgument(f"--score: output {quoted(named)} is no score: it has not one or two numbers a row")
    return named or (found[0] if len(found) == 1 else None)


def _is_score(spec: TensorSpec, *, batchable: bool) -> bool:
    inner = spec.shape[1:]
    return _is_floating(spec.datatype) and (
        not inner or (len(inner) == 1 and inner[0] in ((1, 2) if batchable else (1,)))
    )


def _is_floating(datatype: DataType) -> bool:
    return datatype is BF16 or datatype.dtype.kind == "f"


def _differences(old: Tensor, new: Tensor) -> tuple[Doubles, bool]:
    """(of each value, whether they are numbers that may lie near each other)."""
    if old.array.shape != new.array.shape:
        return np.array([np.inf]), True
    if not _is_floating(old.datatype):
        return np.not_equal(old.array, new.array).astype(np.float64).ravel(), False
    left, right = _floats(old).ravel(), _floats(new).ravel()
    with np.errstate(invalid="ignore"):
        gap = np.abs(left - right)
    gap[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
    gap[np.isnan(gap)] = np.inf
    return gap, True


def _floats(tensor: Tensor) -> Doubles:
    return tensor.values.astype(np.float64)


def _joined(parts: Sequence[Doubles]) -> Doubles:
    return np.concatenate(parts) if parts else np.empty(0)


def _scores(answer: Mapping[str, Tensor], name: str) -> Doubles:
    values = _floats(answer[name])
    return values[:, -1] if values.ndim == 2 else values.ravel()


def _with_ranks(loss: Loss, before: Sequence[Doubles], after: Sequence[Doubles], judged: Judged) -> Loss:
    old, new = np.concatenate(before), np.concatenate(after)
    for what, given in (("groups", judged.groups), ("outcomes", judged.outcomes)):
        if given is not None and len(given) != len(old):
            raise InvalidArgument(f"{len(given)} {what}, {len(old)} scores: there must be one a score")
    groups = judged.groups if judged.groups is not None else np.zeros(len(old), np.int8)
    _, inverse = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    ranks = [1.0 - spearman(old[each], new[each]) for each in members if len(each) > 1]
    tops = [1.0 - top_agreement(old[each], new[each], judged.k) for each in members]
    auc = (None, None) if judged.outcomes is None else (auc_of(old, judged.outcomes), auc_of(new, judged.outcomes))
    return Loss(
        loss.max_abs, loss.mean_abs, loss.changed,
        float(np.mean(ranks)) if ranks else None, float(np.mean(tops)), judged.k, *auc,
    )  # fmt: skip


def ranks_of(values: Doubles) -> Doubles:
    """From 1 for the least; equals share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Doubles = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def spearman(left: Doubles, right: Doubles) -> float:
    """Spearman's rank correlation, from -1 to 1; where all values of one side are equal: 1 if the other's are too, else 0."""
    one, other = ranks_of(left), ranks_of(right)
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    if scale == 0.0:
        return 1.0 if not one.any() and not other.any() else 0.0
    return float((one * other).sum() / scale)


def top_agreement(left: Doubles, right: Doubles, k: int) -> float:
    """Share of the `k` greatest of `left`, of equals the first, that are among the `k` greatest of `right`."""
    k = min(k, len(left))
    best, now = (set(np.argsort(-each, kind="stable")[:k].tolist()) for each in (left, right))
    return len(best & now) / k


def auc_of(scores: Doubles, outcomes: Array) -> float | None:
    """Area under the ROC curve by the Mann-Whitney statistic, equals counting half; None where all outcomes are alike."""
    hits = np.asarray(outcomes, np.float64) > 0
    positive = int(hits.sum())
    negative = len(hits) - positive
    if not positive or not negative:
        return None
    rank_sum = float(ranks_of(scores)[hits].sum())
    return (rank_sum - positive * (positive + 1) / 2) / (positive * negative)
