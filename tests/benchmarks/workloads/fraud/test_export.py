"""The ONNX file says what LightGBM says, for any float32 input, and is what the engine can batch."""

import lightgbm
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.fraud_inputs import INPUT, OUTPUT, FraudInputs
from benchmarks.workloads.fraud.export import (
    ParityError,
    check_parity,
    float32_floor,
    max_difference,
    onnx_scores,
    to_onnx,
)
from benchmarks.workloads.fraud.features import FEATURES
from benchmarks.workloads.fraud.sample import read_sample
from engine.servables.onnx import OnnxOptions, load_onnx
from tests.benchmarks.workloads.fraud.built import Build

PARITY = 1e-6
Matrix = NDArray[np.float32]


def inputs_of(build: Build) -> FraudInputs:
    return FraudInputs(build.folder / "models", build.folder / "requests.frames")


def booster_of(matrix: Matrix, labels: NDArray[np.bool_], **parameters: object) -> lightgbm.Booster:
    given = {"objective": "binary", "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "max_bin": 1000}
    return lightgbm.train(given | parameters, lightgbm.Dataset(matrix, labels.astype(int)), num_boost_round=20)


def neighbours(rng: np.random.Generator) -> tuple[Matrix, NDArray[np.bool_]]:
    """Values that are next to each other in float32, so that every threshold lies between neighbours."""
    steps = rng.integers(0, 64, size=(4000, 3))
    matrix = (np.float32(1.0) + steps * np.spacing(np.float32(1.0))).astype(np.float32)
    return matrix, (steps.sum(axis=1) + rng.normal(0, 20, 4000)) > 96


def test_written_models_say_what_lightgbm_says(build: Build) -> None:
    sample = read_sample(build.folder)
    for version in sample.versions.tolist():
        model = onnx.load(inputs_of(build).model_file(version))
        assert max_difference(model, sample.rows, sample.scores_of(version)) < PARITY


def test_every_test_row_is_within_the_bound(build: Build) -> None:
    for version in build.summary.versions.values():
        assert version.parity.max_difference < PARITY < version.parity.bound


def test_rows_one_by_one_score_as_rows_together(build: Build) -> None:
    rows = read_sample(build.folder).rows[:20]
    model = onnx.load(inputs_of(build).model_file(1))
    apart = np.concatenate([onnx_scores(model, row[None]) for row in rows])
    np.testing.assert_array_equal(apart, onnx_scores(model, rows))


def test_thresholds_between_float32_neighbours_keep_every_path() -> None:
    matrix, labels = neighbours(np.random.default_rng(0))
    booster = booster_of(matrix, labels)
    scores = booster.predict(matrix)
    assert max_difference(to_onnx(booster), matrix, scores) < PARITY
    assert max_difference(to_onnx(booster, rounded=False), matrix, scores) > 1e-3


@pytest.mark.parametrize("missing", [False, True], ids=["missing only when scoring", "missing in training"])
def test_missing_values_go_where_lightgbm_sends_them(missing: bool) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(3000, 4)).astype(np.float32)
    holes = matrix.copy()
    holes[rng.random(matrix.shape) < 0.2] = np.nan
    booster = booster_of(holes if missing else matrix, np.nan_to_num(holes).sum(axis=1) > 0.3)
    assert max_difference(to_onnx(booster), holes, booster.predict(holes)) < PARITY


def test_categorical_splits_are_refused() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.integers(0, 8, size=(1000, 1)).astype(np.float32)
    data = lightgbm.Dataset(matrix, matrix[:, 0] % 2, categorical_feature=[0])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "min_data_per_group": 1}, data, 2)
    with pytest.raises(ValueError, match="categorical"):
        to_onnx(booster)


@given(st.floats(allow_nan=False))
def test_float32_floor_is_the_largest_float32_that_is_not_above(value: float) -> None:
    (floor,) = float32_floor(np.array([value]))
    assert floor == np.float32(floor)
    assert floor <= value
    if floor < float(np.finfo(np.float32).max):
        assert float(np.nextafter(np.float32(floor), np.float32(np.inf))) > value


@given(st.floats(allow_nan=False, width=32), st.floats(allow_nan=False))
def test_float32_value_compares_with_the_floor_as_with_the_threshold(value: float, threshold: float) -> None:
    assert (value <= threshold) == (value <= float32_floor(np.array([threshold]))[0])


def test_engine_finds_one_clean_input_and_output_and_batches_them(build: Build) -> None:
    for version in (1, 2):
        servable = load_onnx(inputs_of(build).model_file(version), OnnxOptions())
        signature = servable.signature
        assert signature.batchable
        assert [(each.name, each.datatype.name, each.shape) for each in signature.inputs] == [
            (INPUT, "FP32", (-1, len(FEATURES)))
        ]
        assert [(each.name, each.datatype.name, each.shape) for each in signature.outputs] == [
            (OUTPUT, "FP32", (-1, 1))
        ]
        servable.close()


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_a_model_that_says_something_else_is_refused(difference: float) -> None:
    with pytest.raises(ParityError):
        check_parity(difference)
