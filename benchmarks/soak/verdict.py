"""Whether a server held out, from what was seen of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import hypot, sqrt
from statistics import linear_regression, median, stdev

from benchmarks.report import Judgement
from benchmarks.soak.outcome import LoadOutcome
from benchmarks.soak.sample import READ_S_MAX, Sample

WARMUP_SHARE = 0.2
"""Of the time: caches fill, the allocator finds its size, threads are made."""

GROWTH_MAX = 0.02
QUARTER_SAMPLES_MIN = 5
"""Fewer readings at either end say nothing."""

PAUSE_S_MAX = READ_S_MAX + 5.0
"""A longer gap between readings is no fault of the server: a reading gives up before."""

MINUTES_MIN = 8.0
"""After the warm-up of a shorter run growth proves nothing: caches of layouts fill and are emptied every few minutes, and
the heap is still finding its size.
"""

MEDIAN_ERROR = 1.2533
"""Standard error of a median of normal readings, as a multiple of that of their mean: the root of pi / 2."""

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Trend:
    """Resident memory after the warm-up, in MiB: medians of the first and the last quarter, the line through all, the
    most; over how many minutes; and the standard error of `last - first`.
    """

    first: float
    last: float
    slope_per_minute: float
    most: float
    minutes: float
    error: float

    @property
    def growth(self) -> float:
        """From the first quarter to the last, as a share of the first."""
        return self.last / self.first - 1

    @property
    def growth_error(self) -> float:
        """The standard error of `growth`."""
        return self.error / self.first


def after_warmup(samples: Sequence[Sample], seconds: float) -> list[Sample]:
    """The samples that count."""
    return [each for each in samples if WARMUP_SHARE * seconds <= each.at_s <= seconds]


def trend_of(samples: Sequence[Sample]) -> Trend | None:
    """None where there are too few."""
    quarter = len(samples) // 4
    if quarter < QUARTER_SAMPLES_MIN:
        return None
    resident = [each.memory.resident / MIB for each in samples]
    slope = linear_regression([each.at_s / 60 for each in samples], resident).slope
    minutes = (samples[-1].at_s - samples[0].at_s) / 60
    first, last = resident[:quarter], resident[-quarter:]
    error = MEDIAN_ERROR * hypot(stdev(first), stdev(last)) / sqrt(quarter)
    return Trend(median(first), median(last), slope, max(resident), minutes, error)


def paused_s(samples: Sequence[Sample]) -> float:
    """How long the whole run was held up at most, as by SIGSTOP or a busy machine; 0 where the readings are regular."""
    gaps = [later.at_s - earlier.at_s for earlier, later in pairwise(samples)]
    longest = max(gaps) - median(gaps) if gaps else 0.0
    return longest if longest > PAUSE_S_MAX else 0.0


@dataclass(frozen=True, slots=True)
class End:
    """The server after the last caller has left: a reading, its log's complaints, and how it ended on SIGTERM."""

    rest: Sample
    files_before: int
    complaints: list[str]
    exit_code: int


def judgements_of(trend: Trend | None, load: LoadOutcome, end: End, paused: float = 0.0) -> list[Judgement]:
    """Every promise. A run that was held up for `paused` seconds says nothing on time-outs, nor on memory over time."""
    judged = _judged(trend, load, end)
    if not paused:
        return judged
    said = f"the run was held up for {paused:.0f} s; "
    timed = {_MEMORY, _RIGHT, _STUCK}
    return [replace(each, kept=None, said=said + each.said) if each.promise in timed else each for each in judged]


_MEMORY = f"resident memory grows by at most {GROWTH_MAX:.0%} after the warm-up"
_RIGHT = "every answer is right, every error expected"
_STUCK = "no caller is stuck"


def _judged(trend: Trend | None, load: LoadOutcome, end: End) -> list[Judgement]:
    return [
        _memory(trend),
        _nothing_left(end.rest),
        Judgement(
            "no file stays open",
            end.rest.files <= end.files_before,
            f"{end.files_before} before, {end.rest.files} after",
        ),
        _answers(load),
        Judgement(_STUCK, not load.stuck, ", ".join(load.stuck) or "none"),
        Judgement("no complaint in the log", not end.complaints, _first(end.complaints)),
        Judgement("the server ends well", end.exit_code == 0, f"exit code {end.exit_code}"),
    ]


def _memory(trend: Trend | None) -> Judgement:
    if trend is None:
        return Judgement(_MEMORY, None, "too few samples")
    said = (
        f"{trend.first:.1f} MiB in the first quarter, {trend.last:.1f} in the last "
        f"({trend.growth:+.1%} with a standard error of {trend.growth_error:.1%}); "
        f"{trend.slope_per_minute:+.2f} MiB a minute, at most {trend.most:.1f}"
    )
    if trend.growth > GROWTH_MAX and trend.minutes < MINUTES_MIN:
        return Judgement(_MEMORY, None, f"too short a run to tell: {said}")
    return Judgement(_MEMORY, trend.growth <= GROWTH_MAX, said)


def _nothing_left(rest: Sample) -> Judgement:
    left = {name: value for name, value in rest.gauges.items() if value}
    said = ", ".join(f"{name} {value:g}" for name, value in left.items())
    return Judgement("all gauges are zero when the clients have left", not left, said or f"all {len(rest.gauges)} are")


def _answers(load: LoadOutcome) -> Judgement:
    failed = [f"{each.caller}: {each.count} {each.kind} ({_first(each.examples)})" for each in load.failures]
    return Judgement(_RIGHT, not failed, "; ".join(failed) or f"{load.answered} acts")


def _first(texts: Sequence[str]) -> str:
    return "none" if not texts else texts[0] if len(texts) == 1 else f"{texts[0]} and {len(texts) - 1} more"
