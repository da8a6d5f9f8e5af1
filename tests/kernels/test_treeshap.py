"""TreeSHAP says what LightGBM's own says, and what the definition says."""

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.workloads.fraud.forest import explained, forest_of, trees_of
from kernels.reference import shapley
from kernels.treeshap import Tree, contributions, plant

ROWS, FEATURES = 600, 7
Floats = NDArray[np.float64]


def drawn(rng: np.random.Generator, *, missing: float = 0.15) -> NDArray[np.float32]:
    """Rows with gaps and zeros, and a column of few values."""
    rows = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    rows[:, 0] = rng.integers(0, 3, ROWS)
    rows[rng.random(rows.shape) < 0.1] = 0
    rows[rng.random(rows.shape) < missing] = np.nan
    return rows


def trained(rows: NDArray[np.float32], rng: np.random.Generator, **more: object) -> lightgbm.Booster:
    """A small model of something that the columns say together."""
    seen = np.nan_to_num(rows)
    labels = (seen[:, 0] * seen[:, 1] + np.sin(2 * seen[:, 2]) + rng.normal(scale=0.3, size=ROWS) > 0).astype(int)
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "num_leaves": 16}
    return lightgbm.train({**parameters, **more}, lightgbm.Dataset(rows, labels), num_boost_round=12)


def close(mine: Floats, theirs: Floats) -> bool:
    """Within 1e-6 of the greatest of a row, and of each but what is next to nothing."""
    return bool(np.allclose(mine, theirs, rtol=1e-6, atol=1e-9))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"num_leaves": 2},
        {"num_leaves": 100, "min_data_in_leaf": 2},
        {"bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.6},
        {"min_data_in_leaf": ROWS},
        {"objective": "regression", "boost_from_average": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(3))
def test_contributions_are_lightgbms_own(seed: int, more: dict[str, object]) -> None:
    rng = np.random.default_rng(seed)
    rows = drawn(rng)
    booster = trained(rows, rng, seed=seed, **more)
    mine, theirs = explained(forest_of(booster), rows), booster.predict(rows, pred_contrib=True, num_threads=1)
    assert close(mine, np.asarray(theirs)), f"seed {seed}: off by {np.abs(mine - theirs).max()}"


@pytest.mark.parametrize("seed", range(3))
def test_contributions_are_shapley_values_by_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = drawn(rng)
    trees = trees_of(trained(rows, rng, seed=seed))
    out = np.empty((20, FEATURES + 1))
    contributions(plant(trees, FEATURES), rows[:20].astype(np.float64), out)
    plain = np.array([sum(shapley(tree, row) for tree in trees) for row in rows[:20].astype(np.float64)])
    np.testing.assert_allclose(out[:, :-1], plain, rtol=1e-9, atol=1e-12, err_msg=f"seed {seed}")


def test_contributions_and_what_is_expected_sum_up_to_the_log_odds() -> None:
    rng = np.random.default_rng(5)
    rows = drawn(rng)
    booster = trained(rows, rng)
    total = explained(forest_of(booster), rows).sum(axis=1)
    np.testing.assert_allclose(total, booster.predict(rows, raw_score=True), rtol=1e-9, atol=1e-12)


def test_feature_that_no_tree_asks_adds_nothing() -> None:
    rng = np.random.default_rng(6)
    rows = drawn(rng)
    rows[:, 4] = 1.0
    assert (explained(forest_of(trained(rows, rng)), rows)[:, 4] == 0).all()


def test_node_that_no_training_row_came_to_is_refused() -> None:
    nothing = np.zeros(1)
    tree = Tree(
        feature=np.array([0]), threshold=nothing, missing=np.array([0]), default_left=np.array([0]), left=np.array([-1]),
        right=np.array([-2]), count=np.array([3.0]), leaf_value=np.array([1.0, 2.0]), leaf_count=np.array([3.0, 0.0]),
    )  # fmt: skip
    with pytest.raises(ValueError, match="no training row"):
        plant([tree], 1)


def test_categorical_splits_are_refused() -> None:
    rng = np.random.default_rng(7)
    rows = np.abs(drawn(rng, missing=0.0))
    labels = (rows[:, 0] == 1).astype(int)
    data = lightgbm.Dataset(rows, labels, categorical_feature=[0])
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1, "min_data_per_group": 1, "cat_smooth": 1}, data, 3
    )
    with pytest.raises(ValueError, match="categorical"):
        forest_of(booster)
