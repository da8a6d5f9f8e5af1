"""The fraud model: LightGBM trees over all features, judged against plain baselines on later days.

The one file that knows scikit-learn. Trees are trained on the float32 values that the served model will see.
"""

from collections.abc import Collection
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.workloads.fraud.features import FEATURES, RAW, Matrix
from benchmarks.workloads.fraud.summary import Quality

TREES = 200
AUC_LEAD_MIN = 0.05
AVERAGE_PRECISION_LEAD_MIN = 0.1

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]


class QualityError(Exception):
    """The model is not clearly better than a plain baseline, so serving it would mean nothing."""


@dataclass(frozen=True, slots=True)
class Period:
    """Train on days `train_first` to `train_last`, test from `test_first`: the labels of training days are known then."""

    train_first: int
    train_last: int
    test_first: int

    def train(self, day: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows to train on."""
        return np.flatnonzero((day >= self.train_first) & (day <= self.train_last))

    def test(self, day: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows to test on."""
        return np.flatnonzero(day >= self.test_first)


PERIODS = {1: Period(20, 49, 57), 2: Period(27, 56, 64)}
"""By model version: the second is the first one's retraining, a week later."""


def train(matrix: Matrix, labels: Labels, seed: int, names: Collection[str] = FEATURES) -> lightgbm.Booster:
    """TREES small trees over columns of these names; the same inputs and seed give the same model, bit for bit."""
    parameters = {
        "objective": "binary",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 50,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,  # a second one saves a second here, and costs minutes where the machine is busy
        "verbosity": -1,
    }
    data = lightgbm.Dataset(matrix, labels.astype(np.int32), feature_name=list(names))
    return lightgbm.train(parameters, data, num_boost_round=TREES)


def predict(booster: lightgbm.Booster, matrix: Matrix) -> Scores:
    """LightGBM's own fraud probabilities."""
    scores: Scores = booster.predict(matrix, num_threads=1)
    return scores


def baseline_scores(matrix: Matrix, labels: Labels, test: Matrix) -> dict[str, Scores]:
    """Scores of `test` by what anybody would try first, trained on `matrix` where training is needed."""
    names = list(FEATURES)
    raw = [names.index(name) for name in RAW]
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    regression.fit(matrix[:, raw], labels)
    return {
        "logistic regression, raw fields": regression.predict_proba(test[:, raw])[:, 1],
        "amount alone": test[:, names.index("amount")].astype(np.float64),
    }


def quality(labels: Labels, scores: Scores) -> Quality:
    """How well `scores` rank."""
    return Quality(float(roc_auc_score(labels, scores)), float(average_precision_score(labels, scores)))


def check_quality(model: Quality, baselines: dict[str, Quality]) -> None:
    """Raises QualityError unless the model leads every baseline by both margins."""
    for name, baseline in baselines.items():
        auc_lead = model.auc - baseline.auc
        precision_lead = model.average_precision - baseline.average_precision
        if auc_lead < AUC_LEAD_MIN or precision_lead < AVERAGE_PRECISION_LEAD_MIN:
            raise QualityError(
                f"the model leads '{name}' by {auc_lead:.3f} AUC and {precision_lead:.3f} average precision; "
                f"at least {AUC_LEAD_MIN} and {AVERAGE_PRECISION_LEAD_MIN} are expected"
            )
