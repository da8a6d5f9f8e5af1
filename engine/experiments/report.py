"""The report on one experiment: what each variant did to its users against the champion, and what speaks against believing it.
Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from engine.errors import NotFound, nearest, quoted
from engine.experiments.cautions import cautions_of
from engine.experiments.cohort import Cohort, Totals, cohort_of, newest_us, ripe, totals, totals_before
from engine.experiments.distributions import chi_square_p
from engine.experiments.estimates import (
    Boundary,
    Difference,
    FixedHorizon,
    Floats,
    Moments,
    adjusted,
    compare,
    linearised,
    moments,
)
from engine.experiments.results import ExperimentQuestion, ExperimentReport, LeftOut, VariantResult
from engine.experiments.sequential import AnyTime

CHAMPION: Final = "champion"

EXPECTED_MIN: Final = 5.0
"""Users that the weights must promise each variant before a chi-square test of their numbers means anything."""


def experiment_report(
    experiment: str,
    exposures: pa.Table,
    outcomes: pa.Table,
    question: ExperimentQuestion,
    covariate: pa.Table | None = None,
) -> ExperimentReport:
    """Reads `exposures` (variant, key, time) with `outcomes` (key, time and the columns of `question`).

    `covariate` (key, time and the column `value` of `question`): what users did before, to make intervals narrower (CUPED); rows
    from a user's first exposure on are left out, so that it may be the outcomes' own table. Times are instants, or whole
    microseconds since the epoch. Raises InvalidArgument for columns that are missing or of a wrong type, NotFound for an unknown
    champion or where nobody was exposed, FailedPrecondition where SciPy is not installed.
    """
    cohort = _cohort(exposures, outcomes, question)
    champion = _champion(cohort, question)
    columns = [question.value] if question.per is None else [question.value, question.per]
    sums = totals(cohort, outcomes, columns, window_us=question.window_us)
    values = _values(cohort, sums, question)
    explained = None
    if covariate is not None:
        past = totals_before(cohort, covariate, question.value)
        known = np.isfinite(values)
        values[known], explained = adjusted(values[known], cohort.variants[known], past[known])
    found = _moments(cohort, values)
    results = _results(cohort, sums, found, champion, question)
    left_out = LeftOut(
        cohort.without_key, cohort.crossed, question.crossed == "exclude", cohort.unripe, sums.strangers, sums.early, sums.late
    )  # fmt: skip
    report = ExperimentReport(
        experiment, question.metric, champion, question.confidence, question.sequential, results, left_out,
        _sample_ratio_p(results, question.weights), explained,
    )  # fmt: skip
    return replace(report, cautions=tuple(cautions_of(report, found, question)))


def _cohort(exposures: pa.Table, outcomes: pa.Table, question: ExperimentQuestion) -> Cohort:
    declared = [name for name, weight in (question.weights or {}).items() if weight]
    cohort = cohort_of(exposures, declared, question.crossed, question.window_us)
    if not len(cohort.keys):
        raise NotFound(f"nobody was exposed: of {exposures.num_rows} exposures {cohort.without_key} have no key")
    if question.window_us is None:
        return cohort
    now_us = max(newest_us(exposures), newest_us(outcomes))
    return ripe(cohort, question.window_us, now_us)


def _champion(cohort: Cohort, question: ExperimentQuestion) -> str:
    if question.champion is None:
        return CHAMPION if CHAMPION in cohort.names else cohort.names[0]
    if question.champion not in cohort.names:
        raise NotFound(f"no variant {quoted(question.champion)}{nearest(question.champion, cohort.names)}")
    return question.champion


def _values(cohort: Cohort, sums: Totals, question: ExperimentQuestion) -> Floats:
    """One a user; NaN for those of a variant that has nothing to divide by."""
    if question.metric == "mean":
        return sums.values[0].copy()
    below = cohort.exposures.astype(np.float64) if question.per is None else sums.values[1]
    values = np.full(len(below), np.nan)
    for index in range(len(cohort.names)):
        of = cohort.variants == index
        if below[of].sum() != 0:
            values[of] = linearised(sums.values[0][of], below[of])
    return values


def _moments(cohort: Cohort, values: Floats) -> dict[str, Moments]:
    each = {name: values[cohort.variants == index] for index, name in enumerate(cohort.names)}
    return {name: moments(of) for name, of in each.items() if len(of) and not np.isnan(of[0])}


def _results(
    cohort: Cohort, sums: Totals, found: Mapping[str, Moments], champion: str, question: ExperimentQuestion
) -> tuple[VariantResult, ...]:
    users = np.bincount(cohort.variants, minlength=len(cohort.names))
    exposures = np.bincount(cohort.variants, cohort.exposures, len(cohort.names))
    outcomes = np.bincount(cohort.variants, sums.rows, len(cohort.names))
    alpha = (1 - question.confidence) / max(len(cohort.names) - 1, 1)
    boundary: Boundary = AnyTime(question.planned_users, alpha) if question.sequential else FixedHorizon()
    return tuple(
        VariantResult(
            name, int(users[index]), int(exposures[index]), int(outcomes[index]),
            found[name].mean if name in found else None,
            None if name == champion else _against(found.get(champion), found.get(name), alpha, len(users) - 1, boundary),
        )
        for index, name in enumerate(cohort.names)
    )  # fmt: skip


def _against(
    champion: Moments | None, challenger: Moments | None, alpha: float, challengers: int, boundary: Boundary
) -> Difference | None:
    if champion is None or challenger is None or min(champion.users, challenger.users) < 2:
        return None
    found = compare(champion, challenger, alpha, boundary)
    return found if found.p_value is None else replace(found, p_value=min(1.0, found.p_value * challengers))


def _sample_ratio_p(results: tuple[VariantResult, ...], weights: Mapping[str, float] | None) -> float | None:
    """None where no weights are declared, only one variant has one, or there are too few users."""
    shares = {each.name: (weights or {}).get(each.name, 0.0) for each in results}
    observed = np.array([each.users for each in results if shares[each.name]], np.int64)
    expected = np.array([share for share in shares.values() if share], np.float64)
    if len(expected) < 2:
        return None
    expected *= observed.sum() / expected.sum()
    return chi_square_p(observed, expected) if expected.min() >= EXPECTED_MIN else None
