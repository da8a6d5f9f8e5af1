"""From two scores to one probability that means what it says. `Calibration` needs numpy only; learning it, scikit-learn.

A logistic regression over the trees' log-odds and the anomaly score (Platt 1999, stacked), learnt on days that neither model
was trained on: with two weights and an offset there is little to overlearn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.bool_]
Floats = NDArray[np.float64]

NEAREST = 1e-7
"""Scores are kept so far from 0 and 1: float32 can't say more."""

BINS = 15


@dataclass(frozen=True, slots=True)
class Calibration:
    """log-odds = offset + score_weight x log-odds(score) + anomaly_weight x anomaly."""

    offset: float
    score_weight: float
    anomaly_weight: float

    def probability(self, score: Scores, anomaly: Scores) -> Floats:
        """Of each pair, the probability of fraud."""
        odds = self.offset + self.score_weight * log_odds(score) + self.anomaly_weight * anomaly
        probability: Floats = 1.0 / (1.0 + np.exp(-odds))
        return probability


def log_odds(score: Scores) -> Floats:
    """ln(p / (1 - p)), bounded."""
    bounded = np.minimum(np.maximum(score, NEAREST), 1.0 - NEAREST).astype(np.float64, copy=False)
    odds: Floats = np.log(bounded / (1.0 - bounded))
    return odds


def learn_calibration(score: Scores, anomaly: Scores, labels: Labels) -> Calibration:
    """The weights that fit best."""
    from sklearn.linear_model import LogisticRegression

    seen = np.stack([log_odds(score), anomaly], axis=1)
    learnt = LogisticRegression(C=1e6, max_iter=1000).fit(seen, labels)
    score_weight, anomaly_weight = learnt.coef_[0]
    return Calibration(float(learnt.intercept_[0]), float(score_weight), float(anomaly_weight))


def calibration_error(labels: Labels, probability: Scores) -> float:
    """How far probabilities are from what came true, in the mean over BINS equally full bins (ECE, Naeini et al. 2015)."""
    order = np.argsort(probability, kind="stable")
    bins = [each for each in np.array_split(order, BINS) if len(each)]
    gaps = [abs(labels[each].mean() - probability[each].mean()) * len(each) for each in bins]
    return float(sum(gaps) / len(labels))
