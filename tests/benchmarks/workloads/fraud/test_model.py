"""The model is better than what anybody would try first, and is judged on days it could not know."""

import pytest

from benchmarks.workloads.fraud.features import LABEL_DELAY_S
from benchmarks.workloads.fraud.model import PERIODS, QualityError, check_quality
from benchmarks.workloads.fraud.summary import Quality
from benchmarks.workloads.fraud.transactions import DAY_S
from tests.benchmarks.workloads.fraud.built import Build


def test_every_version_clearly_beats_every_baseline(build: Build) -> None:
    assert len(build.summary.versions) == 2
    for version in build.summary.versions.values():
        assert len(version.baselines) == 2
        for baseline in version.baselines.values():
            assert version.quality.auc > baseline.auc + 0.1
            assert version.quality.average_precision > baseline.average_precision + 0.15


def test_second_version_is_as_good_as_the_first_on_days_new_to_both(build: Build) -> None:
    first, second = build.summary.shared_quality["1"], build.summary.shared_quality["2"]
    assert second.auc == pytest.approx(first.auc, abs=0.03)
    assert second.average_precision == pytest.approx(first.average_precision, abs=0.03)


def test_tests_begin_when_all_training_labels_are_known() -> None:
    for period in PERIODS.values():
        assert period.test_first - (period.train_last + 1) >= LABEL_DELAY_S // DAY_S - 1
        assert period.train_first < period.train_last < period.test_first


@pytest.mark.parametrize("model", [Quality(0.74, 0.9), Quality(0.9, 0.55), Quality(0.5, 0.5)])
def test_model_that_is_hardly_better_is_refused_by_name_of_the_baseline(model: Quality) -> None:
    with pytest.raises(QualityError, match="leads 'amount alone' by"):
        check_quality(model, {"amount alone": Quality(0.7, 0.5)})
