"""What is asked of an experiment, and what is answered. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from engine.errors import InvalidArgument, quoted
from engine.experiments.cohort import Crossed
from engine.experiments.estimates import Difference
from engine.limits import EXPERIMENT_PLANNED_USERS

MISMATCH_P: Final = 0.001
"""Users whose numbers are less likely than this under the declared weights were not assigned by them alone (Fabijan et al. 2019,
"Diagnosing Sample Ratio Mismatch in Online Controlled Experiments")."""


@dataclass(frozen=True, slots=True)
class ExperimentQuestion:
    """What is asked of an experiment.

    `metric`: `mean` is the sum of `value` per user, users without outcomes at 0; `ratio` divides the sum of all users' by their
    exposures, or by the sum of the outcomes' column `per`. `window_us`: only outcomes so long after a user's first exposure
    count, and only users for whom that has passed. `champion` None: the variant so called, or the first. `weights` None: sample
    ratios are not checked. `sequential`: intervals hold at every look, narrowest at `planned_users`.
    """

    metric: Literal["mean", "ratio"] = "mean"
    value: str = "value"
    per: str | None = None
    champion: str | None = None
    weights: Mapping[str, float] | None = None
    crossed: Crossed = "first"
    window_us: int | None = None
    confidence: float = 0.95
    sequential: bool = False
    planned_users: int = EXPERIMENT_PLANNED_USERS

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise InvalidArgument(f"confidence: expected 0.5 or more and less than 1, got {self.confidence:g}")
        if self.planned_users < 2:
            raise InvalidArgument(f"planned_users: expected 2 or more, got {self.planned_users}")
        if self.per is not None and self.metric != "ratio":
            raise InvalidArgument(f"per: {quoted(self.per)} divides a ratio, but the metric is a {self.metric}")


@dataclass(frozen=True, slots=True)
class VariantResult:
    """`mean` is the metric, None without users (of a ratio: without anything to divide by). `against`: the champion; None for
    itself, and where either has fewer than two users."""

    name: str
    users: int
    exposures: int
    outcomes: int
    mean: float | None
    against: Difference | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not counted: exposures without a key, users who were given two variants (`excluded` says whether they were),
    users whose window has not passed; outcomes of people never exposed, before the first exposure, past the window."""

    exposures_without_key: int
    users_crossed: int
    users_crossed_excluded: bool
    users_unripe: int
    outcomes_of_strangers: int
    outcomes_before_exposure: int
    outcomes_past_window: int


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """`confidence` is of all intervals together: with several challengers each has its share of the rest (Bonferroni), and p
    values are multiplied by their number. `sample_ratio_p` None: it could not be checked. `variance_explained`: by the covariate.
    """

    experiment: str
    metric: str
    champion: str
    confidence: float
    sequential: bool
    variants: tuple[VariantResult, ...]
    left_out: LeftOut
    sample_ratio_p: float | None
    variance_explained: float | None
    cautions: tuple[str, ...] = ()

    @property
    def mismatched(self) -> bool:
        """Whether users' numbers are not what the declared weights give: nothing else of the report is to be trusted then."""
        return self.sample_ratio_p is not None and self.sample_ratio_p < MISMATCH_P
