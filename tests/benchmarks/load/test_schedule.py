"""The Poisson schedule: seeded, bounded, exponential."""

import numpy as np
import pytest

from benchmarks.load.schedule import NS_PER_S, poisson_offsets_ns


def test_same_seed_gives_the_same_instants_and_another_seed_does_not() -> None:
    one, again, other = (poisson_offsets_ns(rate_per_s=500, duration_s=2, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(one, again)
    assert not np.array_equal(one[:100], other[:100])


def test_instants_ascend_and_stay_below_the_duration() -> None:
    offsets = poisson_offsets_ns(rate_per_s=1000, duration_s=3, seed=1)
    assert np.all(np.diff(offsets) >= 0)
    assert offsets[0] >= 0
    assert offsets[-1] < 3 * NS_PER_S


def test_counts_and_gaps_are_those_of_a_poisson_process() -> None:
    offsets = poisson_offsets_ns(rate_per_s=1000, duration_s=100, seed=3)
    gaps_s = np.diff(offsets) / NS_PER_S
    assert abs(len(offsets) - 100_000) < 5 * 100_000**0.5
    assert gaps_s.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps_s.std() == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize(("rate", "duration"), [(0, 1), (1, 0), (-1, 1)])
def test_rate_and_duration_must_be_above_zero(rate: float, duration: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        poisson_offsets_ns(rate_per_s=rate, duration_s=duration, seed=1)
