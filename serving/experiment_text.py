"""The report on an experiment, as text."""

from __future__ import annotations

from collections.abc import Iterator

from engine import Difference, ExperimentReport, LeftOut, VariantResult, quoted

_UNITS = {"mean": "per user", "ratio": "ratio"}


def report_text(report: ExperimentReport) -> str:
    """What was asked, cautions, a row a variant, a sentence a challenger, and what was not counted."""
    lines = [_head(report), *(f"  caution: {each}" for each in report.cautions), ""]
    lines += _table(report)
    lines += ["", *_verdicts(report)]
    left_out = list(_left_out(report.left_out))
    if left_out:
        lines += ["", "not counted: " + "; ".join(left_out)]
    return "\n".join(lines) + "\n"


def _head(report: ExperimentReport) -> str:
    looks = "however often one looks" if report.sequential else "for one look, at a time set beforehand"
    ratio = ""
    if report.sample_ratio_p is not None:
        ratio = f"; users fit the weights (p = {report.sample_ratio_p:.2g})"
        if report.mismatched:
            ratio = "; users do NOT fit the weights"
    past = (
        ""
        if report.variance_explained is None
        else f"; the past explains {report.variance_explained:.0%} of the variance"
    )
    return (
        f"{report.experiment}: {report.metric}, {report.confidence * 100:.4g}% intervals that hold {looks}{ratio}{past}"
    )


def _table(report: ExperimentReport) -> list[str]:
    level = f"{report.confidence * 100:.4g}% interval"
    head = ("", "users", "exposures", "outcomes", _UNITS[report.metric], "difference", level, "lift", level, "p")
    rows = [head, *(_row(each) for each in report.variants)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _row(each: VariantResult) -> tuple[str, ...]:
    mean = "-" if each.mean is None else f"{each.mean:.5g}"
    counts = each.name, str(each.users), str(each.exposures), str(each.outcomes), mean
    if each.against is None:
        return *counts, "-", "-", "-", "-", "-"
    found = each.against
    interval = f"{found.low:+.4g} to {found.high:+.4g}"
    lift = "-" if found.lift is None else f"{found.lift:+.2%}"
    return *counts, f"{found.difference:+.4g}", interval, lift, _lift_interval(found), _p(found.p_value)


def _lift_interval(found: Difference) -> str:
    return (
        "-" if found.lift_low is None or found.lift_high is None else f"{found.lift_low:+.2%} to {found.lift_high:+.2%}"
    )


def _p(p_value: float | None) -> str:
    if p_value is None:
        return "-"
    return "<0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def _verdicts(report: ExperimentReport) -> Iterator[str]:
    champion = quoted(report.champion)
    for each in report.variants:
        if each.name == report.champion:
            continue
        if each.against is None:
            yield f"{quoted(each.name)} cannot be held against {champion} yet"
        elif each.against.significant:
            yield f"{quoted(each.name)} is {'higher' if each.against.difference > 0 else 'lower'} than {champion}"
        else:
            yield f"{quoted(each.name)} is not told from {champion}"


def _left_out(found: LeftOut) -> Iterator[str]:
    if found.exposures_without_key:
        yield f"{found.exposures_without_key} exposures without a key"
    if found.users_crossed and found.users_crossed_excluded:
        yield f"{found.users_crossed} users who were given two variants"
    if found.users_unripe:
        yield f"{found.users_unripe} users whose window has not passed"
    if found.outcomes_of_strangers:
        yield f"{found.outcomes_of_strangers} outcomes of keys that were not exposed"
    if found.outcomes_before_exposure:
        yield f"{found.outcomes_before_exposure} outcomes before the first exposure"
    if found.outcomes_past_window:
        yield f"{found.outcomes_past_window} outcomes past the window"
