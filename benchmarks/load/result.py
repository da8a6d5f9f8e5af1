"""What one run found. `summarise` is pure: samples and usage in, figures out."""

from dataclasses import dataclass

import numpy as np

from benchmarks.load.latency import Percentiles, curve, histogram, percentile_ms, percentiles
from benchmarks.load.order import Engine, LoadOrder
from benchmarks.load.outcome import Outcome
from benchmarks.load.samples import Samples
from benchmarks.load.statuses import OK, status_name
from benchmarks.load.verdict import Facts, Target, judge

NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class GeneratorFigures:
    """How good the generator was. Shares are of one core; idle spinning is not counted as CPU."""

    cpu_share: float
    cpu_us_per_request: float
    lateness_p99_ms: float
    lateness_max_ms: float
    reconnects: int
    faults: list[str]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Figures over the measured window. Requests belong to the instant they were due; latency is in ms from then.

    `goodput` counts requests that ended OK within the deadline (or OK at all, where none was given), per second and as
    a share of all requests. `begin_ns` and `end_ns` are the window on the system-wide monotonic clock. `engine` is the
    one that ran, `fallback` why it was not the native one where that was wanted.
    """

    order: LoadOrder
    requests: int
    ok: int
    errors: dict[str, int]
    offered_per_s: float
    throughput_per_s: float
    goodput_per_s: float
    goodput_share: float
    latency_ms: Percentiles
    latency_curve: list[tuple[float, float]]
    generator: GeneratorFigures
    verdict: str
    reason: str
    begin_ns: int
    end_ns: int
    engine: Engine
    fallback: str | None


def summarise(order: LoadOrder, outcome: Outcome, *, engine: Engine, fallback: str | None = None) -> LoadResult:
    """The figures of one run."""
    window = outcome.window
    kept = outcome.samples.between(window.begin.at_ns, window.end.at_ns)
    latency, count, seconds = kept.latency_ns, len(kept.status), window.duration_s
    good = within_deadline(kept, order.deadline_ms)
    generator = generator_figures(kept, outcome)
    target = None if order.target_ms is None else Target(order.target_ms, order.percent)
    measured = percentile_ms(histogram(latency), order.percent) if latency.size else None
    facts = Facts(count, measured, good / max(count, 1), generator.lateness_p99_ms, generator.cpu_share)
    judgement = judge(facts, target)
    return LoadResult(
        order=order,
        requests=count,
        ok=int(latency.size),
        errors=errors_by_name(kept),
        offered_per_s=count / seconds,
        throughput_per_s=int(latency.size) / seconds,
        goodput_per_s=good / seconds,
        goodput_share=facts.goodput_share,
        latency_ms=percentiles(latency),
        latency_curve=curve(latency),
        generator=generator,
        verdict=judgement.verdict.value,
        reason=judgement.reason,
        begin_ns=window.begin.at_ns,
        end_ns=window.end.at_ns,
        engine=engine,
        fallback=fallback,
    )


def within_deadline(samples: Samples, deadline_ms: float | None) -> int:
    """How many requests ended OK, and in time where there is a deadline."""
    latency = samples.latency_ns
    return int(latency.size if deadline_ms is None else np.count_nonzero(latency <= deadline_ms * NS_PER_MS))


def errors_by_name(samples: Samples) -> dict[str, int]:
    """Requests that did not end OK, counted by status."""
    statuses, counts = np.unique(samples.status[samples.status != OK], return_counts=True)
    return {status_name(int(status)): int(count) for status, count in zip(statuses, counts, strict=True)}


def generator_figures(samples: Samples, outcome: Outcome) -> GeneratorFigures:
    """CPU and lateness of the generator itself; `samples` are those of the measured part."""
    window = outcome.window
    lateness = samples.lateness_ns / NS_PER_MS
    return GeneratorFigures(
        cpu_share=window.cpu_s / window.duration_s,
        cpu_us_per_request=window.cpu_s * 1e6 / max(len(lateness), 1),
        lateness_p99_ms=float(np.percentile(lateness, 99)) if lateness.size else 0.0,
        lateness_max_ms=float(lateness.max()) if lateness.size else 0.0,
        reconnects=outcome.reconnects,
        faults=sorted(set(outcome.faults))[:10],
    )
