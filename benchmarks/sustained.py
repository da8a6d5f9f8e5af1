"""What a service sustains within a target: a sweep, then shares of the rate found held longer; and how that is told."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.graphs.contenders import Contender
from benchmarks.harness import Measured
from benchmarks.load.order import LoadOrder
from benchmarks.load.verdict import Verdict
from benchmarks.plots import percentile_plot, rate_plot
from benchmarks.sweep import SweepPlan, SweepResult, at_rate, sweep
from benchmarks.table import Cell, Table

SHARES = (0.5, 0.8)
HELD_S = 15.0
COLUMNS = [
    "load", "offered/s", "goodput", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "server CPU µs/request",
    "server core", "generator core", "lateness p99 ms", "verdict",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """What one service did; `swept` is None in a quick run. `fixed` are SHARES of the rate found, or the quick rates. `parts`:
    CPU of each of its processes, as shares of all."""

    name: str
    swept: SweepResult | None
    fixed: list[Measured]
    parts: Mapping[str, float]

    @property
    def rate_per_s(self) -> float | None:
        """The highest rate that met the target."""
        if self.swept is not None:
            return self.swept.rate_per_s
        met = [one.load.order.rate_per_s or 0.0 for one in self.fixed if one.load.verdict == Verdict.MET]
        return max(met, default=None)

    def at(self, share: float) -> Measured | None:
        """The measurement at one of SHARES of the rate found; None in a quick run, or where no rate was found."""
        return None if self.swept is None or not self.fixed else self.fixed[SHARES.index(share)]


def sustained(
    contender: Contender, order: LoadOrder, plan: SweepPlan, quick_rates_per_s: Sequence[float], *, quick: bool
) -> Found:
    """The sweep and what is held after it; fixed rates where there is little time. `order`: see `sweep`."""
    before = contender.cpu_by_part()
    swept = None if quick else sweep(order, plan, contender.measure)
    if swept is None:
        orders = [replace(order, rate_per_s=rate) for rate in quick_rates_per_s]
    else:
        rate = swept.rate_per_s
        held = replace(order, duration_s=HELD_S)
        orders = [at_rate(held, share * rate, 0) for share in SHARES] if rate else []
    fixed = [contender.measure(one) for one in orders]
    after = contender.cpu_by_part()
    used = {name: after[name] - before[name] for name in after}
    whole = sum(used.values())
    return Found(contender.name, swept, fixed, {name: each / whole for name, each in used.items()} if whole else {})


def load_row(measured: Measured) -> list[Cell]:
    """One line of the latency table."""
    load = measured.load
    latency = load.latency_ms
    name = f"{load.order.protocol.value} {load.order.rate_per_s or 0:,.0f}/s"
    return [
        name, load.offered_per_s, f"{load.goodput_share:.2%}", latency.p50, latency.p90, latency.p99, latency.p999,
        latency.max, measured.server_cpu_us_per_request, f"{measured.server_cpu_share:.0%}",
        f"{load.generator.cpu_share:.0%}", load.generator.lateness_p99_ms, load.verdict,
    ]  # fmt: skip


def held_by_name(found: Sequence[Found]) -> dict[str, Measured]:
    """All that was held, by service and load."""
    return {f"{each.name}, {load_row(one)[0]}": one for each in found for one in each.fixed}


def named(fixed: Mapping[str, Measured]) -> list[list[Cell]]:
    """A line for each measurement, the service named."""
    return [[name, *load_row(one)[1:]] for name, one in fixed.items()]


def curves(fixed: Mapping[str, Measured]) -> dict[str, list[tuple[float, float]]]:
    """Percentile curves by name."""
    return {name: one.load.latency_curve for name, one in fixed.items()}


def rate_curves(measured: Sequence[Measured]) -> dict[str, list[tuple[float, float]]]:
    """p50 and p99 over the offered rate, of the valid points."""
    valid = [one.load for one in measured if one.load.verdict in (Verdict.MET, Verdict.MISSED)]
    return {
        "p50": [(load.offered_per_s, load.latency_ms.p50) for load in valid if load.latency_ms.p50 is not None],
        "p99": [(load.offered_per_s, load.latency_ms.p99) for load in valid if load.latency_ms.p99 is not None],
    }


def latency_shown(found: Sequence[Found], target_ms: float) -> tuple[list[Table], list[str]]:
    """The tables of what was held and of each sweep, and plots of both."""
    fixed = held_by_name(found)
    tables = [Table("Latency at fixed rates", "From the scheduled send.", COLUMNS, named(fixed))]
    figures = [percentile_plot("Latency percentiles", curves(fixed), target_ms)]
    for each in found:
        if each.swept is not None:
            told = "Every point, in the order taken; points whose generator was late are repeated."
            rows = [load_row(one) for one in each.swept.measured]
            tables.append(Table(f"Rate sweep, {each.name}", told, COLUMNS, rows))
            curve = rate_curves(each.swept.measured)
            figures.append(rate_plot(f"Latency over offered rate, {each.name}", curve, target_ms))
    return tables, figures


def best_rate(found: Iterable[Found]) -> tuple[str, float] | None:
    """Name and rate of the one that sustained most."""
    known = [(each.name, each.rate_per_s) for each in found if each.rate_per_s is not None]
    return max(known, key=lambda one: one[1], default=None)


def p99_ms(measured: Measured | None) -> float | None:
    """Of a measurement that may be missing."""
    return None if measured is None else measured.load.latency_ms.p99


def told_parts(parts: Mapping[str, float]) -> str | None:
    """Such as "gateway 60%, Triton 36%"."""
    return ", ".join(f"{name} {share:.0%}" for name, share in parts.items()) or None
