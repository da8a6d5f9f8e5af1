"""Whether a run met its target, and whether the generator was good enough for the run to say anything. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from benchmarks.load.latency import samples_needed

LATENESS_MS_MAX = 1.0
LATENESS_MS_MIN = 0.1
LATENESS_SHARE_MAX = 0.1
CPU_SHARE_MAX = 0.9
GOODPUT_SHARE_MIN = 0.999


class Verdict(StrEnum):
    """MEASURED: nothing was asked. The two INVALID ones say nothing about the server."""

    MET = "met"
    MISSED = "missed"
    MEASURED = "measured"
    LATE = "invalid: generator late"
    FEW = "invalid: too few samples"


EXIT_CODES = {Verdict.MET: 0, Verdict.MEASURED: 0, Verdict.MISSED: 1, Verdict.LATE: 3, Verdict.FEW: 3}


@dataclass(frozen=True, slots=True)
class Target:
    """What a run must show: its `percent` percentile below `latency_ms`, and goodput of GOODPUT_SHARE_MIN."""

    latency_ms: float
    percent: float = 99.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verdict rests on. `latency_ms` is the percentile of the order, None if it is unknown."""

    samples: int
    latency_ms: float | None
    goodput_share: float
    lateness_p99_ms: float
    cpu_share: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    reason: str


def lateness_bound_ms(latency_ms: float | None) -> float:
    """How late the p99 send may be: a tenth of the measured latency, within [LATENESS_MS_MIN, LATENESS_MS_MAX]."""
    if latency_ms is None:
        return LATENESS_MS_MAX
    return min(LATENESS_MS_MAX, max(LATENESS_MS_MIN, LATENESS_SHARE_MAX * latency_ms))


def judge(facts: Facts, target: Target | None) -> Judgement:
    """The verdict. The generator is judged first: a late one proves nothing, good or bad."""
    bound_ms = lateness_bound_ms(facts.latency_ms)
    if facts.lateness_p99_ms > bound_ms:
        return Judgement(Verdict.LATE, f"p99 of send lateness {facts.lateness_p99_ms:.3f} ms, over {bound_ms:.3f} ms")
    if facts.cpu_share > CPU_SHARE_MAX:
        return Judgement(Verdict.LATE, f"generator CPU {facts.cpu_share:.0%} of its core, over {CPU_SHARE_MAX:.0%}")
    needed = samples_needed(target.percent if target else 99.0)
    if facts.samples < needed:
        return Judgement(Verdict.FEW, f"{facts.samples} samples, {needed} needed")
    if target is None:
        return Judgement(Verdict.MEASURED, "no target was given")
    return _judge_server(facts, target)


def _judge_server(facts: Facts, target: Target) -> Judgement:
    if facts.goodput_share < GOODPUT_SHARE_MIN:
        return Judgement(Verdict.MISSED, f"goodput {facts.goodput_share:.4%}, under {GOODPUT_SHARE_MIN:.1%}")
    if facts.latency_ms is None:
        return Judgement(Verdict.MISSED, "too few requests ended well for the percentile")
    said = f"p{target.percent:g} {facts.latency_ms:.3f} ms against {target.latency_ms:g} ms"
    return Judgement(Verdict.MET if facts.latency_ms <= target.latency_ms else Verdict.MISSED, said)
