"""What is concluded of versions that move under load, and how a mixture is told from either version."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.recommendation.inputs import REFRESHED, Shop
from benchmarks.recommendation.refresh import Phase, Refresh, Truth
from benchmarks.recommendation_report import refresh_judgements


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    rng, made = np.random.default_rng(1), Shop(tmp_path)
    np.savez(made.catalogue, vector=rng.standard_normal((9, 4)).astype(np.float32))
    np.savez(made.users, vector=rng.standard_normal((2, 4)).astype(np.float32))
    return made


def test_a_list_is_of_the_version_whose_scores_it_has(shop: Shop) -> None:
    with np.load(shop.catalogue) as catalogue, np.load(shop.users) as users:
        first = catalogue["vector"][[2, 4]] @ users["vector"][1]
    truth, (tower, items) = Truth(shop), REFRESHED
    assert truth.version(1, [3, 5], first) == 1
    assert truth.version(1, [3, 5], first * tower * items) == 2
    for mixed in (first * tower, first * items, first * [1, tower * items]):
        assert truth.version(1, [3, 5], mixed) is None
    assert truth.version(0, [3, 5], first) is None, "another user's"


def test_moves_are_judged_by_failures_mixtures_and_latency() -> None:
    def kept(moving: Phase) -> list[bool | None]:
        quiet = Phase(latency_ms=[10.0] * 100)
        return [each.kept for each in refresh_judgements(Refresh(5.0, quiet, moving), quick=False)]

    both = {1: 50, 2: 50}
    assert kept(Phase([1.0], [12.9] * 100, [], both)) == [True, True]
    assert kept(Phase([1.0], [13.1] * 100, [], both)) == [True, False]
    assert kept(Phase([1.0], [10.0] * 99, ["UNAVAILABLE: x"], both)) == [False, True]
    assert kept(Phase([1.0], [10.0] * 100, [], both, mixed=1)) == [False, True]
    assert kept(Phase([1.0], [10.0] * 100, [], {1: 100, 2: 0})) == [False, True], "nothing moved"
