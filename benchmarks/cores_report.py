"""What the benchmark `cores` concludes from its turns: how much more two cores do than one. Pure.

The generator works on the second core too, so a server of two cores can do at most 2 less the generator's share times
what one core does; a ratio is told as it is and as a part of that. Where others used the cores, what speaks against the
server decides nothing.
"""

import math
from dataclasses import dataclass
from statistics import median

from benchmarks.bare_model import BareCost
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table, number_cell, percent_cell
from benchmarks.turns import Rounds, Turn, core_share, cpu, median_of, p50, p99, rate

ONE, TWO = "one core", "two cores"
RATIO_MIN = 1.7
CORES = 2
OTHERS_MAX = 0.1
COLUMNS = [
    "server", "callers", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "requests/s ratio", "of what was possible",
    "CPU ratio", "server cores", "generator core", "others' cores", "errors",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CoresRun(Rounds):
    """All that was measured with one model. `bare_pairs`: the model alone on both cores at once.

    `judged` is False where the model is too small for the promise: it is told of.
    """

    model: str
    judged: bool
    bare: list[BareCost]
    bare_pairs: list[tuple[BareCost, BareCost]]
    turns: list[Turn]

    @property
    def callers(self) -> list[int]:
        """Under how many callers both servers were."""
        return sorted({turn.callers for turn in self.turns})

    def gain(self, callers: int) -> float:
        """Requests a second of two cores beside those of one."""
        return self.ratio(rate, TWO, ONE, callers)

    def share_of_possible(self, callers: int) -> float:
        """The gain as a part of what the generator's share of the second core left."""
        pairs = zip(self.of(TWO, callers), self.of(ONE, callers), strict=True)
        return median_of([rate(two) / rate(one) / (CORES - generator_share(two)) for two, one in pairs if rate(one)])

    @property
    def bare_gain(self) -> float:
        """What the second core adds to the bare model: less than 2 where cores share caches and memory."""
        both = median(1 / one.median_us + 1 / other.median_us for one, other in self.bare_pairs)
        return both * median(cost.median_us for cost in self.bare)


def generator_share(turn: Turn) -> float:
    """How much of its core the generator had."""
    return turn.measured.load.generator.cpu_share


def others_share(turn: Turn) -> float:
    """What neither the server nor the generator had, in cores."""
    return turn.measured.others_cpu_share


def table_of(run: CoresRun) -> Table:
    """Both servers under every number of callers, and the model alone."""
    rows = [server_row(run, server, callers) for callers in run.callers for server in (ONE, TWO)]
    about = f"Medians over {len(run.bare)} rounds; ratios to one core, each within a round."
    return Table(f"Model {run.model}", about, COLUMNS, [*bare_rows(run), *rows])


def bare_rows(run: CoresRun) -> list[list[Cell]]:
    """`session.run` in a loop, on one core and on both."""
    alone_us, cpu_us = (median(getattr(each, name) for each in run.bare) for name in ("median_us", "cpu_us"))
    both_us, both_cpu_us = (
        median(getattr(each, name) for pair in run.bare_pairs for each in pair) for name in ("median_us", "cpu_us")
    )
    pair = f"bare session.run, {CORES} processes"
    rest: list[Cell] = [None] * 4
    return [
        ["bare session.run", 1, 1e6 / alone_us, alone_us / 1e3, None, cpu_us, 1.0, None, 1.0, *rest],
        [pair, 2, run.bare_gain * 1e6 / alone_us, both_us / 1e3, None, both_cpu_us, run.bare_gain, None,
         both_cpu_us / cpu_us, *rest],
    ]  # fmt: skip


def server_row(run: CoresRun, server: str, callers: int) -> list[Cell]:
    """One line of the table."""
    figures = [run.middle(figure, server, callers) for figure in (rate, p50, p99, cpu)]
    return [
        server,
        callers,
        *map(number_cell, figures),
        number_cell(run.ratio(rate, server, ONE, callers)),
        percent_cell(run.share_of_possible(callers) if server == TWO else math.nan),
        number_cell(run.ratio(cpu, server, ONE, callers)),
        number_cell(run.middle(core_share, server, callers)),
        percent_cell(run.middle(generator_share, server, callers)),
        percent_cell(run.middle(others_share, server, callers)),
        sum(turn.failed for turn in run.of(server, callers)),
    ]


def judgements_of(run: CoresRun) -> list[Judgement]:
    """What is promised for one model."""
    gains = [gain_judgement(run, callers) for callers in run.callers] if run.judged else []
    return [*gains, failure_judgement(run)]


def gain_judgement(run: CoresRun, callers: int) -> Judgement:
    """The promise under one number of callers. Not decided where only the generator, or only others, kept it from being kept."""
    promise = f"{run.model}, {callers} callers: two cores at least {RATIO_MIN:g} x the requests/s of one"
    gain, told = run.gain(callers), gain_text(run, callers)
    others = max(run.middle(others_share, server, callers) for server in (ONE, TWO))
    if math.isnan(gain):
        return Judgement(promise, None, "not known")
    if gain >= RATIO_MIN:
        return Judgement(promise, True, told)
    if others > OTHERS_MAX:
        return Judgement(promise, None, f"{told}, but others had {others:.0%} of a core")
    return Judgement(promise, None if CORES * run.share_of_possible(callers) >= RATIO_MIN else False, told)


def gain_text(run: CoresRun, callers: int) -> str:
    """The ratio, and what it would be had the generator had a core of its own."""
    share, possible = run.middle(generator_share, TWO, callers), run.share_of_possible(callers)
    return (
        f"{run.gain(callers):.2f}, {possible:.0%} of what was possible with the generator on {share:.0%} of the second core"
        f" ({CORES * possible:.2f} of {CORES})"
    )


def notes_of(run: CoresRun) -> list[str]:
    """What is told without being judged."""
    told = [f"{run.model}: the bare model on both cores does {run.bare_gain:.2f} x what it does on one"]
    if not run.judged:
        told += [f"{run.model}, {callers} callers: {gain_text(run, callers)}" for callers in run.callers]
    return told


def failure_judgement(run: CoresRun) -> Judgement:
    """No request fails."""
    failed = sum(turn.failed for turn in run.turns)
    return Judgement(f"{run.model}: no request fails", failed == 0, f"{failed} failed")
