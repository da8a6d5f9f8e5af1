"""Find the highest Poisson rate that meets a latency target: doubling first, then bisection.

The decision (`next_rate`) is pure; `sweep` is the shell that measures where it says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from benchmarks.harness import Measured
from benchmarks.load.latency import samples_needed
from benchmarks.load.order import LoadOrder
from benchmarks.load.result import LoadResult
from benchmarks.load.verdict import CPU_SHARE_MAX, GOODPUT_SHARE_MIN, LATENESS_SHARE_MAX, Verdict

TRIES_MAX = 3
POINTS_MAX = 24
SAMPLES_SPARE = 1.5


class Outcome(StrEnum):
    """What a point says about its rate. INVALID: the generator could not keep up, TRIES_MAX times."""

    MET = "met"
    MISSED = "missed"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Point:
    """One rate and what came of it."""

    rate_per_s: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Where to look. The answer is within `tolerance` (a share) of the truth, noise aside."""

    start_per_s: float = 500.0
    least_per_s: float = 10.0
    most_per_s: float = 150_000.0
    tolerance: float = 0.05


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The found rate (None: not even the least one met the target) and every measurement, in the order taken.

    `bounded_by_generator` is set when the rate above could not be judged because the generator was at its end.
    """

    rate_per_s: float | None
    bounded_by_generator: bool
    points: list[Point]
    measured: list[Measured]


def bracket(points: Sequence[Point]) -> tuple[float | None, float | None]:
    """(highest rate met below every failure, lowest rate not met); None where there is none."""
    failed = [point.rate_per_s for point in points if point.outcome is not Outcome.MET]
    high = min(failed, default=None)
    met = [point.rate_per_s for point in points if point.outcome is Outcome.MET]
    return max((rate for rate in met if high is None or rate < high), default=None), high


def next_rate(points: Sequence[Point], plan: SweepPlan) -> float | None:
    """The rate to measure next; None when the answer is known well enough or cannot be had."""
    if len(points) >= POINTS_MAX:
        return None
    low, high = bracket(points)
    if low is None and high is None:
        return plan.start_per_s
    if high is None:
        assert low is not None
        return low * 2 if low * 2 <= plan.most_per_s else None
    if low is None:
        return high / 2 if high / 2 >= plan.least_per_s else None
    return None if high <= low * (1 + plan.tolerance) else (low + high) / 2


def outcome_of(verdict: str) -> Outcome | None:
    """What a verdict says about the server; None when it says nothing and the point should be repeated."""
    return {Verdict.MET: Outcome.MET, Verdict.MISSED: Outcome.MISSED}.get(Verdict(verdict))


def met_although_late(load: LoadResult) -> bool:
    """Whether a run whose generator was late met its target all the same, by the 99th percentile.

    Latency counts from the schedule and late sends come in clumps: a punctual generator would have found it no worse. Not so
    where the generator was at its end, or was late by more than a tenth of the target.
    """
    generator, p99_ms, target_ms = load.generator, load.latency_ms.p99, load.order.target_ms
    if Verdict(load.verdict) is not Verdict.LATE or target_ms is None or p99_ms is None or load.order.percent != 99.0:
        return False
    punctual = generator.cpu_share <= CPU_SHARE_MAX and generator.lateness_p99_ms <= LATENESS_SHARE_MAX * target_ms
    return punctual and p99_ms <= target_ms and load.goodput_share >= GOODPUT_SHARE_MIN


def at_rate(order: LoadOrder, rate_per_s: float, attempt: int) -> LoadOrder:
    """`order` at this rate, long enough for its percentile; each attempt draws another schedule."""
    needed_s = SAMPLES_SPARE * samples_needed(order.percent) / rate_per_s
    return replace(
        order, rate_per_s=rate_per_s, duration_s=max(order.duration_s, needed_s), seed=order.seed + 1000 * attempt
    )


def sweep(order: LoadOrder, plan: SweepPlan, measure: Callable[[LoadOrder], Measured]) -> SweepResult:
    """Measure until the answer is known. `order` must carry a target and a deadline; its rate is replaced."""
    points: list[Point] = []
    taken: list[Measured] = []
    while (rate := next_rate(points, plan)) is not None:
        outcome = None
        for attempt in range(TRIES_MAX):
            taken.append(measure(at_rate(order, rate, attempt)))
            load = taken[-1].load
            outcome = Outcome.MET if met_although_late(load) else outcome_of(load.verdict)
            if outcome is not None:
                break
        points.append(Point(rate, outcome or Outcome.INVALID))
    low, high = bracket(points)
    bounded = any(point.outcome is Outcome.INVALID and point.rate_per_s == high for point in points)
    return SweepResult(low, bounded, points, taken)
