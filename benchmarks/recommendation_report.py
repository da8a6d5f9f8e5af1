"""What the benchmark `recommendation` says of its measurements. Pure but for the machine's description."""

from dataclasses import dataclass

import numpy as np

from benchmarks.recommendation.glued import Glued
from benchmarks.recommendation.inputs import Filled
from benchmarks.recommendation.recall import Thoroughness
from benchmarks.recommendation.refresh import Refresh
from benchmarks.recommendation.served import SLO_MS, Stages, stage_table
from benchmarks.report import Judgement, Report
from benchmarks.sustained import SHARES, Found, best_rate, latency_shown, p99_ms, told_parts
from benchmarks.table import Cell, Table

TARGET_MS = 50.0
P99_MS_MAX = 15.0
"""At the smaller of SHARES."""

RATIO_MIN = 5.0
REFRESH_RATIO_MAX = 1.3


@dataclass(frozen=True, slots=True)
class RecommendationData:
    """The raw results. `search`: ours; `product`: the stack where it searches by inner product; `alike`: the share of our lists'
    items that are in the stack's. `missing` says what was not run, and why."""

    filled: Filled
    ours: Found
    stages: Stages
    search: Thoroughness
    refresh: Refresh
    stack: Glued
    product: Glued
    alike: float | None
    missing: list[str]

    def best_stack(self) -> tuple[str, float] | None:
        """The rival that sustained most."""
        return best_rate(self.stack.found)

    def services(self) -> list[Found]:
        """All that was measured."""
        return [self.ours, *self.stack.found, *self.product.found]


def report_of(seed: int, data: RecommendationData, *, quick: bool) -> Report:
    """Tables, plots and judgements."""
    latencies, figures = latency_shown(data.services(), TARGET_MS)
    return Report(
        name="recommendation",
        about=(
            f"recommendations among {data.filled.items:,} items for {data.filled.users:,} users, 500 candidates of 102 features, "
            "open loop (Poisson), each service on one core, generator on another"
        ),
        seed=seed,
        judgements=judgements_of(data, quick=quick),
        tables=[summary(data), stage_table(data.stages), refresh_table(data.refresh), *latencies],
        figures=figures,
        data=data,
        notes=notes_of(data),
    )


def summary(data: RecommendationData) -> Table:
    """A line for each service."""
    columns = [
        "service", f"requests/s, p99 ≤ {TARGET_MS:g} ms", "p99 ms at 50%", "p99 ms at 80%", "CPU µs/request at 80%",
        "CPU by process",
    ]  # fmt: skip
    rows = []
    for each in data.services():
        lower, upper = (each.at(share) for share in SHARES)
        cpu_us = None if upper is None else upper.server_cpu_us_per_request
        rows.append([each.name, each.rate_per_s, p99_ms(lower), p99_ms(upper), cpu_us, told_parts(each.parts)])
    return Table("What one core sustains", "", columns, rows)


def refresh_table(refresh: Refresh) -> Table:
    """Quiet beside moving."""
    columns = [
        "phase",
        "answered",
        "failed",
        "by version 1",
        "by version 2",
        "mixed",
        "p50 ms",
        "p99 ms",
        "moves",
        "a move takes, ms",
    ]
    rows: list[list[Cell]] = []
    for name, phase in (("quiet", refresh.quiet), ("versions move", refresh.moving)):
        p50, moved = float(np.median(phase.latency_ms)), float(np.median(phase.moves)) if phase.moves else None
        counts = [len(phase.latency_ms), len(phase.failed), phase.by_version[1], phase.by_version[2], phase.mixed]
        rows.append([name, *counts, p50, phase.p99_ms(), len(phase.moves), moved])
    told = (
        f"Phases in turn, pooled, Poisson arrivals at {refresh.rate_per_s:,.0f}/s; every answer's scores are checked."
    )
    return Table("Items and user tower change versions under load", told, columns, rows)


def refresh_judgements(refresh: Refresh, *, quick: bool) -> list[Judgement]:
    """No failure, no mixture, and what it does to latency."""
    quiet, moving = refresh.quiet, refresh.moving
    failed, mixed = len(quiet.failed) + len(moving.failed), quiet.mixed + moving.mixed
    whole = failed == mixed == 0 and all(moving.by_version.values())
    told = f"{failed} failed, {mixed} mixed, {moving.by_version[1]} by the first version, {moving.by_version[2]} by the second"
    judged = [Judgement(f"versions move {len(moving.moves)} times: no request fails, none is mixed", whole, told)]
    if not quick:
        ratio = moving.p99_ms() / quiet.p99_ms()
        said = f"{moving.p99_ms():.1f} / {quiet.p99_ms():.1f} ms = {ratio:.2f}"
        judged.append(
            Judgement(f"p99 meanwhile at most {REFRESH_RATIO_MAX} that of quiet", ratio <= REFRESH_RATIO_MAX, said)
        )
    return judged


def judgements_of(data: RecommendationData, *, quick: bool) -> list[Judgement]:
    """The rate, its latency at half of it, and the ratio to the stack."""
    rate, lower = data.ours.rate_per_s, p99_ms(data.ours.at(SHARES[0]))
    promise = f"p99 at most {TARGET_MS:g} ms with at least 99.9% answered within {SLO_MS:g} ms"
    judged = [Judgement(promise, rate is not None, "at no rate" if rate is None else f"up to {rate:,.0f}/s")]
    judged += refresh_judgements(data.refresh, quick=quick)
    if quick:
        return judged
    promise = f"p99 below {P99_MS_MAX:g} ms at {SHARES[0]:.0%} of that"
    judged.append(
        Judgement(promise, None, "unknown")
        if lower is None
        else Judgement(promise, lower < P99_MS_MAX, f"{lower:.2f} ms")
    )
    best = data.best_stack()
    promise = f"at least {RATIO_MIN:g} times the requests/s of the stack"
    if best is None or rate is None:
        judged.append(Judgement(promise, None, "no stack was run, or no rate was found"))
    else:
        judged.append(
            Judgement(promise, rate >= RATIO_MIN * best[1], f"{rate / best[1]:.1f} x {best[1]:,.0f}/s of {best[0]}")
        )
    return judged


def notes_of(data: RecommendationData) -> list[str]:
    """How the shop was filled, and what was not run."""
    filled = data.filled
    told = (
        f"Filled in bulk: {filled.items:,} items in {filled.items_s:.0f} s, two collections of them and {filled.users:,} users "
        f"indexed after {filled.indexed_s:.0f} s; {filled.events:,} ratings appended and followed in {filled.events_s:.0f} s."
    )
    search = data.search
    found = f"Our search, at {search.effort:g} times the usual effort, finds {search.recall:.1%} of the exact 500 candidates."
    return [told, found, *stack_notes(data), *data.missing]


def stack_notes(data: RecommendationData) -> list[str]:
    """What the stack is, where it was run."""
    stack, product = data.stack, data.product
    if data.alike is None:
        return []
    notes = [
        f"The stack: HNSW (M 16) over vectors made equally long by a dimension more, {stack.ef} searched for, of which those are "
        f"kept that are offered, finds {stack.recall:.1%} of them; filled and indexed in {stack.filled_s:.0f} s; "
        f"{data.alike:.1%} of our lists' items are in its. Its three processes share one core, as ours has one. What it knows of "
        "users is computed beforehand and stands still, it gives no reasons, records nothing and keeps nothing on the disk."
    ]
    if product.found:
        notes.append(
            f"By inner product its HNSW, ef {product.ef}, finds {product.recall:.1%}; filled in {product.filled_s:.0f} s."
        )
    return notes
