"""What the benchmark `fraud` says of its measurements. Pure but for the machine's description."""

from dataclasses import dataclass

from benchmarks.features.part import Part
from benchmarks.graphs.contenders import FULL, LIKE, OURS, STACKS
from benchmarks.report import Judgement, Report
from benchmarks.sustained import SHARES, Found, best_rate, latency_shown, p99_ms, told_parts
from benchmarks.table import Cell, Table, number_cell
from benchmarks.turns import number_or_nan

TARGET_MS = 100.0
P99_MS_MAX = 10.0
"""At the larger of SHARES."""

RATIO_MIN = 10.0


@dataclass(frozen=True, slots=True)
class FraudData:
    """The raw results; `overload` is of the first of ours. `missing` says what was not run, and why."""

    found: list[Found]
    overload: Part | None
    missing: list[str]

    def rate_of(self, name: str) -> float | None:
        """What a service sustained; None where it was not run or met the target at no rate."""
        return next((each.rate_per_s for each in self.found if each.name == name), None)

    def best_stack(self) -> tuple[str, float] | None:
        """The rival that sustained most."""
        return best_rate(each for each in self.found if each.name in STACKS)


def report_of(seed: int, data: FraudData, *, quick: bool) -> Report:
    """Tables, plots and judgements."""
    over = data.overload or Part()
    (held_at, *swept), figures = latency_shown(data.found, TARGET_MS)
    return Report(
        name="fraud",
        about="fraud decisions, one at a time, open loop (Poisson), each service on one core, generator on another",
        seed=seed,
        judgements=[*judgements_of(data, quick=quick), *over.judgements],
        tables=[summary(data), held_at, *over.tables, *swept],
        figures=figures,
        data=data,
        notes=notes_of(data),
    )


def summary(data: FraudData) -> Table:
    """A line for each service."""
    columns = [
        "service", f"requests/s, p99 ≤ {TARGET_MS:g} ms", "to best stack", "p99 ms at 50%", "p99 ms at 80%",
        "CPU µs/request at 80%", "CPU by process",
    ]  # fmt: skip
    best = data.best_stack()
    rows = [
        [each.name, each.rate_per_s, *beside(each, best), *held(each), told_parts(each.parts)] for each in data.found
    ]
    return Table("What one core sustains", "The best of the stacks is 1.", columns, rows)


def beside(each: Found, best: tuple[str, float] | None) -> list[Cell]:
    """Its rate over the best stack's."""
    return [None if best is None or each.rate_per_s is None else each.rate_per_s / best[1]]


def held(each: Found) -> list[Cell]:
    """p99 at both shares, CPU at the larger."""
    lower, upper = (each.at(share) for share in SHARES)
    return [
        p99_ms(lower),
        p99_ms(upper),
        None if upper is None else number_cell(number_or_nan(upper.server_cpu_us_per_request)),
    ]


def judgements_of(data: FraudData, *, quick: bool) -> list[Judgement]:
    """The rate and its latency, and the ratio to the stack."""
    ours = [each for each in data.found if each.name in OURS]
    judged = [sustained(each) for each in ours]
    judged += [quiet_enough(each) for each in ours if not quick]
    judged += [ratio(data, each) for each in ours if not quick]
    return judged


def sustained(each: Found) -> Judgement:
    """That there is such a rate."""
    promise = f"{each.name}: p99 below {TARGET_MS:g} ms with at least 99.9% answered in time"
    if each.rate_per_s is None:
        return Judgement(promise, False, "at no rate")
    more = (
        " or more (the generator was at its end)" if each.swept is not None and each.swept.bounded_by_generator else ""
    )
    return Judgement(promise, True, f"up to {each.rate_per_s:,.0f}/s{more}")


def quiet_enough(each: Found) -> Judgement:
    """p99 at the larger share of the rate found."""
    found = p99_ms(each.at(SHARES[-1]))
    promise = f"{each.name}: p99 below {P99_MS_MAX:g} ms at {SHARES[-1]:.0%} of that"
    return Judgement(
        promise, None if found is None else found < P99_MS_MAX, "unknown" if found is None else f"{found:.2f} ms"
    )


def ratio(data: FraudData, each: Found) -> Judgement:
    """Ours over the best stack."""
    best = data.best_stack()
    promise = f"{each.name}: at least {RATIO_MIN:g} times the requests/s of the stack"
    if best is None or each.rate_per_s is None:
        return Judgement(promise, None, "no stack was run" if best is None else "no rate was found")
    found = each.rate_per_s / best[1]
    return Judgement(promise, found >= RATIO_MIN, f"{found:.1f} x {best[1]:,.0f}/s of {best[0]}")


def notes_of(data: FraudData) -> list[str]:
    """What the comparison leaves out."""
    told = [
        "The stack's features are precomputed and stand still: it gets streaming for free. Its three processes share one core, "
        "as ours has one; its gateway is leaner than most (prepared messages, values stored as the model wants them).",
        f"'{LIKE}' does what the stack does and appends each scored event to the log its features come from; '{FULL}' also "
        "scores a second model, explains, decides and records.",
    ]
    return [*told, *data.missing]
