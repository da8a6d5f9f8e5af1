"""The decision's parts: what they learn, what they export, what they say."""

import lightgbm
import numpy as np
import pytest

from benchmarks.fraud_inputs import OUTPUT
from benchmarks.workloads.fraud import isolation
from benchmarks.workloads.fraud.calibration import Calibration, calibration_error, learn_calibration
from benchmarks.workloads.fraud.decision import ModelRow, assembled, read_decision
from benchmarks.workloads.fraud.decision_build import TEXT, past_of
from benchmarks.workloads.fraud.decision_summary import decision_tables, read_decision_summary
from benchmarks.workloads.fraud.devices import DEVICES_MAX, devices_of
from benchmarks.workloads.fraud.export import onnx_scores
from benchmarks.workloads.fraud.forest import explained, forest_of
from benchmarks.workloads.fraud.isolation import isolation_onnx, train_isolation
from benchmarks.workloads.fraud.reasons import REASONS, groups_of
from tests.benchmarks.workloads.fraud.built import Decided


def test_device_says_nothing_of_fraud_and_belongs_to_few(decided: Decided) -> None:
    transactions = decided.transactions
    device = devices_of(transactions.customer, np.arange(len(transactions)))
    owners = {one: set(transactions.customer[device == one].tolist()) for one in np.unique(device).tolist()}
    assert max(map(len, owners.values())) == 2
    devices = [len(np.unique(device[transactions.customer == one])) for one in np.unique(transactions.customer)]
    assert set(devices) == set(range(1, DEVICES_MAX + 1))
    blind = devices_of(transactions.customer[::-1].copy(), np.arange(len(transactions))[::-1].copy())[::-1]
    assert np.array_equal(device, blind), "it depends on more than customer and number"


def test_decision_ranks_and_is_calibrated(decided: Decided) -> None:
    summary = decided.summary
    assert read_decision_summary(decided.application.folder) == summary
    seen = list(summary.quality.values())
    assert seen[0].auc + 0.05 < seen[2].auc
    assert summary.calibration_error["the decision"] < 0.03
    assert summary.outcome.alert_precision > 0.5, "alerts are above one half"
    assert summary.outcome.alert_share <= summary.outcome.review_share
    assert len(decision_tables(summary)) == 2


def test_reasons_of_the_model_are_lightgbms_own_contributions(decided: Decided) -> None:
    booster = lightgbm.Booster(model_file=str(decided.application.folder / TEXT))
    rows = past_of(decided.transactions).matrix[decided.application.expected().number[:300]]
    mine, theirs = explained(forest_of(booster), rows), booster.predict(rows, pred_contrib=True, num_threads=1)
    np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-9)


def test_reasons_are_the_groups_that_add_most(decided: Decided) -> None:
    folder = decided.application.folder
    expected = decided.application.expected()
    rows = past_of(decided.transactions).matrix[expected.number[np.argsort(-expected.score)[:20]]]
    wanted = np.arange(20) % 2 == 0
    answer = read_decision(folder).explain(rows, wanted)
    shares = explained(forest_of(lightgbm.Booster(model_file=str(folder / TEXT))), rows)[:, :-1]
    grouped = shares @ groups_of(decided.summary.columns)
    for row in range(20):
        if not wanted[row]:
            assert answer["codes"][row].tolist() == [b"", b"", b""]
            assert answer["said"][row] == b"[]"
            continue
        best = np.argsort(-grouped[row])[:3]
        assert answer["codes"][row].tolist() == [list(REASONS)[each].encode() for each in best]
        np.testing.assert_allclose(answer["contributions"][row], grouped[row][best], rtol=1e-6)


def test_every_column_has_one_reason(decided: Decided) -> None:
    groups = groups_of(decided.summary.columns)
    assert (groups.sum(axis=1) == 1).all()
    assert (groups.sum(axis=0) > 0).all(), "a reason that nothing can give"
    with pytest.raises(ValueError, match="belongs to no reason"):
        groups_of(["weather"])


@pytest.mark.parametrize("seed", range(3))
def test_isolation_forest_is_exported_faithfully(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(900, 6)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    matrix[:, 5] = np.nan
    trained = train_isolation(matrix, seed)
    served = onnx_scores(isolation_onnx(trained), matrix, output=isolation.OUTPUT)
    np.testing.assert_allclose(served, trained.scores(matrix), atol=1e-6, err_msg=f"seed {seed}")


def test_calibration_is_learnt_and_its_error_is_told() -> None:
    rng = np.random.default_rng(4)
    truth = rng.uniform(0.01, 0.99, 20_000)
    labels = rng.random(20_000) < truth
    overconfident = truth**3 / (truth**3 + (1 - truth) ** 3)
    learnt = learn_calibration(overconfident, rng.random(20_000), labels)
    assert learnt.score_weight == pytest.approx(1 / 3, abs=0.03)
    assert calibration_error(labels, overconfident) > 0.1
    assert calibration_error(labels, learnt.probability(overconfident, np.zeros(20_000))) < 0.02
    assert np.isfinite(Calibration(0, 1, 0).probability(np.array([0.0, 1.0]), np.zeros(2))).all()


def test_thresholds_decide_and_what_is_alerted_is_reviewed(decided: Decided) -> None:
    decision = read_decision(decided.application.folder)
    score, anomaly = np.array([[0.001], [0.5], [0.999]], np.float32), np.full((3, 1), 0.4, np.float32)
    review, alert = np.full(3, 0.1, np.float32), np.full(3, 0.9, np.float32)
    answer = decision.decide(score, anomaly, review, alert)
    assert answer["decision"].tolist() == [b"approve", b"review", b"decline"]
    assert answer["review"].tolist() == [False, True, True]
    assert answer["alert"].tolist() == [False, False, True]
    everything = decision.decide(score, anomaly, alert, np.zeros(3, np.float32))
    assert everything["review"].all()


def test_row_of_the_model_leaves_out_what_it_should_not_see() -> None:
    row = ModelRow({"customer": ("last_latitude", "count"), "device": ("since",)})
    assert row.columns == ("amount", "hour_of_day", "day_of_week", "customer_count", "device_since")
    at = np.array([86_400_000_000 * 5 + 3_600_000_000 * 6], np.int64)
    looked_up = {"customer": np.array([[52.0, 3.0]]), "device": np.array([[np.nan]])}
    found = assembled(row, np.array([9.5]), at, looked_up)
    np.testing.assert_array_equal(found, np.array([[9.5, 6.0, 5.0, 3.0, np.nan]], np.float32))
    with pytest.raises(ValueError, match="to come first"):
        ModelRow({"customer": ("count", "last_latitude")}).slices()


def test_model_served_is_lightgbms(decided: Decided) -> None:
    assert decided.summary.parity.keys() == {"fraud_gbdt", "fraud_anomaly"}
    assert OUTPUT == "fraud_probability"
