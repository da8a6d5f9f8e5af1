"""What a variant did to users, against the champion: differences, lifts, their intervals and p values. Pure.

The user is the unit, since users are what is assigned: everything is computed over one value per user. For a mean that is the
user's total. For a ratio (clicks per impression) it is the ratio linearised by the delta method, whose variance over users is
that of the ratio with each user's impressions kept together (Deng, Knoblich, Lu 2018, "Applying the Delta Method in Metric
Analytics"); counting impressions as if independent would call chance a finding.

Differences are Welch's (unequal variances). A relative lift has Fieller's interval (1954, "Some Problems in Interval
Estimation"), the exact one for a quotient of normal means: it contains 0 exactly where the difference is not significant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from engine.experiments.distributions import normal_quantile, t_quantile, t_two_sided

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

POWER: Final = 0.8
"""Of the smallest effect that is told to be detectable."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of one value per user: mean, variance (unbiased, NaN for one user alone) and skewness (0 where nothing varies)."""

    users: int
    mean: float
    variance: float
    skewness: float = 0.0

    @property
    def error_squared(self) -> float:
        """Of the mean."""
        return self.variance / self.users


@dataclass(frozen=True, slots=True)
class Difference:
    """A challenger minus the champion: `difference` within [`low`, `high`], in units of the metric.

    `lift` and its bounds are shares of the champion's mean; None where that is 0, or cannot be told from 0, so that no bounded
    interval exists. `p_value` None: nothing varied. `detectable`: the smallest difference that would be found in four of five
    such experiments of this size.
    """

    difference: float
    low: float
    high: float
    p_value: float | None
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    detectable: float

    @property
    def significant(self) -> bool:
        """Whether 0 lies outside; never where nothing varied."""
        return self.p_value is not None and not self.low <= 0 <= self.high


class Boundary(Protocol):
    """How many standard errors wide an interval is, and how surprising so many are."""

    def width(self, champion: Moments, challenger: Moments, alpha: float) -> float:
        """Standard errors to either side."""

    def p_value(self, champion: Moments, challenger: Moments, statistic: float) -> float:
        """Of a difference of `statistic` standard errors."""


@dataclass(frozen=True, slots=True)
class FixedHorizon:
    """Student's t with Welch's degrees of freedom: holds for one look, at a time that was set beforehand."""

    def width(self, champion: Moments, challenger: Moments, alpha: float) -> float:
        """As `Boundary`."""
        return t_quantile(1 - alpha / 2, welch_degrees(champion, challenger))

    def p_value(self, champion: Moments, challenger: Moments, statistic: float) -> float:
        """As `Boundary`."""
        return t_two_sided(statistic, welch_degrees(champion, challenger))


def moments(values: Floats) -> Moments:
    """Of one value per user, at least one."""
    users, mean = len(values), float(values.mean())
    if users < 2:
        return Moments(users, mean, math.nan)
    away = values - mean
    squares = float(away @ away)
    deviation = math.sqrt(squares / users)
    varies = deviation > 1e-12 * float(np.abs(values).max())  # what rounding leaves of equal values is no variance
    skewness = float(((away / deviation) ** 3).mean()) if varies else 0.0
    return Moments(users, mean, squares / (users - 1) if varies else 0.0, skewness)


def linearised(numerators: Floats, denominators: Floats) -> Floats:
    """One value per user, whose mean is the ratio of the sums and whose variance over users is the delta method's."""
    ratio = float(numerators.sum() / denominators.sum())
    values: Floats = ratio + (numerators - ratio * denominators) / denominators.mean()
    return values


def adjusted(values: Floats, variants: Integers, covariate: Floats) -> tuple[Floats, float]:
    """`values` without what `covariate`, known before the experiment, says of them; and the share of variance that went.

    CUPED (Deng, Xu, Kohavi, Walker 2013): the same slope for all variants, found within them; their differences keep their
    expectation, since assignment knows nothing of the past. `variants` numbers each user's.
    """
    inner, outer = _within(values, variants), _within(covariate, variants)
    past = float(outer @ outer)
    if not past > 0:
        return values, 0.0
    slope = float(inner @ outer) / past
    whole = float(inner @ inner)
    rest = inner - slope * outer
    share = 1 - float(rest @ rest) / whole if whole > 0 else 0.0
    return values - slope * (covariate - covariate.mean()), share


def _within(values: Floats, variants: Integers) -> Floats:
    users = np.bincount(variants)
    means = np.bincount(variants, values) / np.maximum(users, 1)
    found: Floats = values - means[variants]
    return found


def welch_degrees(champion: Moments, challenger: Moments) -> float:
    """Of freedom, of the difference of two means (Welch 1947)."""
    one, other = champion.error_squared, challenger.error_squared
    below = one**2 / (champion.users - 1) + other**2 / (challenger.users - 1)
    return float((one + other) ** 2 / below) if below > 0 else float(champion.users + challenger.users - 2)


def compare(champion: Moments, challenger: Moments, alpha: float, boundary: Boundary) -> Difference:
    """Both of two users or more. The interval misses the truth with a chance of `alpha`, in the sense of `boundary`."""
    difference = challenger.mean - champion.mean
    error = math.sqrt(champion.error_squared + challenger.error_squared)
    width = boundary.width(champion, challenger, alpha)
    p_value = boundary.p_value(champion, challenger, difference / error) if error > 0 else None
    lift, lift_low, lift_high = _lift(champion, challenger, width)
    detectable = (width + normal_quantile(POWER)) * error
    return Difference(
        difference, difference - width * error, difference + width * error, p_value, lift, lift_low, lift_high, detectable
    )  # fmt: skip


def _lift(
    champion: Moments, challenger: Moments, width: float
) -> tuple[float, float, float] | tuple[float | None, None, None]:
    """Fieller: all quotients q for which challenger - q * champion is within `width` of its standard errors from 0."""
    base = champion.mean
    if base == 0:
        return None, None, None
    quotient, sign = challenger.mean / base, math.copysign(1.0, base)
    lift = sign * (quotient - 1)
    unknown = width**2 * champion.error_squared / base**2
    if unknown >= 1:
        return lift, None, None
    middle = quotient / (1 - unknown)
    spread = challenger.error_squared * (1 - unknown) + quotient**2 * champion.error_squared
    half = width / abs(base) / (1 - unknown) * math.sqrt(spread)
    bounds = sorted((sign * (middle - half - 1), sign * (middle + half - 1)))
    return lift, bounds[0], bounds[1]
