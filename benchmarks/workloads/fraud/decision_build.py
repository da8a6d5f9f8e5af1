"""The application that serves the decision: spec, functions, models and what they were built with, in one folder.

`vireo serve FOLDER/fraud.yaml` runs it. Everything is trained on features by history and judged on later days; the last file
to be written is the summary: who finds it finds the rest.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.fraud_inputs import OUTPUT
from benchmarks.workloads.fraud import isolation
from benchmarks.workloads.fraud.application import DECLARED, FRAMES, FUNCTIONS, GRAPH, SPEC, Expected, write_expected
from benchmarks.workloads.fraud.calibration import Calibration, calibration_error, learn_calibration
from benchmarks.workloads.fraud.decision import RAW, ModelRow, Settings, assembled, write_decision
from benchmarks.workloads.fraud.decision_requests import decision_frames
from benchmarks.workloads.fraud.decision_summary import FILE, DecisionSummary, Outcome, write_decision_summary
from benchmarks.workloads.fraud.export import check_parity, onnx_scores, to_onnx
from benchmarks.workloads.fraud.forest import forest_of
from benchmarks.workloads.fraud.isolation import Isolation, isolation_onnx, train_isolation
from benchmarks.workloads.fraud.model import predict, quality, train
from benchmarks.workloads.fraud.summary import Quality
from benchmarks.workloads.fraud.transactions import Transactions
from benchmarks.workloads.fraud.view_features import DELAYED_LABELS, WINDOWS, graph_spec, times_us, view_matrices

TRAIN_DAYS, CALIBRATION_DAYS, TEST_FIRST = (20, 49), (50, 56), 64
"""The test begins when all labels of the days before the seven are known."""

GBDT = "fraud_gbdt"
TEXT = "fraud_gbdt.txt"
"""The trees as LightGBM writes them, for who wants to compare."""

Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]

_FUNCTIONS = '''"""The functions that fraud.yaml names, with what was learnt beside it."""

from pathlib import Path

from benchmarks.workloads.fraud.decision import read_decision

_decision = read_decision(Path(__file__).parent)
assemble, decide, explain = _decision.assemble, _decision.decide, _decision.explain
'''


@dataclass(frozen=True, slots=True)
class Learnt:
    """The three things that were learnt."""

    booster: lightgbm.Booster
    isolation: Isolation
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Past:
    """Transactions and the model's row of each, by history."""

    transactions: Transactions
    row: ModelRow
    matrix: Matrix

    def days(self, first: int, last: int) -> Rows:
        """Rows of these days, the last included."""
        day = self.transactions.day
        return np.flatnonzero((day >= first) & (day <= last))

    @property
    def test(self) -> Rows:
        """Rows to judge by."""
        return self.days(TEST_FIRST, int(self.transactions.day.max()))


def make_decision(folder: Path, transactions: Transactions, seed: int) -> DecisionSummary:
    """Build the application in `folder`; its summary. Raises ParityError where an exported model is not the one trained."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)
    past = past_of(transactions)
    learnt = learn(past, seed)
    models = {GBDT: to_onnx(learnt.booster, notes=notes_of(past)), isolation.MODEL: isolation_onnx(learnt.isolation)}
    expected = expected_of(past, learnt)
    parity = parity_of(models, past.matrix[past.test], expected)
    for name, model in models.items():
        file = folder / "models" / name / "1" / "model.onnx"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(model.SerializeToString(deterministic=True))
    learnt.booster.save_model(folder / TEXT)
    write_decision(Settings(past.row, learnt.calibration), forest_of(learnt.booster), folder)
    (folder / FUNCTIONS).write_text(_FUNCTIONS)
    shutil.copyfile(DECLARED, folder / SPEC)
    write_expected(expected, folder)
    (folder / FRAMES).write_bytes(decision_frames(transactions, past.test))
    summary = summary_of(past, expected, parity, seed)
    write_decision_summary(summary, folder)
    return summary


def past_of(transactions: Transactions) -> Past:
    """Every transaction's row, as it would have been served."""
    views = graph_spec().feature_views
    row = ModelRow({name: tuple(views[name].features) for name in (*WINDOWS, *DELAYED_LABELS)})
    looked_up = view_matrices(transactions)
    return Past(transactions, row, assembled(row, transactions.amount_cents / 100, times_us(transactions), looked_up))


def learn(past: Past, seed: int) -> Learnt:
    """Trees and forest on the training days, the calibration on those after."""
    labels, trained, calibrated = past.transactions.fraud, past.days(*TRAIN_DAYS), past.days(*CALIBRATION_DAYS)
    booster = train(past.matrix[trained], labels[trained], seed, names=past.row.columns)
    forest = train_isolation(past.matrix[trained], seed)
    seen = past.matrix[calibrated]
    return Learnt(booster, forest, learn_calibration(predict(booster, seen), forest.scores(seen), labels[calibrated]))


def expected_of(past: Past, learnt: Learnt) -> Expected:
    """The test days by the libraries' own scores."""
    rows = past.test
    score, anomaly = predict(learnt.booster, past.matrix[rows]), learnt.isolation.scores(past.matrix[rows])
    return Expected(rows, past.transactions.fraud[rows], score, anomaly, learnt.calibration.probability(score, anomaly))


def parity_of(models: dict[str, onnx.ModelProto], matrix: Matrix, expected: Expected) -> dict[str, float]:
    """How near the exported models come. Raises ParityError."""
    served = {
        GBDT: (OUTPUT, expected.score),
        isolation.MODEL: (isolation.OUTPUT, expected.anomaly),
    }
    found = {
        name: float(np.abs(onnx_scores(models[name], matrix, output=output) - own).max())
        for name, (output, own) in served.items()
    }
    for difference in found.values():
        check_parity(difference)
    return found


def notes_of(past: Past) -> dict[str, str]:
    """What the model's file says of itself."""
    return {"trained_on": "days {} to {}".format(*TRAIN_DAYS), "features": ",".join(past.row.columns)}


def summary_of(past: Past, expected: Expected, parity: dict[str, float], seed: int) -> DecisionSummary:
    """What there is to know."""
    truth = expected.fraud
    return DecisionSummary(
        train_days=TRAIN_DAYS,
        calibration_days=CALIBRATION_DAYS,
        test_days=(TEST_FIRST, int(past.transactions.day.max())),
        test_rows=len(truth),
        columns=list(past.row.columns),
        quality={
            **quality_by_sight(past, seed),
            "+ delayed labels (the trees served)": quality(truth, expected.score),
            "anomaly alone": quality(truth, expected.anomaly),
            "decision: both, calibrated": quality(truth, expected.probability),
        },
        calibration_error={
            "the trees alone": calibration_error(truth, expected.score),
            "the decision": calibration_error(truth, expected.probability),
        },
        outcome=outcome_of(expected),
        parity=parity,
    )


def quality_by_sight(past: Past, seed: int) -> dict[str, Quality]:
    """The same trees that see less."""
    columns = past.row.columns
    sights = {
        "raw fields": [name for name in columns if name in RAW],
        "+ windows of card, merchant and device": [name for name in columns if not name.startswith(DELAYED_LABELS)],
    }
    labels, trained, tested = past.transactions.fraud, past.days(*TRAIN_DAYS), past.test
    found = {}
    for sight, names in sights.items():
        seen = past.matrix[:, [columns.index(name) for name in names]]
        booster = train(seen[trained], labels[trained], seed, names=names)
        found[sight] = quality(labels[tested], predict(booster, seen[tested]))
    return found


def thresholds() -> tuple[float, float]:
    """Above which the spec has a transaction reviewed, and alerted."""
    inputs = graph_spec().graphs[GRAPH].nodes["decide"].inputs
    review, alert = (getattr(inputs[name], "value", None) for name in ("review_above", "alert_above"))
    assert isinstance(review, float)
    assert isinstance(alert, float)
    return review, alert


def outcome_of(expected: Expected) -> Outcome:
    """What the thresholds do."""
    review_above, alert_above = thresholds()
    alert = expected.probability > alert_above
    caught = int((alert & expected.fraud).sum())
    return Outcome(
        review_share=float((expected.probability > review_above).mean()),
        alert_share=float(alert.mean()),
        alert_precision=caught / max(int(alert.sum()), 1),
        alert_recall=caught / max(int(expected.fraud.sum()), 1),
    )
