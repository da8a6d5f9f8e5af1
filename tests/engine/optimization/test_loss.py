"""Losses between answers: against numbers by hand, SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from engine import InvalidArgument, Signature, Tensor, TensorSpec
from engine.optimization.loss import Judged, auc_of, loss_between, score_output, spearman, top_agreement
from engine.tensor import BF16, FP32, INT64, DataType

PLAIN = Judged(None, 10)


def answers(values: object, datatype: DataType = FP32, name: str = "y") -> list[dict[str, Tensor]]:
    return [{name: Tensor(datatype, np.array(values, datatype.dtype))}]


def test_differences_by_hand() -> None:
    loss = loss_between(answers([1, 2, 3]), answers([1, 2.5, 2]), PLAIN)
    assert (loss.max_abs, loss.mean_abs, loss.changed) == (1.0, 0.5, 0.0)
    assert (loss.rank, loss.top_k, loss.auc_before) == (None, None, None)


def test_labels_that_differ_are_counted_and_do_not_hide_in_a_mean() -> None:
    loss = loss_between(answers([1, 0, 1, 7], INT64), answers([1, 1, 1, 2], INT64), PLAIN)
    assert (loss.changed, loss.mean_abs) == (0.5, 0.0)


def test_what_is_no_number_in_both_is_alike_and_in_one_is_endlessly_far() -> None:
    nan, inf = float("nan"), float("inf")
    assert loss_between(answers([nan, inf]), answers([nan, inf]), PLAIN).max_abs == 0.0
    for other in ([nan, 1.0], [1.0, -inf]):
        assert loss_between(answers([1.0, 1.0]), answers(other), PLAIN).max_abs == inf
    assert loss_between(answers([1.0]), answers([1.0, 1.0]), PLAIN).max_abs == inf


def test_bfloat16_is_compared_by_value() -> None:
    one, two = 0x3F80, 0x4000
    assert loss_between(answers([one, one], BF16), answers([one, two], BF16), PLAIN).mean_abs == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_rank_and_auc_are_those_of_scipy_and_scikit_learn_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, 20, 200) / 7, rng.integers(0, 20, 200) / 3
    outcomes = rng.integers(0, 2, 200)
    assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic)
    assert auc_of(left, outcomes) == pytest.approx(roc_auc_score(outcomes, left))


def test_constant_scores_are_ranked_alike_only_with_constant_scores() -> None:
    flat, steep = np.zeros(4), np.arange(4.0)
    assert (spearman(flat, flat), spearman(flat, steep)) == (1.0, 0.0)
    assert auc_of(steep, np.ones(4)) is None


def test_best_of_a_group_by_hand() -> None:
    before, after = np.array([5.0, 4, 3, 2, 1]), np.array([5.0, 1, 4, 2, 3])
    assert top_agreement(before, after, 2) == 0.5
    assert top_agreement(before, after, 9) == 1.0


def test_ranks_are_taken_within_groups() -> None:
    before, after = answers([[1], [2], [10], [20]]), answers([[2], [1], [10], [20]])
    grouped = loss_between(before, after, Judged("y", 1, np.array([7, 7, 3, 3]), np.array([0, 1, 0, 1])))
    assert (grouped.rank, grouped.top_k) == (1.0, 0.5)  # one group upside down, one as it was
    assert (grouped.auc_before, grouped.auc_after) == (0.75, 0.5)
    with pytest.raises(InvalidArgument, match="3 groups, 4 scores"):
        loss_between(before, after, Judged("y", 1, np.zeros(3)))


@pytest.mark.parametrize(
    ("outputs", "batchable", "found"),
    [
        ((TensorSpec("score", FP32, (-1, 1)),), True, "score"),
        ((TensorSpec("label", INT64, (-1,)), TensorSpec("probabilities", FP32, (-1, 2))), True, "probabilities"),
        ((TensorSpec("vector", FP32, (-1, 64)),), True, None),
        ((TensorSpec("a", FP32, (-1,)), TensorSpec("b", FP32, (-1,))), True, None),
        ((TensorSpec("scores", FP32, (-1,)),), False, "scores"),
    ],
)
def test_score_is_found_where_there_is_one(outputs: tuple[TensorSpec, ...], batchable: bool, found: str | None) -> None:
    assert score_output(Signature((), outputs, batchable), None) == found


def test_score_that_is_none_is_refused() -> None:
    signature = Signature((), (TensorSpec("vector", FP32, (-1, 64)),), True)
    with pytest.raises(InvalidArgument, match="--score: no output 'vectr'; nearest: 'vector'"):
        score_output(signature, "vectr")
    with pytest.raises(InvalidArgument, match="--score: output 'vector' is no score"):
        score_output(signature, "vector")
