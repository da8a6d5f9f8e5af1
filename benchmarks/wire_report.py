"""What the benchmark `wire` concludes from its turns: ratios by round, tables, judgements. Pure.

A loaded server keeps its core busy; where one had less than CORE_SHARE_MIN of it, others had the rest, and what speaks
against it, or for its rival, decides nothing.
"""

import math
from dataclasses import dataclass
from statistics import median

from benchmarks.bare_model import BareCost
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table, number_cell, percent_cell
from benchmarks.turns import Rounds, Turn, core_share, cpu, p50, p99, rate

JUDGED_CALLERS = 32
RATE_RATIO_MIN = 2.0
P99_RATIO_MAX = 1.0
P50_RATIO_MAX = 1.1
CORE_SHARE_MIN = 0.8
DIFFERENCE_MAX = 1e-5
COLUMNS = [
    "server", "callers", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "requests/s ratio", "p50 ratio",
    "p99 ratio", "CPU ratio", "requests/s ratio to plain", "server core", "generator core", "generator µs/request",
    "errors",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Names:
    """Who is judged (the first Vireo), beside which Triton, and beside which bare front (None: none was there).

    `plain` is the Triton without dynamic batching. `rival_is_promised` is False where another Triton than the promise
    names was measured, and `plain` None: ratios to it are told, not judged.
    """

    ours: str
    rival: str
    plain: str | None
    front: str | None
    rival_is_promised: bool = True


@dataclass(frozen=True, slots=True)
class Bars:
    """What is promised for one model, at JUDGED_CALLERS: CPU in microseconds, or as a multiple of the bare model.

    `beside_plain`: requests/s are promised beside Triton without dynamic batching.
    """

    cpu_us_max: float | None = None
    cpu_of_bare_max: float | None = None
    p99: bool = False
    beside_plain: bool = False


@dataclass(frozen=True, slots=True)
class ModelRun(Rounds):
    """All that was measured with one model. `differences`: how far each server's answers are from the rival's, at most."""

    model: str
    bars: Bars
    bare: list[BareCost]
    differences: dict[str, float]
    turns: list[Turn]

    @property
    def bare_us(self) -> float:
        """The model alone, median over the rounds."""
        return median(cost.median_us for cost in self.bare)


def table_of(run: ModelRun, names: Names) -> Table:
    """Every server under every number of callers, and the model alone."""
    servers = list(dict.fromkeys(turn.server for turn in run.turns))
    callers = sorted({turn.callers for turn in run.turns})
    bare_cpu = median(cost.cpu_us for cost in run.bare)
    bare: list[Cell] = ["bare session.run", 1, 1e6 / run.bare_us, run.bare_us / 1e3, None, bare_cpu, *[None] * 9]
    met = [(server, count) for count in callers for server in servers if run.of(server, count)]
    rows = [server_row(run, names, server, count) for server, count in met]
    about = f"Medians over {len(run.bare)} rounds; ratios to {names.rival}, each within a round."
    return Table(f"Model {run.model}", about, COLUMNS, [bare, *rows])


def server_row(run: ModelRun, names: Names, server: str, callers: int) -> list[Cell]:
    """One line of the table."""
    figures = [run.middle(figure, server, callers) for figure in (rate, p50, p99, cpu)]
    ratios = [run.ratio(figure, server, names.rival, callers) for figure in (rate, p50, p99, cpu)]
    ratios.append(math.nan if names.plain is None else run.ratio(rate, server, names.plain, callers))
    loads = [turn.measured.load.generator for turn in run.of(server, callers)]
    return [
        server,
        callers,
        *map(number_cell, figures),
        *map(number_cell, ratios),
        percent_cell(run.middle(core_share, server, callers)),
        percent_cell(median(load.cpu_share for load in loads)),
        median(load.cpu_us_per_request for load in loads),
        sum(turn.failed for turn in run.of(server, callers)),
    ]


def judgements_of(run: ModelRun, names: Names) -> list[Judgement]:
    """Everything promised for one model."""
    return [
        *rate_judgements(run, names),
        *cpu_judgements(run, names),
        front_judgement(run, names),
        agreement_judgement(run),
        failure_judgement(run, names),
    ]


def rate_judgements(run: ModelRun, names: Names) -> list[Judgement]:
    """Throughput, and p99 where it is promised, beside the rival."""
    where, rival = f"{run.model}, {JUDGED_CALLERS} callers", judged_rival(run, names)
    faster = run.ratio(rate, names.ours, rival, JUDGED_CALLERS)
    promise = f"{where}: at least {RATE_RATIO_MIN:g} x the requests/s of {rival}"
    found = [_beside_rival(run, names, promise, faster >= RATE_RATIO_MIN, faster)]
    if run.bars.p99:
        later = run.ratio(p99, names.ours, rival, JUDGED_CALLERS)
        promise = f"{where}: p99 no worse than that of {rival}"
        found.append(_beside_rival(run, names, promise, later <= P99_RATIO_MAX, later))
    return found


def judged_rival(run: ModelRun, names: Names) -> str:
    """The Triton that the model's promise names, or the only one there is."""
    return names.plain if run.bars.beside_plain and names.plain is not None else names.rival


def _beside_rival(run: ModelRun, names: Names, promise: str, kept: bool, ratio: float) -> Judgement:
    doubt = None if names.rival_is_promised else "which another Triton cannot decide"
    return _judged(promise, kept, ratio, doubt or doubt_of(run, judged_rival(run, names) if kept else names.ours))


def notes_of(run: ModelRun, names: Names) -> list[str]:
    """Requests/s beside the Triton that the model's promise does not name: told, not judged."""
    others = [each for each in (names.rival, names.plain) if each is not None and each != judged_rival(run, names)]
    told = f"{run.model}, {JUDGED_CALLERS} callers"
    ratios = [(other, run.ratio(rate, names.ours, other, JUDGED_CALLERS)) for other in others]
    return [f"{told}: {ratio:.2f} x the requests/s of {other}" for other, ratio in ratios if not math.isnan(ratio)]


def cpu_judgements(run: ModelRun, names: Names) -> list[Judgement]:
    """CPU a request, in microseconds or beside the bare model."""
    where = f"{run.model}, {JUDGED_CALLERS} callers"
    found, spent, doubt = [], run.middle(cpu, names.ours, JUDGED_CALLERS), doubt_of(run, names.ours)
    if run.bars.cpu_us_max is not None:
        kept = spent <= run.bars.cpu_us_max
        promise = f"{where}: at most {run.bars.cpu_us_max:g} µs of CPU a request"
        found.append(_judged(promise, kept, spent, None if kept else doubt, " µs"))
    if run.bars.cpu_of_bare_max is not None:
        share = spent / run.bare_us
        kept = share <= run.bars.cpu_of_bare_max
        promise = f"{where}: CPU at most {run.bars.cpu_of_bare_max:g} x the bare model's {run.bare_us:.1f} µs"
        found.append(_judged(promise, kept, share, None if kept else doubt))
    return found


def doubt_of(run: ModelRun, server: str) -> str | None:
    """Why the figures of a server under JUDGED_CALLERS may be worse than it is; None where nothing speaks against them."""
    share = run.middle(core_share, server, JUDGED_CALLERS)
    return f"but {server} had {share:.0%} of its core" if share < CORE_SHARE_MIN else None


def front_judgement(run: ModelRun, names: Names) -> Judgement:
    """Latency at one caller beside a bare front of a library."""
    if names.front is None:
        promise = f"{run.model}, one caller: p50 at most {P50_RATIO_MAX:g} x that of a bare library front"
        return Judgement(promise, None, "no such front was measured")
    promise = f"{run.model}, one caller: p50 at most {P50_RATIO_MAX:g} x that of {names.front}"
    later = run.ratio(p50, names.ours, names.front, 1)
    return _judged(promise, later <= P50_RATIO_MAX, later)


def agreement_judgement(run: ModelRun) -> Judgement:
    """Whether all servers say the same; a NaN is no agreement."""
    agree = all(difference <= DIFFERENCE_MAX for difference in run.differences.values())
    said = ", ".join(f"{name} {difference:.1e}" for name, difference in run.differences.items())
    return Judgement(f"{run.model}: answers agree to {DIFFERENCE_MAX:g}", agree, said)


def failure_judgement(run: ModelRun, names: Names) -> Judgement:
    """No request to ours fails."""
    failed = sum(turn.failed for turn in run.turns if turn.server == names.ours)
    return Judgement(f"{run.model}: no request fails", failed == 0, f"{failed} failed")


def _judged(promise: str, kept: bool, figure: float, doubt: str | None = None, unit: str = "") -> Judgement:
    if math.isnan(figure):
        return Judgement(promise, None, "not known")
    said = f"{figure:.2f}{unit}"
    return Judgement(promise, kept, said) if doubt is None else Judgement(promise, None, f"{said}, {doubt}")
