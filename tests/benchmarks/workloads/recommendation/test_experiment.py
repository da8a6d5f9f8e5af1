"""Which of two rankers is better is found on the workload's own graph; the same ranker twice is not told apart."""

from pathlib import Path

import pytest

from benchmarks.workloads.recommendation.experiment import trial
from tests.benchmarks.workloads.recommendation.built import small
from tests.benchmarks.workloads.recommendation.drawn import leave

USERS = 250


@pytest.mark.parametrize(("blur", "better"), [(2.0, True), (0.0, False)], ids=["a better ranker", "the same ranker"])
def test_the_report_finds_the_true_lift(blur: float, better: bool, tmp_path: Path) -> None:
    dataset = small(users=USERS)
    leave(tmp_path, dataset)
    found = trial(tmp_path, dataset, blur=blur)
    champion, challenger = found.report.variants
    against = challenger.against
    assert against is not None
    assert found.misled == 0
    assert champion.users + challenger.users == USERS
    assert (found.lift > 0.05) == better
    assert against.lift_low is not None
    assert against.lift_high is not None
    margin = (
        against.lift_high - against.lift_low
    ) / 2  # the interval misses one time in 20, and processors round differently
    assert against.lift_low - margin < found.lift < against.lift_high + margin
    assert (against.low > 0) == better
    assert found.report.sample_ratio_p is not None
    assert found.report.sample_ratio_p > 0.001
