"""Intervals that hold however often one looks. Pure.

Asymptotic confidence sequences of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas ("Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 2024): with some chance 1 - alpha the truth lies in the intervals
of all times together, so that an experiment may be stopped at any look. They are mixture sequential probability ratio tests
with a normal mixture (Robbins 1970) turned round, hence the closed form of the p value; like every limit theorem they need
users enough to begin with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.experiments.estimates import Moments
from engine.limits import EXPERIMENT_PLANNED_USERS


@dataclass(frozen=True, slots=True)
class AnyTime:
    """As `Boundary`. Narrowest where both variants together have `planned_users`, which must be set before looking, at a
    miss rate of `planned_alpha`.
    """

    planned_users: int = EXPERIMENT_PLANNED_USERS
    planned_alpha: float = 0.05

    @property
    def _mixture(self) -> float:
        """The variance of the mixture, their rho squared."""
        surprise = -2 * math.log(self.planned_alpha)
        return (surprise + math.log(surprise + 1)) / self.planned_users

    def width(self, champion: Moments, challenger: Moments, alpha: float) -> float:
        """As `Boundary`."""
        spent = (champion.users + challenger.users) * self._mixture
        return math.sqrt(2 * (spent + 1) / spent * math.log(math.sqrt(spent + 1) / alpha))

    def p_value(self, champion: Moments, challenger: Moments, statistic: float) -> float:
        """As `Boundary`: the smallest alpha whose interval leaves 0 out, and valid at any time."""
        spent = (champion.users + challenger.users) * self._mixture
        return min(1.0, math.sqrt(spent + 1) * math.exp(-(statistic**2) * spent / (2 * (spent + 1))))
