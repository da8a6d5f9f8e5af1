"""`vireo skew`: what a feature view served against what its past says, as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engine import FeatureSkew, Probe, quoted

_HEAD = ("", "compared", "mismatches", "worst by", "example")


def skew_text(probe: Probe, settle_s: float) -> str:
    """A line about the sample, then a row a feature, the row's status among them."""
    report = probe.report
    lines = [
        f"{report.view}: {probe.sampled} rows sampled of {probe.offered} served; {report.rows} compared, {report.unsettled} "
        f"unsettled (events came within {settle_s:g} s of the read)"
    ]
    if probe.kept_from:
        lines.append(
            f"the log is kept from {dict(probe.kept_from)} on: what is owed to earlier entries counts as mismatch"
        )
    rows = [_HEAD, *(_row(name, skew) for name, skew in report.features.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def mismatches(probe: Probe) -> int:
    """Of all features together."""
    return sum(each.mismatched for each in probe.report.features.values())


def _row(name: str, skew: FeatureSkew) -> tuple[str, ...]:
    worst = f"{skew.worst:g}" if skew.worst else "-"
    if not skew.examples:
        return name, str(skew.compared), str(skew.mismatched), worst, "-"
    first = skew.examples[0]
    entity = quoted(first.entity) if isinstance(first.entity, str) else repr(first.entity)
    example = f"{entity} as of {_instant(first.as_of_us)}: served {first.served!r}, history says {first.expected!r}"
    return name, str(skew.compared), str(skew.mismatched), worst, example


def _instant(time_us: int) -> str:
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).isoformat()
    except OverflowError:
        return f"{time_us} us"
