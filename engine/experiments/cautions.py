"""What an analyst would say about a report before anybody acts on it, one sentence each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from engine.errors import quoted
from engine.experiments.estimates import Moments
from engine.experiments.results import ExperimentQuestion, ExperimentReport, VariantResult

USERS_MIN: Final = 100
"""Of a variant, before its mean is taken for normally distributed."""

SKEWED_USERS: Final = 355
"""Times the squared skewness: users from which on a mean's 95% interval misses 2.5% on either side, within a quarter of a percent
(Kohavi, Deng, Longbotham, Xu 2014, "Seven Rules of Thumb for Web Site Experimenters")."""

CROSSED_SHARE_MAX: Final = 0.01


def cautions_of(report: ExperimentReport, found: Mapping[str, Moments], question: ExperimentQuestion) -> Iterator[str]:
    """In order of weight; `found` are the moments of each variant that has a metric."""
    yield from _assignment(report, question)
    yield from _outcomes(report, question)
    for each in report.variants:
        yield from _amount(each, found.get(each.name), report)
    for each in report.variants:
        yield from _inconclusive(each, found[report.champion].mean if report.champion in found else 0.0)


def _assignment(report: ExperimentReport, question: ExperimentQuestion) -> Iterator[str]:
    weights = question.weights
    if report.mismatched and weights is not None:
        counts = " : ".join(str(each.users) for each in report.variants)
        shares = " : ".join(f"{weights.get(each.name, 0):g}" for each in report.variants)
        yield (
            f"sample ratio mismatch: {counts} users where the weights are {shares} (p = {report.sample_ratio_p:.2g}); users are "
            "lost or added by more than chance, so do not trust what follows"
        )
    if weights is not None:
        for each in report.variants:
            if each.users and not weights.get(each.name):
                yield f"variant {quoted(each.name)} has {each.users} users, but no weight: weights or names have changed"
    crossed, users = report.left_out.users_crossed, sum(each.users for each in report.variants)
    if crossed > CROSSED_SHARE_MAX * users:
        became = "are left out" if report.left_out.users_crossed_excluded else "count for the first"
        yield (
            f"{crossed} users were given two variants and {became}: weights have changed, which also mixes periods of "
            "different shares; count from the last change on"
        )


def _outcomes(report: ExperimentReport, question: ExperimentQuestion) -> Iterator[str]:
    counted, left_out = sum(each.outcomes for each in report.variants), report.left_out
    if left_out.outcomes_of_strangers > counted:
        yield (
            f"{left_out.outcomes_of_strangers} outcomes are of keys that were never exposed, and {counted} count: are they "
            "keyed as the split is?"
        )
    elif left_out.outcomes_before_exposure > counted:
        yield f"{left_out.outcomes_before_exposure} outcomes come before their users' first exposure, and {counted} count"
    if report.sequential and question.window_us is None:
        yield "without a window users' values still grow while one looks: give one, so that each user counts once, whole"


def _amount(each: VariantResult, found: Moments | None, report: ExperimentReport) -> Iterator[str]:
    if found is None:
        yield f"variant {quoted(each.name)}: {'no users' if not each.users else 'nothing to divide by'}"
    elif found.users < USERS_MIN:
        yield f"variant {quoted(each.name)}: not enough data yet, {found.users} users; intervals need {USERS_MIN} at least"
    elif found.users < (needed := SKEWED_USERS * found.skewness**2):
        yield (
            f"variant {quoted(each.name)}: values are skewed ({found.skewness:.1f}), and {found.users} users are fewer than the "
            f"{needed:.0f} from which on such intervals are exact"
        )
    if each.against is not None and each.against.p_value is None:
        yield f"variants {quoted(each.name)} and {quoted(report.champion)}: no value varies"


def _inconclusive(each: VariantResult, base: float) -> Iterator[str]:
    against = each.against
    if against is None or against.significant or against.p_value is None:
        return
    size = f"{against.detectable:.3g}"
    if base:
        size += f" ({against.detectable / abs(base):.1%} of the champion's)"
    yield f"variant {quoted(each.name)}: no difference found; with so few users one below {size} is missed more than once in five"
