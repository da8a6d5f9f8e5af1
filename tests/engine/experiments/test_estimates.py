"""Intervals hold the truth as often as they say, over many seeded experiments whose truth is known; and agree with SciPy's own
tests. The bounds are four standard errors of a share of that many experiments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from engine.experiments.distributions import chi_square_p
from engine.experiments.estimates import (
    Difference,
    FixedHorizon,
    Floats,
    Moments,
    adjusted,
    compare,
    linearised,
    moments,
)
from engine.experiments.sequential import AnyTime

ROUNDS, ALPHA = 1000, 0.05
FIXED = FixedHorizon()


def _within(share: float, expected: float, rounds: int) -> bool:
    return abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / rounds)


def _share(of: Callable[[Difference], bool], run: Callable[[np.random.Generator], Difference], seed: int) -> float:
    random = np.random.default_rng(seed)
    return sum(of(run(random)) for _ in range(ROUNDS)) / ROUNDS


def _compared(arms: Sequence[Floats]) -> Difference:
    """The second with the first."""
    return compare(moments(arms[0]), moments(arms[1]), ALPHA, FIXED)


def _revenue(random: np.random.Generator, users: int, scale: float) -> Floats:
    """Most users buy nothing, the others unlike amounts: mean 0.6 of `scale`."""
    buys: Floats = (random.random(users) < 0.3) * random.gamma(2.0, scale, users)
    return buys


def _spent(random: np.random.Generator, effect: float) -> Difference:
    champion, challenger = _revenue(random, 900, 1.0), _revenue(random, 300, 1.0 + effect)
    return compare(moments(champion), moments(challenger), ALPHA, FIXED)


def test_intervals_of_means_hold_the_true_difference_and_lift() -> None:
    held = _share(lambda found: found.low <= 0.6 * 0.2 <= found.high, lambda random: _spent(random, 0.2), 1)
    assert _within(held, 0.95, ROUNDS), held

    def lift_held(found: Difference) -> bool:
        assert found.lift_low is not None
        assert found.lift_high is not None
        return found.lift_low <= 0.2 <= found.lift_high

    held = _share(lift_held, lambda random: _spent(random, 0.2), 2)
    assert _within(held, 0.95, ROUNDS), held


def test_two_that_are_alike_differ_once_in_twenty() -> None:
    wrong = _share(lambda found: found.significant, lambda random: _spent(random, 0.0), 3)
    assert _within(wrong, ALPHA, ROUNDS), wrong


def _clicks(random: np.random.Generator, users: int, rate: float) -> tuple[Floats, Floats]:
    """Clicks and impressions of users who differ in both: heavy ones see much, and each has a rate of its own."""
    impressions: Floats = 1.0 + random.geometric(0.1, users).astype(np.float64)
    own = random.beta(2.0, 2.0 / rate - 2.0, users)
    return random.binomial(impressions.astype(np.int64), own).astype(np.float64), impressions


def test_ratios_are_clustered_by_user_where_impressions_alone_would_lie() -> None:
    naive_held = []

    def run(random: np.random.Generator) -> Difference:
        arms = [_clicks(random, 400, 0.2), _clicks(random, 400, 0.2)]
        rates = [clicks.sum() / shown.sum() for clicks, shown in arms]
        error = math.sqrt(sum(rate * (1 - rate) / shown.sum() for rate, (_, shown) in zip(rates, arms, strict=True)))
        naive_held.append(abs(rates[1] - rates[0]) < 1.96 * error)
        return _compared([linearised(*arm) for arm in arms])

    held = _share(lambda found: not found.significant, run, 4)
    assert _within(held, 0.95, ROUNDS), held
    assert np.mean(naive_held) < 0.85


def test_linearised_ratio_has_the_ratio_as_mean_and_the_delta_methods_variance() -> None:
    clicks, shown = _clicks(np.random.default_rng(5), 500, 0.1)
    found = moments(linearised(clicks, shown))
    ratio = clicks.sum() / shown.sum()
    (above, both), (_, below) = np.cov(clicks, shown)
    variance = (above - 2 * ratio * both + ratio**2 * below) / shown.mean() ** 2
    assert (found.mean, found.variance) == pytest.approx((ratio, variance))


def test_covariate_narrows_and_still_holds_the_truth() -> None:
    widths: list[float] = []

    def run(random: np.random.Generator) -> Difference:
        past = random.gamma(2.0, 1.0, 600)
        arms = np.arange(600) % 2
        values = past + random.normal(0, 0.7, 600) + 0.15 * arms
        plain = _compared([values[arms == arm] for arm in (0, 1)])
        better, share = adjusted(values, arms, past)
        assert 0.6 < share < 0.9
        found = _compared([better[arms == arm] for arm in (0, 1)])
        widths.append((found.high - found.low) / (plain.high - plain.low))
        return found

    held = _share(lambda found: found.low <= 0.15 <= found.high, run, 6)
    assert _within(held, 0.95, ROUNDS), held
    assert np.mean(widths) < 0.55


def test_covariate_without_variance_changes_nothing() -> None:
    values = np.array([1.0, 2.0, 4.0])
    same, share = adjusted(values, np.array([0, 1, 1]), np.ones(3))
    assert (same.tolist(), share) == ([1.0, 2.0, 4.0], 0.0)


def test_means_are_compared_as_scipy_does() -> None:
    random = np.random.default_rng(7)
    champion, challenger = random.normal(5, 1, 40), random.normal(5.4, 3, 25)
    found = compare(moments(champion), moments(challenger), ALPHA, FIXED)
    theirs = stats.ttest_ind(challenger, champion, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert moments(champion).skewness == pytest.approx(stats.skew(champion))
    observed = np.array([30, 50, 20])
    assert chi_square_p(observed, np.array([25.0, 50.0, 25.0])) == pytest.approx(
        stats.chisquare(observed, [25, 50, 25]).pvalue
    )


@pytest.mark.parametrize("champion", [2.0, -2.0])
def test_lifts_interval_leaves_0_out_exactly_where_the_differences_does(champion: float) -> None:
    random = np.random.default_rng(8)
    seen = set()
    for _ in range(300):
        found = compare(
            Moments(200, champion, 1.0), Moments(150, champion + random.normal(0, 0.25), random.uniform(0.5, 3)), ALPHA, FIXED
        )  # fmt: skip
        assert found.lift is not None
        assert found.lift_low is not None
        assert found.lift_high is not None
        assert found.lift_low < found.lift < found.lift_high
        assert (not found.lift_low <= 0 <= found.lift_high) == found.significant
        assert math.copysign(1, found.lift) == math.copysign(1, found.difference)
        seen.add(found.significant)
    assert seen == {True, False}


def test_lift_has_no_bounds_where_the_champion_may_be_0() -> None:
    found = compare(Moments(100, 0.01, 1.0), Moments(100, 0.5, 1.0), ALPHA, FIXED)
    assert found.lift == pytest.approx(49.0)
    assert (found.lift_low, found.lift_high) == (None, None)
    assert found.significant
    assert compare(Moments(100, 0.0, 1.0), Moments(100, 0.5, 1.0), ALPHA, FIXED).lift is None


def test_where_nothing_varies_there_is_no_p_value() -> None:
    same = moments(np.full(50, 0.1))
    assert (same.variance, same.skewness) == (0.0, 0.0)
    found = compare(same, moments(np.full(60, 0.1)), ALPHA, FIXED)
    assert abs(found.difference) < 1e-15
    assert (found.p_value, found.significant) == (None, False)


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    detectable = compare(Moments(400, 1.0, 1.0), Moments(400, 1.0, 1.0), ALPHA, FIXED).detectable

    def run(random: np.random.Generator) -> Difference:
        arms = [random.normal(1, 1, 400), random.normal(1 + detectable, 1, 400)]
        return _compared(arms)

    found = _share(lambda each: each.significant, run, 9)
    assert _within(found, 0.8, ROUNDS), found


def test_sequential_p_value_is_the_alpha_whose_interval_just_leaves_0_out() -> None:
    boundary = AnyTime(1000)
    one, other = Moments(500, 1.0, 1.0), Moments(500, 1.25, 1.0)
    p_value = compare(one, other, ALPHA, boundary).p_value
    assert p_value is not None
    assert 0 < p_value < ALPHA
    assert compare(one, other, p_value, boundary).low == pytest.approx(0, abs=1e-12)
    assert compare(one, one, ALPHA, boundary).p_value == 1.0


def test_sequential_intervals_are_narrowest_where_planned() -> None:
    widths = {
        planned: AnyTime(planned).width(Moments(1000, 0, 1), Moments(1000, 0, 1), ALPHA)
        for planned in (200, 1000, 2000, 4000, 20000)
    }
    assert min(widths, key=lambda planned: widths[planned]) == 2000
    assert 1.96 < widths[2000] < 3.1


def test_sequential_intervals_bear_peeking_where_others_do_not() -> None:
    """Two arms alike, looked at after every 100 users from 200 to 5,000, stopped at the first finding."""
    random, experiments, wrong = np.random.default_rng(10), 200, {"fixed": 0, "sequential": 0}
    looks, boundary = np.arange(100, 2501, 50), AnyTime(3000)
    for _ in range(experiments):
        arms = [_sums(random.exponential(1.0, 2500)) for _ in range(2)]
        seen = [(_first(arms[0], int(count)), _first(arms[1], int(count))) for count in looks]
        wrong["fixed"] += any(compare(*each, alpha=ALPHA, boundary=FIXED).significant for each in seen)
        wrong["sequential"] += any(compare(*each, alpha=ALPHA, boundary=boundary).significant for each in seen)
    assert wrong["sequential"] <= ALPHA * experiments
    assert wrong["fixed"] > 4 * ALPHA * experiments, wrong


def _sums(values: Floats) -> tuple[Floats, Floats]:
    return np.cumsum(values), np.cumsum(values**2)


def _first(sums: tuple[Floats, Floats], count: int) -> Moments:
    """Of the first `count` values whose running sums and sums of squares these are."""
    total, squares = (each[count - 1] for each in sums)
    return Moments(count, total / count, (squares - total**2 / count) / (count - 1))
